import fc from 'fast-check'
import { expect, test } from 'vitest'
import { symmetricEigen } from '../../src/blocks/eigen.ts'
import { equalise } from '../../src/blocks/equalise.ts'
import { integerSums, integerWeights } from '../../src/blocks/integer-weights.ts'
import { verify } from '../../src/blocks/verify.ts'
import { floats } from '../../src/tensor/index.ts'
import { inverted } from './tiny-blocks.ts'

const shape = fc.record({
  outputs: fc.integer({ min: 1, max: 4 }),
  inputs: fc.integer({ min: 1, max: 9 }),
  area: fc.constantFrom(1, 4, 9),
})
const layer = shape.chain(({ outputs, inputs, area }) =>
  fc
    .array(fc.float({ min: -4, max: 4, noNaN: true }), {
      minLength: outputs * inputs * area,
      maxLength: outputs * inputs * area,
    })
    .map((values) => floats([outputs, inputs, Math.sqrt(area), Math.sqrt(area)], Float32Array.from(values))),
)

test('where neighbouring products are added in 16 bits, no two of them can overflow', () => {
  fc.assert(
    fc.property(layer, (weights) => {
      const { stored } = integerWeights(weights, { axis: 0, sums: 'pairs' })
      const [outputs = 0, inputs = 0, height = 0, width = 0] = weights.dims
      if (inputs === 1) return
      const area = height * width
      for (let o = 0; o < outputs; o++) {
        // As the kernel reads them: position by position, channels innermost.
        const row = Array.from({ length: inputs * area }, (_, i) => {
          const [k, c] = [Math.floor(i / inputs), i % inputs]
          return stored.data[(o * inputs + c) * area + k]!
        })
        for (let i = 0; i + 1 < row.length; i += 2) {
          expect(255 * Math.max(0, row[i]!, row[i + 1]!, row[i]! + row[i + 1]!)).toBeLessThanOrEqual(32767)
          expect(255 * Math.min(0, row[i]!, row[i + 1]!, row[i]! + row[i + 1]!)).toBeGreaterThanOrEqual(-32768)
        }
      }
    }),
  )
})

test('with exact sums every weight is within half a step', () => {
  fc.assert(
    fc.property(layer, (weights) => {
      const { stored, scales } = integerWeights(weights, { axis: 0, sums: 'exact' })
      const each = weights.data.length / weights.dims[0]!
      weights.data.forEach((value, i) => {
        const scale = scales[Math.floor(i / each)]!
        expect(Math.abs(value - scale * stored.data[i]!)).toBeLessThanOrEqual(scale * 0.5001)
      })
    }),
  )
})

test('only x86 without 8-bit dot products adds in pairs', () => {
  expect(integerSums('avx avx2 fma', 'x64')).toBe('pairs')
  expect(integerSums('avx2 avx512f avx512_vnni', 'x64')).toBe('exact')
  expect(integerSums('avx2 avx_vnni', 'x64')).toBe('exact')
  expect(integerSums('asimd', 'arm64')).toBe('exact')
})

test('equalised channels compute the same, and fill their range', async () => {
  const { block, samples } = await inverted()
  const equal = await equalise(block.model, samples)
  expect(equal).not.toBe(block.model)
  const { outputError, fault } = await verify(block, equal, samples, false)
  expect(fault).toBeUndefined()
  expect(outputError).toBeLessThan(1e-8)
})

test('the eigenvectors of a symmetric matrix are only stretched by it', () => {
  fc.assert(
    fc.property(
      fc
        .integer({ min: 1, max: 12 })
        .chain((n) =>
          fc.tuple(
            fc.constant(n),
            fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: n * n, maxLength: n * n }),
          ),
        ),
      ([n, half]) => {
        const a = Array.from({ length: n * n }, (_, k) => {
          const [i, j] = [Math.floor(k / n), k % n]
          return half[i * n + j]! + half[j * n + i]!
        })
        const { values, vectors } = symmetricEigen(a, n)
        for (let r = 0; r < n; r++) {
          if (r > 0) expect(values[r - 1]!).toBeGreaterThanOrEqual(values[r]!)
          for (let i = 0; i < n; i++) {
            let sum = 0
            for (let j = 0; j < n; j++) sum += a[i * n + j]! * vectors[r * n + j]!
            expect(sum).toBeCloseTo(values[r]! * vectors[r * n + i]!, 8)
          }
        }
      },
    ),
  )
})
