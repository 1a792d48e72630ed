import fc from 'fast-check'
import type { Problem, ProblemBlock, ProblemModel } from '../../src/optimizer/index.ts'

const thousandths = (most: number, least = 0) =>
  fc.integer({ min: Math.round(least * 1000), max: Math.round(most * 1000) }).map((n) => n / 1000)

const choice = fc.record({
  loss: fc.oneof(
    { weight: 3, arbitrary: thousandths(0.1) },
    { weight: 1, arbitrary: fc.constantFrom(0, 0, 0.01, -0.002) },
  ),
  latencyMs: fc.oneof({ weight: 3, arbitrary: thousandths(10) }, { weight: 1, arbitrary: fc.constantFrom(0, 1, 2, 2) }),
  memoryBytes: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 0, max: 1000 }) },
    { weight: 1, arbitrary: fc.constantFrom(0, 100, 100, 200) },
  ),
  swapMs: fc.option(thousandths(20), { nil: undefined }),
})

function block(index: number, most: number): fc.Arbitrary<ProblemBlock> {
  return fc
    .tuple(fc.array(choice, { minLength: 1, maxLength: most }), fc.option(fc.nat(), { nil: undefined, freq: 2 }))
    .map(([choices, current]) => ({
      id: `b${index}`,
      current: current === undefined ? undefined : `c${current % choices.length}`,
      choices: choices.map((one, c) => ({ id: `c${c}`, ...one })),
    }))
}

const blocks = (most: number, choices: number) =>
  fc.integer({ min: 1, max: most }).chain((n) => fc.tuple(...Array.from({ length: n }, (_, b) => block(b, choices))))

function model(index: number, most: number, choices: number): fc.Arbitrary<ProblemModel> {
  return fc
    .record({
      body: fc.oneof(
        { weight: 3, arbitrary: blocks(most, choices).map((own) => ({ blocks: own })) },
        {
          weight: 1,
          arbitrary: fc.tuple(blocks(most, choices), blocks(most, choices)).map(([a, b]) => ({
            variants: [
              { id: '224', blocks: a },
              { id: '192', blocks: b },
            ],
          })),
        },
      ),
      quality: thousandths(1, 0.5),
      weight: fc.option(fc.constantFrom(0, 0.5, 1, 3), { nil: undefined }),
      maxLatencyMs: fc.option(thousandths(20), { nil: undefined, freq: 2 }),
      rate: fc.option(fc.constantFrom(0, 5, 10, 29.97, 60), { nil: undefined, freq: 3 }),
      minQuality: fc.option(thousandths(1, 0.3), { nil: undefined, freq: 2 }),
    })
    .map(({ body, ...rest }) => ({ id: `m${index}`, ...rest, ...body }))
}

/** Problems small enough to try every plan, with every kind of limit, variants, swaps, ties and zeros. */
export const smallProblem: fc.Arbitrary<Problem> = fc
  .integer({ min: 1, max: 3 })
  .chain((n) => problemOf(n, n === 3 ? 2 : 3, n === 3 ? 3 : 4))

/** Of the same kinds, with far too many plans to try them all. */
export const mediumProblem: fc.Arbitrary<Problem> = fc.integer({ min: 2, max: 5 }).chain((n) => problemOf(n, 6, 6))

/** Several models on a few cores, some of them copies of others: small enough to try every placement of every plan. */
export const crowdedProblem: fc.Arbitrary<Problem> = fc
  .record({
    models: fc.array(model(0, 1, 3), { minLength: 2, maxLength: 3 }),
    copies: fc.array(fc.nat(), { minLength: 2, maxLength: 4 }),
    memoryBytes: fc.option(fc.integer({ min: 0, max: 4000 }), { nil: undefined }),
    cores: fc.constantFrom(0.5, 1, 1.25, 2, 2.5),
    utilisation: fc.constantFrom(0.1, 0.25, 0.5),
    objective: fc.constantFrom('quality' as const, 'memory' as const, 'cpu' as const),
  })
  .map(({ models, copies, ...limits }) => ({
    ...limits,
    models: [...models, ...copies.map((i) => models[i % models.length]!)].map((one, m) => ({ ...one, id: `m${m}` })),
  }))

const problemOf = (n: number, blocks: number, choices: number): fc.Arbitrary<Problem> =>
  fc.record({
    models: fc.tuple(...Array.from({ length: n }, (_, m) => model(m, blocks, choices))),
    memoryBytes: fc.option(fc.integer({ min: 0, max: 500 * blocks * n }), { nil: undefined, freq: 3 }),
    cores: fc.option(fc.constantFrom(0.3, 0.5, 1, 1, 1.25, 2, 2, 2.5, 3), { nil: undefined, freq: 2 }),
    utilisation: fc.option(fc.constantFrom(0.25, 0.5, 0.7, 1), { nil: undefined }),
    objective: fc.constantFrom(
      'quality' as const,
      'quality' as const,
      undefined,
      'latency' as const,
      'memory' as const,
      'cpu' as const,
    ),
    swapWeight: fc.option(fc.constantFrom(0, 0.001, 0.01), { nil: undefined }),
    swapWeightPerMB: fc.option(fc.constantFrom(1, 20), { nil: undefined, freq: 3 }),
    placement: fc.constantFrom('pinned' as const, undefined, 'shared' as const),
  })
