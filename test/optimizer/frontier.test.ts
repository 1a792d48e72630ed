import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type FrontierAxis, frontier, type Problem } from '../../src/optimizer/index.ts'
import { smallProblem } from './arbitrary.ts'
import { exhaustiveFrontier } from './exhaustive.ts'

const costOf = ({ totals, models }: ReturnType<typeof frontier>['points'][number], axis: FrontierAxis): number =>
  ({
    memory: totals.memoryBytes,
    cpu: totals.cores,
    latency: models.reduce((sum, { predicted }) => sum + predicted.latencyMs, 0),
  })[axis]

test('the frontier is every plan that no other beats in both loss and cost', () => {
  const axes = fc.constantFrom<FrontierAxis[]>('latency', 'memory', 'cpu')
  fc.assert(
    fc.property(smallProblem, axes, (problem, axis) => {
      const { points, tolerance } = frontier(problem, axis)
      expect(tolerance).toBe(0)
      const all = exhaustiveFrontier(problem, axis)
      expect(points.length).toBe(all.length)
      points.forEach((point, i) => {
        expect(point.objective).toBeCloseTo(all[i]![0], 9)
        expect(costOf(point, axis)).toBeCloseTo(all[i]![1], 9)
      })
    }),
    { numRuns: 300 },
  )
})

test('a curve of too many plans is thinned within the tolerance that it states', () => {
  // Powers of two: all 2^16 combinations of the blocks of a model differ, and none beats another; two models make 2^32.
  const blocks = Array.from({ length: 16 }, (_, b) => ({
    id: `b${b}`,
    choices: [
      { id: 'a', loss: 0, latencyMs: 1, memoryBytes: 2 ** (b + 1) },
      { id: 'b', loss: 2 ** b / 2 ** 16, latencyMs: 1, memoryBytes: 2 ** b },
    ],
  }))
  const problem: Problem = {
    models: [
      { id: 'm', quality: 1, blocks },
      { id: 'n', quality: 1, blocks },
    ],
  }
  const { points, tolerance } = frontier(problem, 'memory')
  expect(tolerance).toBeGreaterThan(0)
  expect(tolerance).toBeLessThan(0.05)
  // Here loss + memory is the same for all plans, so the true curve is a straight line.
  const total = 4 * (2 ** 16 - 1)
  for (const [i, { totals }] of points.entries()) {
    const next = points[i + 1]?.totals.memoryBytes ?? total
    const least = (total - next + 1) / 2 ** 16
    expect(points[i]!.objective - least).toBeLessThanOrEqual(tolerance + 1e-9)
    expect(points[i]!.objective).toBeCloseTo((total - totals.memoryBytes) / 2 ** 16, 9)
  }
})
