import fc from 'fast-check'
import { expect, test } from 'vitest'
import { binaryProgramme, openHighs, plainHighs } from '../../bench/optimizer-rivals.ts'
import { solve } from '../../src/optimizer/index.ts'
import { mediumProblem } from './arbitrary.ts'
import { broken } from './exhaustive.ts'

test('wherever HiGHS proves an optimum, or that there is none, the plan says the same', async () => {
  const highs = await openHighs()
  let proven = 0
  fc.assert(
    fc.property(mediumProblem, (problem) => {
      const rival = plainHighs(highs, binaryProgramme(problem), 3)
      if (!rival.proven) return
      proven++
      const plan = solve(problem)
      expect(plan.status === 'infeasible').toBe(rival.objective === undefined)
      if (rival.objective === undefined) return
      expect(plan.status).toBe('optimal')
      expect(broken(problem, plan)).toEqual([])
      const rounding = 1e-6 * Math.max(1, Math.abs(rival.objective))
      expect(plan.bound!).toBeLessThanOrEqual(rival.objective + rounding)
      expect(plan.objective!).toBeLessThanOrEqual(
        rival.objective * (1 + Math.sign(rival.objective) * plan.gap!) + rounding,
      )
    }),
    { numRuns: 50 },
  )
  expect(proven).toBeGreaterThan(20)
})
