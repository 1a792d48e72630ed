import fc from 'fast-check'
import { expect, test } from 'vitest'
import { invertSymmetric, openLinearAlgebra, solveSymmetric } from '../../src/blocks/linear.ts'
import { chooseWidths } from '../../src/blocks/widths.ts'

const matrix = (n: number, m: number) =>
  fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: n * m, maxLength: n * m })

test('a solved system gives back its right side, and so does the inverse', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 7 }).chain((n) => fc.tuple(fc.constant(n), matrix(n, n), matrix(n, 2))),
      ([n, half, b]) => {
        // A = H·Hᵀ + 1 is symmetric and positive definite.
        const a = Array.from({ length: n * n }, (_, k) => {
          const [i, j] = [Math.floor(k / n), k % n]
          let sum = i === j ? 1 : 0
          for (let t = 0; t < n; t++) sum += half[i * n + t]! * half[j * n + t]!
          return sum
        })
        const x = solveSymmetric(a, b, n)!
        for (let i = 0; i < n; i++)
          for (let k = 0; k < 2; k++) {
            let sum = 0
            for (let j = 0; j < n; j++) sum += a[i * n + j]! * x[j * 2 + k]!
            expect(sum).toBeCloseTo(b[i * 2 + k]!, 5)
          }
        const inverse = invertSymmetric(a, n)!
        for (let i = 0; i < n; i++)
          for (let k = 0; k < 2; k++) {
            let sum = 0
            for (let j = 0; j < n; j++) sum += inverse[i * n + j]! * b[j * 2 + k]!
            expect(sum).toBeCloseTo(x[i * 2 + k]!, 5)
          }
      },
    ),
  )
})

test('a matrix that is not positive definite has no answer', () => {
  expect(solveSymmetric([0, 0, 0, 0], [1, 1], 2)).toBeUndefined()
})

test('ONNX Runtime multiplies as we would', async () => {
  const algebra = await openLinearAlgebra()
  const product = await algebra.transposedProduct(Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7, 8), 2)
  expect([...product]).toEqual([26, 30, 38, 44])
  await algebra.close()
})

test('widths stay on the grid, never grow, and keep to the share that is asked for where the grid allows', () => {
  const group = fc.record({
    size: fc.constantFrom(16, 24, 32, 64, 96, 144, 576),
    macsPerChannel: fc.integer({ min: 1, max: 1000 }),
  })
  fc.assert(
    fc.property(
      fc.array(group, { minLength: 1, maxLength: 6 }),
      fc.double({ min: 0.2, max: 0.9, noNaN: true }),
      (groups, keep) => {
        const costs = groups.map(({ size, macsPerChannel }) => ({
          size,
          macsPerChannel,
          ranking: {
            order: [...Array(size).keys()],
            loss: Array.from({ length: size + 1 }, (_, n) => (n / size) ** 2),
          },
        }))
        const widths = chooseWidths(costs, keep)
        const total = groups.reduce((sum, { size, macsPerChannel }) => sum + size * macsPerChannel, 0)
        const least = groups.reduce(
          (sum, { size, macsPerChannel }) => sum + Math.min(size, size <= 32 ? 8 : 16) * macsPerChannel,
          0,
        )
        const kept = widths.reduce((sum, width, i) => sum + width * groups[i]!.macsPerChannel, 0)
        expect(kept).toBeLessThanOrEqual(Math.max(keep * total, least) + 1e-6)
        widths.forEach((width, i) => {
          const { size } = groups[i]!
          expect(width === size || width % (size <= 32 ? 8 : 16) === 0).toBe(true)
          expect(width).toBeLessThanOrEqual(size)
          expect(width).toBeGreaterThan(0)
        })
      },
    ),
  )
})
