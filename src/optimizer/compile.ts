import { keepUndominated } from './dominance.ts'
import { limitSteps, type Scale, scaleFor, toSteps } from './exact.ts'
import type { Problem, ProblemBlock, ProblemChoice, ProblemModel } from './problem.ts'
import type { Goal, Matters, ModelProgram, Program } from './program.ts'

export type { Goal, ModelProgram, Program, VariantProgram } from './program.ts'

/** Loss that one millisecond of swapping is worth, unless the problem says otherwise: 10 ms weigh as much as 0.1 %. */
export const SWAP_WEIGHT = 1e-4
export const UTILISATION = 0.9

/** What a millisecond and a byte of swapping are worth. */
export const swapWeights = ({ swapWeight, swapWeightPerMB = 0 }: Problem, goal: Goal) => ({
  ms: swapWeight ?? (goal.kind === 'quality' ? SWAP_WEIGHT : 0),
  byte: swapWeightPerMB / 1e6,
})

export const goalOf = (problem: Problem): Goal => ({ kind: problem.objective ?? 'quality' })

export interface Variant {
  readonly id: string
  readonly blocks: readonly ProblemBlock[]
}

export const variantsOf = (model: ProblemModel): readonly Variant[] =>
  model.variants ?? [{ id: '', blocks: model.blocks ?? [] }]

/** @param problem must have passed `parseProblem` */
export function compile(problem: Problem, goal: Goal = goalOf(problem)): Program {
  const scales = scalesOf(problem)
  const terms = problem.models.reduce(
    (most, model) => variantsOf(model).reduce((n, v) => Math.max(n, v.blocks.length), most),
    0,
  )
  const loadOfCore = 1000 * scales.latency.factor * scales.rate.factor
  const coreLimits = problem.cores === undefined ? undefined : coresOf(problem, problem.cores, loadOfCore)
  const largestCore = coreLimits ? Math.max(0, ...coreLimits) : Number.POSITIVE_INFINITY
  const costs = costsOf(problem, goal, scales)
  const models = inOrderOfId(problem.models).map((index): ModelProgram => {
    const model = problem.models[index]!
    const loadRate = coreLimits ? loadRateOf(scales.rate, model.rate ?? 0) : 0
    const latencyLimit =
      model.maxLatencyMs === undefined
        ? Number.POSITIVE_INFINITY
        : limitSteps(scales.latency, model.maxLatencyMs, terms)
    const lossLimit =
      model.minQuality === undefined
        ? Number.POSITIVE_INFINITY
        : limitSteps(scales.loss, model.quality - model.minQuality, terms)
    const matters = {
      latency: latencyLimit < Number.POSITIVE_INFINITY || loadRate > 0,
      memory: problem.memoryBytes !== undefined,
      loss: lossLimit < Number.POSITIVE_INFINITY,
    }
    const variants = variantsOf(model)
    const inPlace = placesOf(variants)
    return {
      id: model.id,
      index,
      loadRate,
      latencyLimit,
      coreLatencyLimit: loadRate > 0 ? Math.floor(largestCore / loadRate) : Number.POSITIVE_INFINITY,
      lossLimit,
      variants: inOrderOfId(variants).map((v) => ({
        index: v,
        id: variants[v]!.id,
        ...compileBlocks(variants[v]!.blocks, scales, matters, costs.of(model), inPlace),
      })),
    }
  })
  const memoryLimit =
    problem.memoryBytes === undefined
      ? Number.POSITIVE_INFINITY
      : limitSteps(scales.memory, problem.memoryBytes, terms * problem.models.length)
  const { latency, memory, loss } = scales
  return { problem, goal, latency, memory, loss, costStep: costs.step, memoryLimit, coreLimits, loadOfCore, models }
}

/** Whether a choice of a block would have to be loaded in place of what is there. */
export type Loads = (block: ProblemBlock, choice: ProblemChoice) => boolean

/** Nothing in place anywhere: nothing is swapped. A variant with nothing in place, beside one with something, is loaded whole. */
export function placesOf(variants: readonly Variant[]): Loads {
  const placed = variants.map(({ blocks }) => blocks.some(({ current }) => current !== undefined))
  if (!placed.includes(true)) return () => false
  const whole = new Set(variants.flatMap(({ blocks }, v) => (placed[v] ? [] : blocks)))
  return (block, choice) => whole.has(block) || (block.current !== undefined && block.current !== choice.id)
}

/** @param loads whether the choice would have to be loaded */
type CostOf = (choice: ProblemChoice, loads: boolean) => number

function compileBlocks(
  blocks: readonly ProblemBlock[],
  scales: Scales,
  matters: Matters,
  costOf: CostOf,
  inPlace: Loads,
) {
  const order = inOrderOfId(blocks)
  const size = blocks.reduce((sum, block) => sum + block.choices.length, 0)
  const start = new Int32Array(blocks.length + 1)
  const choice = new Int32Array(size)
  const [cost, latency, memory, loss] = [
    new Float64Array(size),
    new Float64Array(size),
    new Float64Array(size),
    new Float64Array(size),
  ]
  let end = 0
  order.forEach((b, position) => {
    const { choices } = blocks[b]!
    const from = end
    for (const c of inOrderOfId(choices)) {
      const one = choices[c]!
      choice[end] = c
      cost[end] = costOf(one, inPlace(blocks[b]!, one))
      latency[end] = toSteps(scales.latency, one.latencyMs)
      memory[end] = toSteps(scales.memory, one.memoryBytes)
      loss[end] = toSteps(scales.loss, one.loss)
      end++
    }
    end = keepUndominated({ choice, cost, latency, memory, loss }, from, end, matters)
    start[position + 1] = end
  })
  return {
    start,
    block: Int32Array.from(order),
    choice: choice.slice(0, end),
    cost: cost.slice(0, end),
    latency: latency.slice(0, end),
    memory: memory.slice(0, end),
    loss: loss.slice(0, end),
  }
}

/** Positions of the items in the order of their ids. */
function inOrderOfId(items: readonly { readonly id: string }[]): number[] {
  const order = items.map((_, i) => i)
  return order.sort((a, b) => (items[a]!.id < items[b]!.id ? -1 : 1))
}

interface Costs {
  readonly step: number
  of(model: ProblemModel): CostOf
}

function costsOf(problem: Problem, goal: Goal, scales: Scales): Costs {
  const weights = swapWeights(problem, goal)
  const swap = (choice: ProblemChoice, loads: boolean) =>
    loads ? weights.ms * (choice.swapMs ?? 0) + weights.byte * choice.memoryBytes : 0
  const latency = (choice: ProblemChoice) => toSteps(scales.latency, choice.latencyMs)
  const memory = (choice: ProblemChoice) => toSteps(scales.memory, choice.memoryBytes)
  const loss = (choice: ProblemChoice) => toSteps(scales.loss, choice.loss)
  const share = lossShare(problem, goal, scales)
  const swapSteps = { latency: scales.latency.factor, memory: scales.memory.factor, cpu: 1000 * scales.latency.factor }
  switch (goal.kind) {
    case 'quality':
      return qualityCosts(problem, swap)
    case 'latency':
      return { step: 0, of: () => (c, loads) => latency(c) + share * loss(c) + swap(c, loads) * swapSteps.latency }
    case 'memory':
      return { step: 0, of: () => (c, loads) => memory(c) + share * loss(c) + swap(c, loads) * swapSteps.memory }
    case 'cpu':
      return {
        step: 0,
        of:
          ({ rate = 0 }) =>
          (c, loads) =>
            rate * latency(c) + share * loss(c) + swap(c, loads) * swapSteps.cpu,
      }
    case 'latencyOf':
      return { step: 1, of: ({ id }) => (id === goal.model ? latency : () => 0) }
    case 'lossOf':
      return { step: 1, of: ({ id }) => (id === goal.model ? loss : () => 0) }
  }
}

/** Weighted losses; where all are whole multiples of a step, plans of different quality differ by at least that. */
function qualityCosts(problem: Problem, swap: CostOf): Costs {
  const of =
    ({ weight = 1 }: ProblemModel): CostOf =>
    (choice, loads) =>
      weight * choice.loss + swap(choice, loads)
  const values: number[] = []
  let total = 0
  for (const model of problem.models) {
    const cost = of(model)
    const inPlace = placesOf(variantsOf(model))
    for (const { blocks } of variantsOf(model)) {
      for (const block of blocks) {
        let most = 0
        for (const choice of block.choices) {
          const value = cost(choice, inPlace(block, choice))
          values.push(value)
          most = Math.max(most, Math.abs(value))
        }
        total += most
      }
    }
  }
  const scale = scaleFor(values, total, 9)
  if (!scale.exact) return { step: 0, of }
  let step = 0
  for (const value of values) step = greatestDivisor(step, Math.abs(toSteps(scale, value)))
  return { step: step / scale.factor, of }
}

function greatestDivisor(a: number, b: number): number {
  let [x, y] = [a, b]
  while (y > 0) [x, y] = [y, x % y]
  return x
}

/**
 * Among plans with equally little latency, memory or CPU, the one with less loss is wanted. Those goals count whole steps, so
 * a share of the loss that stays below half a step in all decides ties and nothing else. (Costs of swapping are no whole steps.)
 */
function lossShare(problem: Problem, goal: Goal, scales: Scales): number {
  if (goal.kind !== 'latency' && goal.kind !== 'memory' && goal.kind !== 'cpu') return 0
  const { ms, byte } = swapWeights(problem, goal)
  if (ms > 0 || byte > 0) return 0
  return scales.totalLoss > 0 ? 0.2 / (scales.totalLoss * scales.loss.factor) : 0
}

/**
 * `cores` 2.5 is two whole cores and a half one; each may be filled up to `utilisation`. Shared cores count as one large core.
 *
 * The product of three decimals is rounded by doubles, so the limit is wider by 1e-12 of itself.
 */
function coresOf({ utilisation, placement }: Problem, cores: number, loadOfCore: number): number[] {
  const share = (part: number) => Math.floor(part * (utilisation ?? UTILISATION) * loadOfCore * (1 + 1e-12))
  if (placement === 'shared') return [share(cores)]
  const whole = Math.floor(cores)
  const limits = Array.from({ length: whole }, () => share(1))
  if (cores > whole) limits.push(share(cores - whole))
  return limits
}

interface Scales {
  readonly latency: Scale
  readonly memory: Scale
  readonly loss: Scale
  /** whole rates of decimal rates: 29.97 counts as 2997 hundredths */
  readonly rate: Scale
  /** no plan loses more in all than this, nor gains more */
  readonly totalLoss: number
}

function scalesOf(problem: Problem): Scales {
  const total = { latency: 0, memory: 0, loss: 0 }
  const values = { latency: [] as number[], memory: [] as number[], loss: [] as number[] }
  for (const model of problem.models) {
    for (const { blocks } of variantsOf(model)) {
      for (const { choices } of blocks) {
        let [latency, memory, loss] = [0, 0, 0]
        for (const choice of choices) {
          values.latency.push(choice.latencyMs)
          values.memory.push(choice.memoryBytes)
          values.loss.push(choice.loss)
          latency = Math.max(latency, choice.latencyMs)
          memory = Math.max(memory, choice.memoryBytes)
          loss = Math.max(loss, Math.abs(choice.loss))
        }
        total.latency += latency
        total.memory += memory
        total.loss += loss
      }
    }
  }
  return {
    latency: scaleFor(values.latency, total.latency, 9),
    memory: scaleFor(values.memory, total.memory, 0),
    loss: scaleFor(values.loss, total.loss, 12),
    rate: wholeRates(problem.models.map((model) => model.rate ?? 0)),
    totalLoss: total.loss,
  }
}

const loadRateOf = (scale: Scale, rate: number): number => (scale.exact ? toSteps(scale, rate) : rate)

/** Rates with up to three decimals as whole numbers; others as they are, for loads are compared with a tolerance. */
function wholeRates(rates: readonly number[]): Scale {
  const most = rates.reduce((a, b) => Math.max(a, b), 0)
  const scale = scaleFor(rates, most, 3)
  return scale.exact ? scale : { factor: 1, exact: false }
}
