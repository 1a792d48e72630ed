import { type Program, placesOf, swapWeights, variantsOf } from './compile.ts'
import { fromSteps, type Scale } from './exact.ts'
import type { Config } from './price.ts'
import type { Infeasible, Plan, PlannedModel, ProblemBlock, ProblemModel } from './problem.ts'
import { sharedRows, useOf } from './rows.ts'
import type { Found } from './search.ts'

/** A relative gap below which a plan counts as proven optimal. */
export const PROVEN_GAP = 1e-4
/** A limit with less room than this share of itself is binding. */
const TIGHT = 1e-3

interface Sums {
  readonly lossSteps: number
  readonly latencySteps: number
  readonly memorySteps: number
  readonly loss: number
  readonly latencyMs: number
  readonly memoryBytes: number
  readonly swapMs: number
  readonly swapBytes: number
}

/** The plan that a search found, in the order and the units of the problem. */
export function planOf(program: Program, found: Found, duals: Float64Array, solveMs: number): Plan {
  const { problem } = program
  const rows = program.models.map((model, m) => {
    const source = problem.models[model.index]!
    const picked = pickedOf(program, m, found.configs[m]!)
    return {
      model,
      source,
      picked,
      sums: sumsOf(program, source, picked),
      config: found.configs[m]!,
    }
  })
  const models: PlannedModel[] = problem.models.map(() => ({
    model: '',
    choices: [],
    predicted: { quality: 0, latencyMs: 0, memoryBytes: 0 },
  }))
  rows.forEach(({ model, source, picked, sums, config }, m) => {
    const core = found.cores?.[m]
    models[model.index] = {
      model: source.id,
      ...(source.variants ? { variant: variantsOf(source)[model.variants[config.variant]!.index]!.id } : {}),
      choices: picked.map(({ block, choice }) => ({ block: block.id, descendant: choice.id })),
      predicted: {
        quality: tidy(source.quality - sums.loss),
        latencyMs: sums.latencyMs,
        memoryBytes: sums.memoryBytes,
      },
      ...(core === undefined ? {} : { core }),
    }
  })
  const memoryBytes = fromSteps(
    program.memory,
    rows.reduce((sum, row) => sum + row.sums.memorySteps, 0),
  )
  const cores = rows.reduce((sum, row) => sum + ((row.source.rate ?? 0) * row.sums.latencyMs) / 1000, 0)
  const swapMs = rows.reduce((sum, row) => sum + row.sums.swapMs, 0)
  const swapBytes = rows.reduce((sum, row) => sum + row.sums.swapBytes, 0)
  const hasCurrent = problem.models.some((model) => blocksOf(model).some((block) => block.current !== undefined))
  const objective = objectiveOf(program, rows)
  const bound = Math.min(objective, boundOf(program, found, objective))
  const gap = relativeGap(objective, bound)
  return {
    status: gap <= PROVEN_GAP ? 'optimal' : 'feasible',
    objective,
    bound,
    gap,
    solveMs,
    models,
    totals: { memoryBytes, cores: tidy(cores), ...(hasCurrent ? { swapMs: tidy(swapMs), swapBytes } : {}) },
    binding: bindingOf(program, found, duals, rows),
  }
}

/** How far `objective` may be above the least possible, as a share of it; differences that are only rounding count as none. */
export function relativeGap(objective: number, bound: number): number {
  const difference = objective - bound
  return difference <= 1e-12 ? 0 : difference / Math.max(Math.abs(objective), 1e-12)
}

type Row = { readonly source: ProblemModel; readonly sums: Sums; readonly model: Program['models'][number] }

function objectiveOf(program: Program, rows: readonly Row[]): number {
  const { problem, goal } = program
  const weights = swapWeights(problem, goal)
  const value = rows.reduce((sum, { source, sums }) => {
    const swap = weights.ms * sums.swapMs + weights.byte * sums.swapBytes
    switch (goal.kind) {
      case 'latency':
        return sum + sums.latencyMs + swap
      case 'memory':
        return sum + sums.memoryBytes + swap
      case 'cpu':
        return sum + ((source.rate ?? 0) * sums.latencyMs) / 1000 + swap
      default:
        return sum + (source.weight ?? 1) * sums.loss + swap
    }
  }, 0)
  return tidy(value)
}

/**
 * The bound in the units of the problem.
 *
 * The search counts in steps and adds a share below half a step for ties, so without costs of swapping the true bound is the next
 * whole step.
 */
function boundOf(program: Program, found: Found, objective: number): number {
  const { kind } = program.goal
  if (found.cost - found.lower <= 1e-12 * Math.abs(found.cost)) return objective
  if (kind !== 'latency' && kind !== 'memory' && kind !== 'cpu') return found.lower
  const { ms, byte } = swapWeights(program.problem, program.goal)
  const steps = ms > 0 || byte > 0 ? found.lower : kind === 'cpu' ? found.lower - 0.5 : Math.ceil(found.lower - 0.5)
  return (
    steps / { latency: program.latency.factor, memory: program.memory.factor, cpu: 1000 * program.latency.factor }[kind]
  )
}

/** Limits with hardly any room left, or that a price shows to cost something. */
function bindingOf(program: Program, found: Found, duals: Float64Array, rows: readonly Row[]): string[] {
  const tight = new Set<string>()
  const near = (name: string, used: number, limit: number) => {
    if (limit < Number.POSITIVE_INFINITY && limit - used <= TIGHT * Math.abs(limit)) tight.add(name)
  }
  const shared = sharedRows(program)
  useOf(shared, program, found.configs).forEach((used, r) => {
    const name = r === shared.memory ? 'memory' : 'cores'
    near(name, used, shared.limits[r]!)
    if (duals[r]! > 0) tight.add(name)
  })
  for (const { model, sums } of rows) {
    near(`latency:${model.id}`, sums.latencySteps, model.latencyLimit)
    near(`quality:${model.id}`, sums.lossSteps, model.lossLimit)
  }
  const order = ['memory', 'cores', ...program.problem.models.flatMap(({ id }) => [`latency:${id}`, `quality:${id}`])]
  return order.filter((limit) => tight.has(limit))
}

/** The limits of an infeasible problem that stand in the way, named as in a plan. */
export function binding({ constraint, model, also = [] }: Infeasible): string[] {
  const name = model === undefined || constraint === 'cores' ? constraint : `${constraint}:${model}`
  return [...new Set([name, ...also.flatMap(binding)])]
}

interface Picked {
  readonly block: ProblemBlock
  readonly choice: ProblemBlock['choices'][number]
}

/** The choices of a configuration, in the order of the problem's blocks. */
export function pickedOf(program: Program, m: number, config: Config): Picked[] {
  const model = program.models[m]!
  const variant = model.variants[config.variant]!
  const blocks = variantsOf(program.problem.models[model.index]!)[variant.index]!.blocks
  const picked: Picked[] = []
  variant.block.forEach((index, b) => {
    const block = blocks[index]!
    picked[index] = { block, choice: block.choices[variant.choice[config.picks[b]!]!]! }
  })
  return picked
}

function sumsOf(program: Program, source: ProblemModel, picked: readonly Picked[]): Sums {
  const inPlace = placesOf(variantsOf(source))
  const loaded = picked.filter(({ block, choice }) => inPlace(block, choice))
  const total = (value: (choice: Picked['choice']) => number) =>
    picked.reduce((sum, { choice }) => sum + value(choice), 0)
  const steps = (scale: Scale, value: (choice: Picked['choice']) => number) =>
    total((choice) => Math.round(value(choice) * scale.factor))
  const amount = (scale: Scale, value: (choice: Picked['choice']) => number) =>
    scale.exact ? fromSteps(scale, steps(scale, value)) : total(value)
  return {
    lossSteps: steps(program.loss, (choice) => choice.loss),
    latencySteps: steps(program.latency, (choice) => choice.latencyMs),
    memorySteps: steps(program.memory, (choice) => choice.memoryBytes),
    loss: amount(program.loss, (choice) => choice.loss),
    latencyMs: amount(program.latency, (choice) => choice.latencyMs),
    memoryBytes: amount(program.memory, (choice) => choice.memoryBytes),
    swapMs: loaded.reduce((sum, { choice }) => sum + (choice.swapMs ?? 0), 0),
    swapBytes: loaded.reduce((sum, { choice }) => sum + choice.memoryBytes, 0),
  }
}

const blocksOf = (model: ProblemModel): readonly ProblemBlock[] => variantsOf(model).flatMap(({ blocks }) => blocks)

/** Sums of decimals as a reader expects them: `0.3`, not `0.30000000000000004`. */
const tidy = (value: number): number => Number(value.toPrecision(14))
