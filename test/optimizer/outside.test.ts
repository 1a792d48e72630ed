import { describe, expect, test } from 'vitest'
import { instance } from '../../bench/optimizer-instances.ts'
import { frontier, MAX_CHOICES, type Problem, parseProblem, solve, startSolver } from '../../src/optimizer/index.ts'

const choice = { id: 'd', loss: 0, latencyMs: 1, memoryBytes: 10 }
const block = { id: 'b', choices: [choice] }
const model = { id: 'm', quality: 0.9, blocks: [block] }
const problem = (change: object = {}): unknown => ({ memoryBytes: 1000, models: [model], ...change })
const withModel = (change: object) => problem({ models: [{ ...model, ...change }] })
const withBlock = (change: object) => withModel({ blocks: [{ ...block, ...change }] })
const withChoice = (change: object) => withBlock({ choices: [{ ...choice, ...change }] })

describe('problems from outside', () => {
  test('a good one is taken', () => expect(solve(parseProblem(problem())).status).toBe('optimal'))

  test.each<[string, unknown, RegExp]>([
    ['no object', 7, /^problem: must be an object/],
    ['nothing', null, /^problem/],
    ['no models', problem({ models: [] }), /^models: must not be empty/],
    ['models that are no list', problem({ models: {} }), /^models: must be a list/],
    ['a negative budget', problem({ memoryBytes: -1 }), /^memoryBytes/],
    [
      'a budget that is no number',
      problem({ memoryBytes: Number.NaN }),
      /^memoryBytes: must be a finite number, not NaN/,
    ],
    ['a budget in words', problem({ memoryBytes: '64MB' }), /^memoryBytes: must be a finite number, not "64MB"/],
    ['more cores than there can be', problem({ cores: 1e6 }), /^cores/],
    ['no share of the cores', problem({ cores: 1, utilisation: 0 }), /^utilisation/],
    ['more than all of the cores', problem({ cores: 1, utilisation: 1.1 }), /^utilisation/],
    ['no time', problem({ timeLimitMs: 0 }), /^timeLimitMs/],
    ['an unknown objective', problem({ objective: 'beauty' }), /^objective: must be one of quality/],
    ['an unknown placement', problem({ placement: 'anywhere' }), /^placement/],
    ['an infinite cost of swapping', problem({ swapWeight: Number.POSITIVE_INFINITY }), /^swapWeight/],
    ['a negative cost of loading', problem({ swapWeightPerMB: -1 }), /^swapWeightPerMB/],
    ['two models of one name', problem({ models: [model, model] }), /^models\[1\]\.id: "m" is already/],
    ['a model without a name', withModel({ id: '' }), /^models\[0\]\.id/],
    ['a quality that is no number', withModel({ quality: Number.NaN }), /^models\[0\]\.quality/],
    ['a negative rate', withModel({ rate: -1 }), /^models\[0\]\.rate/],
    ['a negative weight', withModel({ weight: -1 }), /^models\[0\]\.weight/],
    ['an infinite limit', withModel({ maxLatencyMs: Number.POSITIVE_INFINITY }), /^models\[0\]\.maxLatencyMs/],
    ['neither blocks nor variants', withModel({ blocks: undefined }), /^models\[0\]: needs either/],
    ['blocks and variants', withModel({ variants: [{ id: 'v', blocks: [block] }] }), /^models\[0\]: needs either/],
    ['no blocks', withModel({ blocks: [] }), /^models\[0\]\.blocks: must not be empty/],
    [
      'two variants of one name',
      withModel({ blocks: undefined, variants: [1, 2].map(() => ({ id: 'v', blocks: [block] })) }),
      /^models\[0\]\.variants\[1\]\.id/,
    ],
    ['two blocks of one name', withModel({ blocks: [block, block] }), /^models\[0\]\.blocks\[1\]\.id/],
    ['a block without choices', withBlock({ choices: [] }), /^models\[0\]\.blocks\[0\]\.choices: must not be empty/],
    ['two choices of one name', withBlock({ choices: [choice, choice] }), /choices\[1\]\.id: "d" is already/],
    ['a current choice that is unknown', withBlock({ current: 'x' }), /current: "x" is not the id of a choice/],
    ['an infinite latency', withChoice({ latencyMs: Number.POSITIVE_INFINITY }), /choices\[0\]\.latencyMs/],
    ['a negative latency', withChoice({ latencyMs: -1 }), /choices\[0\]\.latencyMs/],
    ['a loss that is no number', withChoice({ loss: Number.NaN }), /choices\[0\]\.loss/],
    ['a missing loss', withChoice({ loss: undefined }), /choices\[0\]\.loss: must be a finite number, not nothing/],
    ['a negative memory', withChoice({ memoryBytes: -5 }), /choices\[0\]\.memoryBytes/],
    ['a memory beyond any machine', withChoice({ memoryBytes: 1e300 }), /choices\[0\]\.memoryBytes/],
    ['a negative time of loading', withChoice({ swapMs: -1 }), /choices\[0\]\.swapMs/],
  ])('%s is refused with its place', (_name, json, place) => {
    for (const take of [parseProblem, solve, (given: unknown) => frontier(given as Problem, 'memory')] as const) {
      let thrown: unknown
      try {
        take(json as Problem)
      } catch (error) {
        thrown = error
      }
      expect(thrown).toMatchObject({ code: 'PROBLEM_INVALID', message: expect.stringMatching(place) })
    }
  })

  const many = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ id: `d${i}`, loss: i, latencyMs: count - i, memoryBytes: count - i }))

  test.each<[string, Problem, number]>([
    [
      'in one block',
      { memoryBytes: 50_000, models: [{ ...model, blocks: [{ id: 'b', choices: many(1e5) }] }] },
      50_000,
    ],
    [
      'in a hundred blocks',
      {
        memoryBytes: 50_000,
        models: [{ ...model, blocks: Array.from({ length: 100 }, (_, b) => ({ id: `b${b}`, choices: many(1000) })) }],
      },
      50_000,
    ],
    [
      'in a thousand models',
      {
        models: Array.from({ length: 1000 }, (_, m) => ({
          ...model,
          id: `m${m}`,
          blocks: [{ id: 'b', choices: many(100) }],
        })),
      },
      0,
    ],
  ])('10^5 choices %s have a proven answer', (_name, given, loss) => {
    const plan = solve({ ...given, timeLimitMs: 120_000 })
    expect(plan.status).toBe('optimal')
    expect(plan.objective! - loss).toBeLessThanOrEqual(plan.gap! * Math.abs(plan.objective!) + 1e-9)
  })

  test('more choices than anyone could measure are refused', () => {
    const blocks = [{ id: 'b', choices: many(MAX_CHOICES + 1) }]
    expect(() => parseProblem({ models: [{ ...model, blocks }] })).toThrow(/more than 250000 choices/)
  })
})

describe('the solver in a thread', () => {
  test('answers as the one here, and refuses what that refuses', async () => {
    const solver = startSolver()
    const given = parseProblem(problem())
    const [there, here] = [await solver.solve(given), solve(given)]
    expect(await solver.frontier(given, 'memory')).toEqual(frontier(given, 'memory'))
    await expect(solver.solve(withModel({ rate: -1 }) as Problem)).rejects.toMatchObject({ code: 'PROBLEM_INVALID' })
    await solver.close()
    expect({ ...there, solveMs: 0 }).toEqual({ ...here, solveMs: 0 })
  })

  test('leaves the thread of its caller free', async () => {
    const solver = startSolver()
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    await solver.solve(instance({ models: 20, blocks: 12, choices: 12 }, 'tight', 1))
    clearInterval(timer)
    await solver.close()
    expect(turns).toBeGreaterThan(1)
  })
})
