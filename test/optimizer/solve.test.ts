import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { instance, KINDS } from '../../bench/optimizer-instances.ts'
import { seededRandom } from '../../src/base/index.ts'
import { fillRooms } from '../../src/optimizer/fill-rooms.ts'
import { createSolver, type Plan, type Problem, solve } from '../../src/optimizer/index.ts'
import { crowdedProblem, smallProblem } from './arbitrary.ts'
import { broken, exhaustive } from './exhaustive.ts'
import { relaxed } from './relaxed.ts'

const RUNS = 1500 * Number(process.env.TIMES_AS_MANY_CASES ?? 1)

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

  test('measured numbers with all their digits give the plan that round ones give', () => {
    const third = 1 / 3
    const blocksOf = (blocks: Problem['models'][number]['blocks']) =>
      blocks?.map((block) => ({
        ...block,
        choices: block.choices.map((one) => ({ ...one, latencyMs: one.latencyMs * third })),
      }))
    fc.assert(
      fc.property(smallProblem, (problem) => {
        const round: Problem = { ...problem, objective: 'quality' }
        const measured: Problem = {
          ...round,
          models: problem.models.map((model) => ({
            ...model,
            rate: model.rate && model.rate * 3,
            maxLatencyMs: model.maxLatencyMs === undefined ? undefined : model.maxLatencyMs * third,
            blocks: blocksOf(model.blocks),
            variants: model.variants?.map((variant) => ({ ...variant, blocks: blocksOf(variant.blocks)! })),
          })),
        }
        const [a, b] = [solve(round), solve(measured)]
        expect(b.status).toBe(a.status)
        return a.objective === undefined || near(a.objective, b.objective!)
      }),
      { numRuns: RUNS / 5 },
    )
  })

  test('what an earlier solve left changes no answer', () => {
    const solver = createSolver()
    fc.assert(
      fc.property(smallProblem, fc.array(fc.integer({ min: 0, max: 4000 }), { maxLength: 4 }), (problem, budgets) => {
        for (const memoryBytes of [problem.memoryBytes, ...budgets]) {
          const changed = { ...problem, memoryBytes }
          const [warm, cold] = [solver.solve(changed), solve(changed)]
          expect(warm.status).toBe(cold.status)
          if (cold.objective !== undefined) expect(near(warm.objective!, cold.objective)).toBe(true)
          expect(warm.infeasible).toEqual(cold.infeasible)
        }
      }),
      { numRuns: RUNS / 5 },
    )
  })

  test('asked for, the plan that breaks the named limits by the least, and is best among those', () => {
    fc.assert(
      fc.property(smallProblem, (problem) => {
        const plan = solve(problem, { nearest: true })
        if (!plan.infeasible || plan.infeasible.proven === false) return
        const eased = relaxed(problem, plan.infeasible)
        expect(plan.models.length).toBe(problem.models.length)
        expect(broken(eased, plan)).toEqual([])
        expect(near(plan.objective!, exhaustive(eased)!)).toBe(true)
      }),
      { numRuns: RUNS / 3 },
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

test('models that share cores, copies of each other among them: as good as the best of all placements', () => {
  let placed = 0
  fc.assert(
    fc.property(crowdedProblem, (problem) => {
      const best = exhaustive(problem)
      const plan = solve(problem)
      if (best === undefined) return plan.status === 'infeasible'
      placed++
      expect(plan.status).toBe('optimal')
      expect(broken(problem, plan)).toEqual([])
      expect(plan.bound!).toBeLessThanOrEqual(best + 1e-9 * Math.max(1, Math.abs(best)))
      expect(plan.objective!).toBeLessThanOrEqual(best + plan.gap! * Math.abs(plan.objective!) + 1e-9)
    }),
    { numRuns: RUNS / 3 },
  )
  expect(placed).toBeGreaterThan(50)
})

test.each(['random', 'identical'] as const)('a dozen %s models have a proven placement', (kind) => {
  const problem: Problem = { ...instance({ models: 12, blocks: 8, choices: 8 }, kind, 2), timeLimitMs: 60_000 }
  const plan = solve(problem)
  expect(plan.status).toBe('optimal')
  expect(broken(problem, plan)).toEqual([])
})

test('the cores that are named do, also where a whole step of load lies above what they are computed to be', () => {
  const model = (id: string, rate: number, latencyMs: number) => ({
    id,
    quality: 0.5,
    rate,
    blocks: [{ id: 'b0', choices: [{ id: 'c0', loss: 0, latencyMs, memoryBytes: 0 }] }],
  })
  const problem: Problem = { models: [model('m0', 60, 17.739), model('m1', 10, 0.001)], cores: 0.5, utilisation: 0.7 }
  const plan = solve(problem, { nearest: true })
  expect(plan.models).toHaveLength(2)
  expect(broken(relaxed(problem, plan.infeasible!), plan)).toEqual([])
})

test('one model that needs two shared cores, one that needs a third of one, and no memory: both limits are named', () => {
  const model = (id: string, rate: number, latencyMs: number, memoryBytes: number) => ({
    id,
    quality: 0.5,
    rate,
    blocks: [{ id: 'b0', choices: [{ id: 'c0', loss: 0, latencyMs, memoryBytes }] }],
  })
  const problem: Problem = {
    models: [model('m0', 60, 8.334, 0), model('m1', 29.97, 2.503, 1)],
    memoryBytes: 0,
    cores: 0.3,
    utilisation: 0.25,
    placement: 'shared',
  }
  const { infeasible } = solve(problem)
  expect(exhaustive(relaxed(problem, infeasible!))).toBeDefined()
  expect([infeasible!, ...infeasible!.also!].map(({ constraint, has }) => [constraint, has]).sort()).toEqual([
    ['cores', 0.3],
    ['memory', 0],
  ])
})

test('a rate that is named does, though it is a millionth below one that does not', () => {
  const choice = (latencyMs: number) => ({ id: 'c0', loss: 0, latencyMs, memoryBytes: 0 })
  const models = [{ id: 'm0', quality: 0.5, rate: 60, blocks: [{ id: 'b0', choices: [choice(7.014)] }] }]
  const problem: Problem = { models, cores: 1, utilisation: 0.25, placement: 'pinned' }
  const plan = solve(problem, { nearest: true })
  expect(plan.infeasible).toMatchObject({ constraint: 'cores', model: 'm0', maxRate: 35.642999 })
  expect(plan.models).toHaveLength(1)
})

test('models on cores of their own, some without a rate: proven also where cores as one would cost nothing', () => {
  const model = (id: string, rate: number, choices: readonly [memoryBytes: number, latencyMs: number][]) => ({
    id,
    quality: 0.5,
    rate,
    blocks: [
      {
        id: 'b0',
        choices: choices.map(([memoryBytes, latencyMs], c) => ({ id: `c${c}`, loss: 0, latencyMs, memoryBytes })),
      },
    ],
  })
  const idle = ['m0', 'm1', 'm2'].map((id) => model(id, 10, [[0, 0]]))
  const busy = ['m3', 'm4', 'm5'].map((id) =>
    model(id, 60, [
      [1, 0],
      [0, 2.084],
    ]),
  )
  const problem: Problem = {
    models: [...idle, ...busy, model('m6', 0, [[0, 0]])],
    cores: 2.5,
    utilisation: 0.25,
    objective: 'memory',
  }
  expect(solve(problem)).toMatchObject({ status: 'optimal', objective: 1, gap: 0 })
})

test('fifty copies of one model are placed, six or seven on a core, as well as can be', () => {
  const problem: Problem = { ...instance({ models: 50, blocks: 8, choices: 8 }, 'identical', 1), timeLimitMs: 60_000 }
  const plan = solve(problem)
  expect(plan.status).toBe('optimal')
  expect(broken(problem, plan)).toEqual([])
  const onCore = Array.from({ length: 8 }, (_, core) => plan.models.filter((model) => model.core === core).length)
  expect(onCore.sort()).toEqual([6, 6, 6, 6, 6, 6, 7, 7])
})

test('fifty copies that fit a core in few ways only: a plan is found, near the bound', () => {
  const problem: Problem = { ...instance({ models: 50, blocks: 16, choices: 16 }, 'identical', 3), timeLimitMs: 60_000 }
  const plan = solve(problem)
  expect(plan.status).not.toBe('infeasible')
  expect(broken(problem, plan)).toEqual([])
  expect(plan.gap).toBeLessThan(0.002)
})

test('fifty loads fill eight cores of which only a ten-thousandth of one is left', () => {
  const random = seededRandom(4)
  for (let round = 0; round < 10; round++) {
    const loads = Array.from({ length: 50 }, () => Math.round(1e9 * (0.6 + random())))
    const total = loads.reduce((sum, load) => sum + load, 0)
    const room = new Array<number>(8).fill(Math.ceil((total / 8) * (1 + 1e-4 / 8)))
    const left = [...room]
    fillRooms(loads, room)!.forEach((core, m) => {
      left[core]! -= loads[m]!
    })
    expect(Math.min(...left)).toBeGreaterThanOrEqual(0)
  }
})

describe('larger problems', () => {
  const size = { models: 4, blocks: 8, choices: 8 }

  test.each(KINDS)('%s: no limit is broken, and more of any budget never gives a worse plan', (kind) => {
    const problem = instance(size, kind, 3)
    const more: readonly Partial<Problem>[] = [
      { memoryBytes: Math.floor(problem.memoryBytes! * 1.03) },
      { cores: problem.cores! + 0.4 },
      { models: problem.models.map((model) => ({ ...model, maxLatencyMs: model.maxLatencyMs! * 1.05 })) },
      { placement: 'shared' },
    ]
    const before = solve(problem)
    if (before.status === 'infeasible') return expect(before.infeasible!.needs).toBeGreaterThan(before.infeasible!.has)
    expect(broken(problem, before)).toEqual([])
    for (const change of more) {
      const after = solve({ ...problem, ...change })
      expect(broken({ ...problem, ...change }, after)).toEqual([])
      expect(after.bound!).toBeLessThanOrEqual(before.objective! + 1e-9)
      expect(after.objective!).toBeLessThanOrEqual(before.objective! * (1 + after.gap!) + 1e-9)
    }
  })

  test('out of time, the answer is a plan that keeps the limits, with an honest bound', () => {
    const problem = instance({ models: 30, blocks: 16, choices: 16 }, 'correlated', 1)
    const [hurried, whole] = [solve({ ...problem, timeLimitMs: 1 }), solve(problem)]
    expect(broken(problem, hurried)).toEqual([])
    expect(hurried.bound!).toBeLessThanOrEqual(whole.objective! + 1e-9)
    expect(hurried.objective!).toBeGreaterThanOrEqual(whole.bound! - 1e-9)
    expect(hurried.status === 'optimal').toBe(hurried.gap! <= 1e-4)
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
