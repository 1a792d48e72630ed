import { undominated } from './dominance.ts'
import { limitSteps, type Scale, scaleFor, toSteps } from './exact.ts'
import type { Problem, ProblemBlock, ProblemModel } from './problem.ts'

/** What is minimised. `latencyOf` and `lossOf` look at one model: they find what a limit would have to be. */
export type Goal =
  | { readonly kind: 'quality' | 'latency' | 'memory' | 'cpu' }
  | { readonly kind: 'latencyOf' | 'lossOf'; readonly model: string }

/** Loss that one millisecond of swapping is worth, unless the problem says otherwise: 10 ms weigh as much as 0.1 %. */
export const SWAP_WEIGHT = 1e-4
export const UTILISATION = 0.9

/**
 * A problem as numbers: integers where a limit looks at them, models, variants, blocks and choices in the order of their ids
 * (so that permuting the problem changes nothing), and without choices that another choice beats in every respect.
 */
export interface Program {
  readonly problem: Problem
  readonly goal: Goal
  readonly latency: Scale
  readonly memory: Scale
  readonly loss: Scale
  readonly memoryLimit: number
  /** room of each core in load steps; undefined when the problem names no cores */
  readonly coreLimits: readonly number[] | undefined
  /** load steps of one whole core */
  readonly loadOfCore: number
  readonly models: readonly ModelProgram[]
}

export interface ModelProgram {
  readonly id: string
  /** position in the problem */
  readonly index: number
  /** load steps for each latency step; 0 when the model has no rate or the problem no cores */
  readonly loadRate: number
  readonly latencyLimit: number
  /** the latency at which the model alone fills the largest core */
  readonly coreLatencyLimit: number
  readonly lossLimit: number
  readonly variants: readonly VariantProgram[]
}

/** The blocks of a variant and their choices, column by column: block `b` owns positions `start[b]` to `start[b + 1] - 1`. */
export interface VariantProgram {
  readonly index: number
  readonly id: string
  readonly start: Int32Array
  /** position of each block in the problem */
  readonly block: Int32Array
  /** position of each choice in the problem's block */
  readonly choice: Int32Array
  readonly cost: Float64Array
  readonly latency: Float64Array
  readonly memory: Float64Array
  readonly loss: Float64Array
}

/** The choices of one block, column by column. */
export interface BlockColumns {
  readonly choice: Int32Array
  readonly cost: Float64Array
  readonly latency: Float64Array
  readonly memory: Float64Array
  readonly loss: Float64Array
}

interface Scales {
  readonly latency: Scale
  readonly memory: Scale
  readonly loss: Scale
  /** whole rates of decimal rates: 29.97 counts as 2997 hundredths */
  readonly rate: Scale
}

export const goalOf = (problem: Problem): Goal => ({ kind: problem.objective ?? 'quality' })

export const variantsOf = (
  model: ProblemModel,
): readonly { readonly id: string; readonly blocks: readonly ProblemBlock[] }[] =>
  model.variants ?? [{ id: '', blocks: model.blocks ?? [] }]

/** @param problem must have passed `parseProblem` */
export function compile(problem: Problem, goal: Goal = goalOf(problem)): Program {
  const scales = scalesOf(problem)
  const blocks = largestBlockCount(problem)
  const loadOfCore = 1000 * scales.latency.factor * scales.rate.factor
  const coreLimits = problem.cores === undefined ? undefined : coresOf(problem.cores, problem.utilisation, loadOfCore)
  const largestCore = coreLimits ? Math.max(0, ...coreLimits) : Number.POSITIVE_INFINITY
  const tieShare = lossShare(problem, goal, scales)
  const models = byId(problem.models).map(({ item: model, index }): ModelProgram => {
    const loadRate = coreLimits ? loadRateOf(scales.rate, model.rate ?? 0) : 0
    const latencyLimit =
      model.maxLatencyMs === undefined
        ? Number.POSITIVE_INFINITY
        : limitSteps(scales.latency, model.maxLatencyMs, blocks)
    const lossLimit =
      model.minQuality === undefined
        ? Number.POSITIVE_INFINITY
        : limitSteps(scales.loss, model.quality - model.minQuality, blocks)
    const active = {
      latency: latencyLimit < Number.POSITIVE_INFINITY || loadRate > 0,
      memory: problem.memoryBytes !== undefined,
      loss: lossLimit < Number.POSITIVE_INFINITY,
    }
    const variants = byId(variantsOf(model)).map(
      ({ item: variant, index: v }): VariantProgram => ({
        index: v,
        id: variant.id,
        ...flattened(
          byId(variant.blocks).map(({ item: block, index: b }) => ({
            ...undominated(compileBlock(problem, model, block, scales, goal, tieShare), active),
            index: b,
          })),
        ),
      }),
    )
    const coreLatencyLimit = loadRate > 0 ? Math.floor(largestCore / loadRate) : Number.POSITIVE_INFINITY
    return { id: model.id, index, loadRate, latencyLimit, coreLatencyLimit, lossLimit, variants }
  })
  const memoryLimit =
    problem.memoryBytes === undefined
      ? Number.POSITIVE_INFINITY
      : limitSteps(scales.memory, problem.memoryBytes, blocks * problem.models.length)
  const { latency, memory, loss } = scales
  return { problem, goal, latency, memory, loss, memoryLimit, coreLimits, loadOfCore, models }
}

function compileBlock(
  problem: Problem,
  model: ProblemModel,
  block: ProblemBlock,
  scales: Scales,
  goal: Goal,
  tieShare: number,
): BlockColumns {
  const sorted = byId(block.choices)
  const column = (value: (choice: ProblemBlock['choices'][number]) => number) =>
    Float64Array.from(sorted, ({ item }) => value(item))
  const latency = column((choice) => toSteps(scales.latency, choice.latencyMs))
  const memory = column((choice) => toSteps(scales.memory, choice.memoryBytes))
  const loss = column((choice) => toSteps(scales.loss, choice.loss))
  const swapWeight = problem.swapWeight ?? (goal.kind === 'quality' ? SWAP_WEIGHT : 0)
  const cost = Float64Array.from(sorted, ({ item: choice }, i) => {
    const swapMs = block.current === undefined || block.current === choice.id ? 0 : (choice.swapMs ?? 0)
    const swap = swapWeight * swapMs
    switch (goal.kind) {
      case 'quality':
        return (model.weight ?? 1) * choice.loss + swap
      case 'latency':
        return latency[i]! + swap * scales.latency.factor + tieShare * loss[i]!
      case 'memory':
        return memory[i]! + swap * scales.memory.factor + tieShare * loss[i]!
      case 'cpu':
        return (model.rate ?? 0) * latency[i]! + swap * scales.latency.factor * 1000 + tieShare * loss[i]!
      case 'latencyOf':
        return goal.model === model.id ? latency[i]! : 0
      case 'lossOf':
        return goal.model === model.id ? loss[i]! : 0
    }
  })
  return { choice: Int32Array.from(sorted, (entry) => entry.index), cost, latency, memory, loss }
}

function flattened(blocks: readonly (BlockColumns & { readonly index: number })[]) {
  const start = new Int32Array(blocks.length + 1)
  blocks.forEach((block, b) => {
    start[b + 1] = start[b]! + block.cost.length
  })
  const join = <T extends Int32Array | Float64Array>(into: T, column: (block: BlockColumns) => T): T => {
    blocks.forEach((block, b) => {
      into.set(column(block), start[b]!)
    })
    return into
  }
  const size = start[blocks.length]!
  return {
    start,
    block: Int32Array.from(blocks, (block) => block.index),
    choice: join(new Int32Array(size), (block) => block.choice),
    cost: join(new Float64Array(size), (block) => block.cost),
    latency: join(new Float64Array(size), (block) => block.latency),
    memory: join(new Float64Array(size), (block) => block.memory),
    loss: join(new Float64Array(size), (block) => block.loss),
  }
}

/**
 * Among plans with equally little latency, memory or CPU, the one with less loss is wanted. Those goals count whole steps, so
 * a share of the loss that stays below half a step in all decides ties and nothing else. (Costs of swapping are no whole steps.)
 */
function lossShare(problem: Problem, goal: Goal, scales: Scales): number {
  if (goal.kind !== 'latency' && goal.kind !== 'memory' && goal.kind !== 'cpu') return 0
  if (problem.swapWeight) return 0
  let range = 0
  for (const model of problem.models) {
    let widest = 0
    for (const { blocks } of variantsOf(model)) {
      let sum = 0
      for (const { choices } of blocks)
        sum += choices.reduce((most, choice) => Math.max(most, Math.abs(choice.loss)), 0)
      widest = Math.max(widest, sum)
    }
    range += widest
  }
  return range > 0 ? 0.2 / (range * scales.loss.factor) : 0
}

/**
 * `cores` 2.5 is two whole cores and a half one; each may be filled up to `utilisation`.
 *
 * The product of three decimals is rounded by doubles, so the limit is wider by 1e-12 of itself.
 */
function coresOf(cores: number, utilisation: number | undefined, loadOfCore: number): number[] {
  const share = (part: number) => Math.floor(part * (utilisation ?? UTILISATION) * loadOfCore * (1 + 1e-12))
  const whole = Math.floor(cores)
  const limits = Array.from({ length: whole }, () => share(1))
  if (cores > whole) limits.push(share(cores - whole))
  return limits
}

function scalesOf(problem: Problem): Scales {
  const total = { latency: 0, memory: 0, loss: 0 }
  const values = { latency: [] as number[], memory: [] as number[], loss: [] as number[] }
  const rates: number[] = []
  for (const model of problem.models) {
    rates.push(model.rate ?? 0)
    for (const { blocks } of variantsOf(model)) {
      for (const { choices } of blocks) {
        const most = { latency: 0, memory: 0, loss: 0 }
        for (const choice of choices) {
          values.latency.push(choice.latencyMs)
          values.memory.push(choice.memoryBytes)
          values.loss.push(choice.loss)
          most.latency = Math.max(most.latency, choice.latencyMs)
          most.memory = Math.max(most.memory, choice.memoryBytes)
          most.loss = Math.max(most.loss, Math.abs(choice.loss))
        }
        total.latency += most.latency
        total.memory += most.memory
        total.loss += most.loss
      }
    }
  }
  return {
    latency: scaleFor(values.latency, total.latency, 9),
    memory: scaleFor(values.memory, total.memory, 0),
    loss: scaleFor(values.loss, total.loss, 12),
    rate: wholeRates(rates),
  }
}

const loadRateOf = (scale: Scale, rate: number): number => (scale.exact ? toSteps(scale, rate) : rate)

/** Rates with up to three decimals as whole numbers; others as they are, for loads are compared with a tolerance. */
function wholeRates(rates: readonly number[]): Scale {
  const scale = scaleFor(rates, Math.max(0, ...rates), 3)
  return scale.exact ? scale : { factor: 1, exact: false }
}

const largestBlockCount = (problem: Problem): number =>
  problem.models.reduce((most, model) => variantsOf(model).reduce((n, v) => Math.max(n, v.blocks.length), most), 0)

function byId<T extends { readonly id: string }>(items: readonly T[]): { item: T; index: number }[] {
  return items
    .map((item, index) => ({ item, index }))
    .sort((a, b) => (a.item.id < b.item.id ? -1 : a.item.id > b.item.id ? 1 : 0))
}
