import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { seededRandom } from '../../src/base/index.ts'
import type { Tensors } from '../../src/blocks/block.ts'
import { quantise } from '../../src/blocks/descendants/int8.ts'
import { symmetricEigen } from '../../src/blocks/eigen.ts'
import { equalise } from '../../src/blocks/equalise.ts'
import { compensationFor, type IntegerWeights, integerSums, integerWeights } from '../../src/blocks/integer-weights.ts'
import { type LinearAlgebra, openLinearAlgebra } from '../../src/blocks/linear.ts'
import { insertPairs } from '../../src/blocks/qdq.ts'
import { searchRanges } from '../../src/blocks/range-search.ts'
import { observe } from '../../src/blocks/ranges.ts'
import { outputError, verify } from '../../src/blocks/verify.ts'
import { openSession } from '../../src/engine/index.ts'
import { ints, readModel, writeModel } from '../../src/onnx/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { Builder, inverted, residual } from './tiny-blocks.ts'

let algebra: LinearAlgebra
beforeAll(async () => {
  algebra = await openLinearAlgebra()
})
afterAll(() => algebra.close())

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

/** Second moments of inputs that mostly rise and fall together. */
function gramOf(n: number, random: () => number): Float64Array {
  const common = Float64Array.from({ length: n }, () => random())
  const gram = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) gram[i * n + j] = common[i]! * common[j]! + (i === j ? 0.1 * (0.1 + random()) : 0)
  }
  return gram
}

/** What rounding changes in the outputs: Σ eᵀ·gram·e over the rows. */
function errorOf(
  weights: { dims: readonly number[]; data: Float32Array },
  rounded: IntegerWeights,
  gram: Float64Array,
) {
  const n = weights.data.length / weights.dims[0]!
  let sum = 0
  for (let o = 0; o < weights.dims[0]!; o++) {
    const e = Float64Array.from({ length: n }, (_, i) => {
      const at = o * n + i
      return weights.data[at]! - rounded.scales[o]! * rounded.stored.data[at]!
    })
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) sum += e[i]! * gram[i * n + j]! * e[j]!
  }
  return sum
}

test.each(['exact', 'pairs'] as const)('rounded together (%s), errors make up for one another', (sums) => {
  const random = seededRandom(11)
  const weights = floats(
    [24, 64, 1, 1],
    Float32Array.from({ length: 24 * 64 }, () => random() - 0.5),
  )
  const gram = gramOf(64, random)
  const each = integerWeights(weights, { axis: 0, sums })
  const together = integerWeights(weights, { axis: 0, sums, compensation: compensationFor(gram, 64) })
  expect(errorOf(weights, together, gram)).toBeLessThan(0.5 * errorOf(weights, each, gram))
})

test.each([false, true])(
  'where neighbouring products are added in 16 bits, no two can overflow (together: %s)',
  (together) => {
    fc.assert(
      fc.property(layer, (weights) => {
        const n = weights.data.length / weights.dims[0]!
        const compensation = together ? compensationFor(gramOf(n, seededRandom(n)), n) : undefined
        const { stored } = integerWeights(weights, { axis: 0, sums: 'pairs', compensation })
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
  },
)

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

test('what a float layer gives is pooled in float, and what is rounded behind the pool is the same', async () => {
  const b = new Builder(21)
  b.conv('x', 'stem', 16, 3, 3)
  b.op('Relu', ['stem'], 'r')
  b.op('MaxPool', ['r'], 'pool', { kernel_shape: ints([2, 2]), strides: ints([2, 2]) })
  b.conv('pool', 'y', 16, 16, 3)
  const { block, samples } = await b.block([1, 3, 16, 16], 'y', 32)
  const made = (await quantise(block, { model: block.model, parameters: {} }, samples, algebra, {
    borders: new Map(),
    keepFloat: new Set(['stem']),
    finalOutputs: new Set(),
    sums: 'exact',
  }))!
  const folder = await mkdtemp(join(tmpdir(), 'blockscale-pool-'))
  try {
    const path = join(folder, 'optimised.onnx')
    const session = await openSession(writeModel(made.model), { saveOptimizedTo: path })
    await session.release()
    const { graph } = readModel(await readFile(path))
    const pool = graph.nodes.find(({ op }) => op === 'MaxPool')!
    const makerOf = (value: string) => graph.nodes.find(({ outputs }) => outputs.includes(value))
    expect(makerOf(pool.inputs[0]!)?.op).toBe('Conv')
    expect(graph.nodes.some(({ op }) => op === 'QLinearConv')).toBe(true)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  // without the limits that keep them apart
  const clip = made.model.graph.nodes.find(({ op }) => op === 'Clip')!
  const nodes = made.model.graph.nodes
    .filter((each) => each !== clip)
    .map((each) => ({
      ...each,
      inputs: each.inputs.map((name) => (name === clip.outputs[0] ? clip.inputs[0]! : name)),
    }))
  const plain = { ...made.model, graph: { ...made.model.graph, nodes } }
  expect(await outputError(made.model, plain, samples)).toBeLessThan(1e-12)
})

test('what ranges clip of one picture in ten is not made up for at the other nine', async () => {
  const { block, samples } = await residual()
  const loud = samples.map((sample, i) => (i % 10 === 3 ? louder(sample, 10) : sample))
  const ordinary = loud.filter((_, i) => i % 10 !== 3)
  const x = (await observe(block.model, ordinary, ['x'])).get('x')!.range(1)
  const options = { borders: new Map([['x', x]]), finalOutputs: new Set<string>(), sums: 'exact' } as const
  const made = (await quantise(block, { model: block.model, parameters: {} }, loud, algebra, options))!
  expect(await outputError(block.model, made.model, ordinary)).toBeLessThan(0.004)
})

const louder = (sample: Tensors, factor: number): Tensors =>
  Object.fromEntries(
    Object.entries(sample).map(([name, { dims, data }]) => [
      name,
      floats(
        dims,
        Float32Array.from(data as Float32Array, (x) => factor * x),
      ),
    ]),
  )

test('ranges clip what is rare and of no use, and nothing that the answer hangs on', async () => {
  const { block, samples } = await residual()
  const observed = await observe(block.model, samples, ['x', 'r1'])
  const sharedWith = new Map([
    ['x', 'x'],
    ['r1', 'r1'],
  ])
  const found = await searchRanges(block.model, samples, { sharedWith, observed, fixed: new Map() })
  expect([...found.keys()]).toEqual(['x', 'r1'])
  const errorAt = async (share: number) => {
    const ranges = new Map([['r1', observed.get('r1')!.range(share)]])
    const rounded = insertPairs(block.model, { chosen: new Set(), ranges, corrections: new Map(), sums: 'exact' })
    return outputError(block.model, rounded, samples)
  }
  expect(await errorAt(found.get('r1')!)).toBeLessThan(1.05 * (await errorAt(1)))
  expect(await errorAt(0.1)).toBeGreaterThan(10 * (await errorAt(found.get('r1')!)))
  // What is known of a relative is taken over without a search.
  const known = new Map([
    ['x', 0.75],
    ['r1', 0.32],
  ])
  expect(await searchRanges(block.model, samples, { sharedWith, observed, fixed: new Map(), known })).toEqual(known)
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
