import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Plan, type Problem, parseProblem, solve, startSolver } from '../../src/optimizer/index.ts'
import { smallProblem } from './arbitrary.ts'
import { broken, exhaustive } from './exhaustive.ts'
import { relaxed } from './relaxed.ts'

const RUNS = 1500

const near = (a: number, b: number) => Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(b))

describe('small problems with every kind of limit, variants, swaps, rates, ties', () => {
  test('the plan is as good as the best of all plans, breaks no limit, and is called optimal', () => {
    fc.assert(
      fc.property(smallProblem, (problem) => {
        const best = exhaustive(problem)
        const plan = solve(problem)
        if (best === undefined) return plan.status === 'infeasible' && plan.infeasible !== undefined
        expect(plan.status).toBe('optimal')
        expect(broken(problem, plan)).toEqual([])
        return near(plan.objective!, best)
      }),
      { numRuns: RUNS },
    )
  })

  test('more memory never gives a worse plan', () => {
    fc.assert(
      fc.property(smallProblem, fc.integer({ min: 0, max: 2000 }), (problem, more) => {
        if (problem.memoryBytes === undefined) return true
        const before = solve(problem)
        const after = solve({ ...problem, memoryBytes: problem.memoryBytes + more })
        if (before.status === 'infeasible') return true
        return after.status === 'optimal' && after.objective! <= before.objective! + 1e-9
      }),
      { numRuns: RUNS / 5 },
    )
  })

  test('the order of models, blocks and choices changes nothing', () => {
    const chosen = (plan: Plan) =>
      plan.models
        .map(({ model, variant, choices }) =>
          [model, variant, ...choices.map((c) => `${c.block}=${c.descendant}`).sort()].join(),
        )
        .sort()
    fc.assert(
      fc.property(smallProblem, (problem) => {
        const turned: Problem = {
          ...problem,
          models: [...problem.models].reverse().map((model) => ({
            ...model,
            blocks:
              model.blocks && [...model.blocks].reverse().map((b) => ({ ...b, choices: [...b.choices].reverse() })),
          })),
        }
        expect(chosen(solve(turned))).toEqual(chosen(solve(problem)))
      }),
      { numRuns: RUNS / 5 },
    )
  })

  test('where nothing fits, the limit that is named would do at the value that is named, and just below it would not', () => {
    let tried = 0
    fc.assert(
      fc.property(smallProblem, (problem) => {
        const { infeasible } = solve(problem)
        if (!infeasible) return
        tried++
        expect(exhaustive(relaxed(problem, infeasible))).toBeDefined()
        const below = relaxed(problem, infeasible, 1)
        const negative = [below.memoryBytes, below.cores, ...below.models.map(({ maxLatencyMs }) => maxLatencyMs)]
        if (infeasible.also || negative.some((limit) => (limit ?? 0) < 0)) return
        expect(exhaustive(below)).toBeUndefined()
      }),
      { numRuns: RUNS },
    )
    expect(tried).toBeGreaterThan(0)
  })
})

const problem = (change: object = {}): unknown => ({
  memoryBytes: 1000,
  models: [
    { id: 'm', quality: 0.9, blocks: [{ id: 'b', choices: [{ id: 'd', loss: 0, latencyMs: 1, memoryBytes: 10 }] }] },
  ],
  ...change,
})

describe('problems from outside', () => {
  test('a good one is taken', () => expect(solve(parseProblem(problem())).status).toBe('optimal'))

  const choice = { id: 'd', loss: 0, latencyMs: 1, memoryBytes: 10 }
  const model = (blocks: unknown) => ({ models: [{ id: 'm', quality: 0.9, blocks }] })
  test.each([
    ['no object', 7, /./],
    ['no models', problem({ models: [] }), /models/],
    ['a negative budget', problem({ memoryBytes: -1 }), /memoryBytes/],
    ['a budget that is no number', problem({ memoryBytes: Number.NaN }), /memoryBytes/],
    [
      'an infinite latency',
      problem(model([{ id: 'b', choices: [{ ...choice, latencyMs: Number.POSITIVE_INFINITY }] }])),
      /latencyMs/,
    ],
    ['a block without choices', problem(model([{ id: 'b', choices: [] }])), /choices/],
    ['two choices of one name', problem(model([{ id: 'b', choices: [choice, choice] }])), /d/],
    ['a current choice that is unknown', problem(model([{ id: 'b', current: 'x', choices: [choice] }])), /current|x/],
    ['a negative memory', problem(model([{ id: 'b', choices: [{ ...choice, memoryBytes: -5 }] }])), /memoryBytes/],
    ['an unknown objective', problem({ objective: 'beauty' }), /objective/],
  ])('%s is refused with its place', (_name, json, place) => {
    expect(() => parseProblem(json)).toThrow(place)
    try {
      parseProblem(json)
    } catch (error) {
      expect(error).toMatchObject({ code: 'PROBLEM_INVALID' })
    }
  })
})

test('one byte less than the best plan needs is not enough, although a solver of reals would let it pass', () => {
  const big = (memoryBytes: number): Problem => ({
    memoryBytes,
    models: [
      {
        id: 'm',
        quality: 1,
        blocks: [
          {
            id: 'b',
            choices: [
              { id: 'good', loss: 0, latencyMs: 1, memoryBytes: 46_743_825 },
              { id: 'small', loss: 0.2, latencyMs: 1, memoryBytes: 1_000 },
            ],
          },
        ],
      },
    ],
  })
  expect(solve(big(46_743_825)).models[0]?.choices[0]?.descendant).toBe('good')
  expect(solve(big(46_743_824)).models[0]?.choices[0]?.descendant).toBe('small')
})

test('the solver in a thread answers as the one here', async () => {
  const solver = startSolver()
  const given = parseProblem(problem())
  const [there, here] = [await solver.solve(given), solve(given)]
  await solver.close()
  expect({ ...there, solveMs: 0 }).toEqual({ ...here, solveMs: 0 })
})
