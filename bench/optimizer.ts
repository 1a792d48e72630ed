/**
 * The optimizer: time, gap and proof over instances of many kinds, with shared and with own cores; against plain glpk.js and
 * HiGHS; warm re-solves; what stays in place when the budget moves; memory over 10,000 solves.
 *
 *     npx tsx bench/optimizer.ts [zoo]
 *
 * Times are CPU time of the whole process, so that other work on the machine does not count, and of each solve the median of
 * three; wall time stands beside them. With a zoo, mixes of its models as measured are solved too.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createSolver, type Plan, type Problem, solve } from '../src/optimizer/index.ts'
import { instance, KINDS, type Kind, type Size } from './optimizer-instances.ts'
import { measuredInstances } from './optimizer-measured.ts'
import { binaryProgramme, openGlpk, openHighs, plainGlpk, plainHighs, type Rival } from './optimizer-rivals.ts'
import { median, type ResultRow, writeResult } from './result.ts'

const sizes: readonly (Size & { readonly goalMs: number; readonly seeds: number })[] = [
  { models: 1, blocks: 8, choices: 6, goalMs: 5, seeds: 12 },
  { models: 4, blocks: 8, choices: 12, goalMs: 20, seeds: 6 },
  { models: 12, blocks: 12, choices: 12, goalMs: 150, seeds: 3 },
  { models: 50, blocks: 16, choices: 16, goalMs: 500, seeds: 1 },
  { models: 200, blocks: 16, choices: 16, goalMs: 1000, seeds: 1 },
]
const placements = ['shared', 'pinned'] as const
const nameOf = ({ models, blocks, choices }: Size) => `${models}×${blocks}×${choices}`

interface Timed<T> {
  readonly value: T
  readonly cpuMs: number
  readonly wallMs: number
}

function timed<T>(run: () => T): Timed<T> {
  const cpu = process.cpuUsage()
  const since = performance.now()
  const value = run()
  const { user, system } = process.cpuUsage(cpu)
  return { value, cpuMs: (user + system) / 1000, wallMs: performance.now() - since }
}

/** Each of `runs` three times, in turns; of each the run with the median of CPU time. */
function inTurns<T>(...runs: readonly (() => T)[]): Timed<T>[] {
  const times = runs.map((): Timed<T>[] => [])
  for (let turn = 0; turn < 3; turn++) {
    for (const [i, run] of runs.entries()) times[i]!.push(timed(run))
  }
  return times.map((own) => own.sort((a, b) => a.cpuMs - b.cpuMs)[1]!)
}

const round = (value: number, digits = 3): number => Number(value.toPrecision(digits))
const most = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b), 0)

/** Cold solves, and warm ones after the memory has changed by a tenth. */
function series(name: string, cases: readonly { readonly kind: string; readonly problem: Problem }[]): ResultRow {
  const solved: { readonly kind: string; readonly cold: Timed<Plan> }[] = []
  const warm: number[] = []
  const again: number[] = []
  for (const { kind, problem } of cases) {
    solved.push({ kind, cold: inTurns(() => solve(problem))[0]! })
    for (const factor of [0.9, 1.1]) {
      const changed = { ...problem, memoryBytes: Math.floor((problem.memoryBytes ?? 0) * factor) }
      const solvers = Array.from({ length: 3 }, createSolver)
      for (const solver of solvers) solver.solve(problem)
      const [resolved, cold] = inTurns(
        () => solvers.pop()!.solve(changed),
        () => solve(changed),
      )
      warm.push(resolved!.cpuMs)
      again.push(cold!.cpuMs)
    }
  }
  const times = solved.map(({ cold }) => cold.cpuMs)
  const gaps = (of: typeof solved) => most(of.map(({ cold }) => 100 * (cold.value.gap ?? 0)))
  const answers = solved.filter(({ cold }) => cold.value.status !== 'infeasible')
  const row = {
    what: 'solve',
    instances: name,
    cases: solved.length,
    medianMs: round(median(times)),
    mostMs: round(most(times)),
    medianWallMs: round(median(solved.map(({ cold }) => cold.wallMs))),
    plans: answers.length,
    infeasible: solved.length - answers.length,
    optimal: answers.filter(({ cold }) => cold.value.status === 'optimal').length,
    worstGapPercent: round(gaps(solved)),
    warmMedianMs: round(median(warm)),
    coldMedianMs: round(median(again)),
    kinds: Object.fromEntries(
      [...new Set(solved.map(({ kind }) => kind))].map((kind) => {
        const own = solved.filter((one) => one.kind === kind)
        return [kind, { medianMs: round(median(own.map(({ cold }) => cold.cpuMs))), gapPercent: round(gaps(own)) }]
      }),
    ),
  }
  console.log(JSON.stringify(row))
  return row
}

/** The same problems by plain glpk.js and by HiGHS: ratios of time, and whether the answers are the same. */
async function rivals(
  size: Size,
  placement: 'shared' | 'pinned',
  kinds: readonly Kind[],
  seconds: number,
): Promise<ResultRow> {
  const [glpk, highs] = [await openGlpk(), await openHighs()]
  const lines = kinds.map((kind) => {
    const problem: Problem = { ...instance(size, kind, 1), placement }
    const programme = binaryProgramme(problem)
    const own = timed(() => solve(problem))
    const against = (run: () => Rival) => {
      const { value, cpuMs } = timed(run)
      const objective = own.value.objective
      const above = value.objective === undefined || objective === undefined ? undefined : value.objective - objective
      return { ...value, ratio: cpuMs / own.cpuMs, abovePercent: above && (100 * above) / Math.abs(objective!) }
    }
    return {
      own: own.value,
      glpk: against(() => plainGlpk(glpk, programme, seconds)),
      highs: against(() => plainHighs(highs, programme, seconds)),
    }
  })
  const of = (who: 'glpk' | 'highs') => {
    const theirs = lines.map((line) => line[who])
    const proven = lines.filter((line) => line[who].proven)
    return {
      timeRatioMedian: round(median(theirs.map(({ ratio }) => ratio))),
      proven: proven.length,
      equalWhereProven: proven.filter((line) => isEqual(line.own, line[who])).length,
      withoutPlan: theirs.filter(({ objective, proven }) => objective === undefined && !proven).length,
      worstAbovePercent: round(most(theirs.map(({ abovePercent }) => abovePercent ?? 0))),
    }
  }
  const row = {
    what: 'rivals',
    instances: nameOf(size),
    placement,
    cases: lines.length,
    limitSeconds: seconds,
    glpk: of('glpk'),
    highs: of('highs'),
  }
  console.log(JSON.stringify(row))
  return row
}

/** Both say that there is none, or the costs differ by no more than our own gap (and the rounding of theirs). */
function isEqual(plan: Plan, rival: Rival): boolean {
  if (plan.objective === undefined || rival.objective === undefined)
    return plan.status === 'infeasible' && rival.objective === undefined
  const slack = 1e-6 * Math.abs(rival.objective) + 1e-9
  return rival.objective >= plan.bound! - slack && plan.objective <= rival.objective * (1 + (plan.gap ?? 0)) + slack
}

/** How many blocks change when the memory moves by a twentieth, with and without the cost of swapping. */
function hysteresis(size: Size): ResultRow {
  const changed = { withSwapCost: 0, without: 0, blocks: 0, extraLoss: 0, loss: 0 }
  for (const kind of ['tight', 'random', 'correlated'] as const) {
    for (const factor of [0.95, 1.05]) {
      const problem = instance(size, kind, 1)
      const plan = solve(problem)
      const next = { ...problem, memoryBytes: Math.floor(problem.memoryBytes! * factor) }
      const free = solve(next)
      const bound = solve(inPlace(next, plan))
      if (!free.objective || !bound.objective || !plan.objective) continue
      changed.without += differing(plan, free)
      changed.withSwapCost += differing(plan, bound)
      changed.blocks += size.models * size.blocks
      changed.loss += free.objective
      changed.extraLoss += lossOf(next, bound) - free.objective
    }
  }
  const row = {
    what: 'blocks that change when memory moves by 5 %',
    instances: nameOf(size),
    blocks: changed.blocks,
    withoutSwapCost: changed.without,
    withSwapCost: changed.withSwapCost,
    extraLossPercent: round((100 * changed.extraLoss) / changed.loss),
  }
  console.log(JSON.stringify(row))
  return row
}

const differing = (a: Plan, b: Plan): number =>
  a.models.reduce((sum, { choices }, m) => {
    const other = new Map(b.models[m]!.choices.map(({ block, descendant }) => [block, descendant]))
    return sum + choices.filter(({ block, descendant }) => other.get(block) !== descendant).length
  }, 0)

const lossOf = ({ models }: Problem, plan: Plan): number =>
  models.reduce((sum, { quality, weight }, m) => sum + (weight ?? 1) * (quality - plan.models[m]!.predicted.quality), 0)

/** The problem with a plan in place; loading takes 1 ms and 0.5 ms for each MB, as compiled blocks do. */
const inPlace = (problem: Problem, plan: Plan): Problem => ({
  ...problem,
  models: problem.models.map((model, m) => ({
    ...model,
    blocks: model.blocks?.map((block, b) => ({
      ...block,
      current: plan.models[m]!.choices[b]!.descendant,
      choices: block.choices.map((choice) => ({ ...choice, swapMs: 1 + choice.memoryBytes / 2e6 })),
    })),
  })),
})

/** One solver, 10,000 solves with budgets that move: what the process holds, every 2,000. */
function memory(): ResultRow {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const problems = KINDS.map((kind, k) => instance({ models: 1 + (k % 3), blocks: 6, choices: 6 }, kind, k))
  const solver = createSolver()
  const held: { solves: number; rssMB: number; heapMB: number }[] = []
  for (let i = 0; i <= 10_000; i++) {
    if (i % 2000 === 0) {
      collect()
      const { rss, heapUsed } = process.memoryUsage()
      held.push({ solves: i, rssMB: round(rss / 1e6, 4), heapMB: round(heapUsed / 1e6, 4) })
    }
    const problem = problems[i % problems.length]!
    solver.solve({ ...problem, memoryBytes: Math.floor(problem.memoryBytes! * (0.9 + 0.2 * ((i * 0.618) % 1))) })
  }
  const row = { what: 'memory of the process over 10,000 solves', held }
  console.log(JSON.stringify(row))
  return row
}

// The first solves run before the code is compiled.
for (const kind of KINDS) for (const size of sizes.slice(0, 2)) solve(instance(size, kind, 99))
const rows: ResultRow[] = [memory()]
for (const placement of placements) {
  for (const { goalMs, seeds, ...size } of sizes) {
    const cases = KINDS.flatMap((kind) =>
      Array.from({ length: seeds }, (_, s) => ({ kind, problem: { ...instance(size, kind, s + 1), placement } })),
    )
    rows.push({ ...series(nameOf(size), cases), placement, goalMs })
  }
}
const zoo = process.argv[2]
if (zoo !== undefined) rows.push(series('measured models of a zoo', await measuredInstances(zoo)))
rows.push(await rivals(sizes[0]!, 'shared', KINDS, 5))
rows.push(await rivals(sizes[1]!, 'shared', KINDS, 5))
rows.push(await rivals(sizes[1]!, 'pinned', ['tight', 'compute-bound', 'tied', 'random'], 5))
rows.push(await rivals(sizes[2]!, 'shared', ['tight', 'compute-bound', 'tied', 'random'], 5))
rows.push(await rivals(sizes[3]!, 'shared', ['random'], 8))
rows.push(hysteresis(sizes[1]!), hysteresis(sizes[2]!))
console.log(await writeResult('optimizer', rows, 'npx tsx bench/optimizer.ts <zoo>'))
