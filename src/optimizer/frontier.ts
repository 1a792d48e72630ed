import { planOf } from './answer.ts'
import { explore } from './choose.ts'
import { compile, type ModelProgram, type Program, type VariantProgram } from './compile.ts'
import { parseProblem } from './parse.ts'
import { type Config, configOf, latencyLimitOf } from './price.ts'
import type { Plan, Problem } from './problem.ts'

/** What quality is weighed against: one picture through every model, memory, or busy cores at the models' rates. */
export type FrontierAxis = 'latency' | 'memory' | 'cpu'

export interface FrontierPoint {
  /** Σ weight·loss */
  readonly objective: number
  readonly totals: NonNullable<Plan['totals']>
  readonly models: Plan['models']
}

export interface OptimizerFrontier {
  readonly axis: FrontierAxis
  /** plans that no other beats in both loss and cost, the cheapest first */
  readonly points: readonly FrontierPoint[]
  /** 0: these are all of them. Otherwise no plan has a loss that is lower by more than this than the best point at its cost */
  readonly tolerance: number
}

/** Partial plans kept of one model, and of several together; where there are more, the curve is thinned by a known tolerance. */
const KEPT_OF_MODEL = 20_000
const KEPT_OF_MIX = 1000

/**
 * The whole trade-off between loss and one cost: every plan that no other beats in both.
 *
 * The models' own limits hold, and so do memory and the sum of all cores; on which core each model runs is a plan's matter.
 *
 *     frontier(problem, 'memory').points[0] // → the smallest plan, at the least loss that it can have
 *
 * @returns no points where no plan fits
 * @throws BlockscaleError PROBLEM_INVALID when the problem makes no sense
 */
export function frontier(json: Problem, axis: FrontierAxis): OptimizerFrontier {
  const program = compile(withAxis(parseProblem(json), axis), { kind: 'quality' })
  const shared = sharedDims(program, axis)
  const most = program.models.length === 1 ? KEPT_OF_MODEL : KEPT_OF_MIX
  const lists = program.models.map((model) => listOf(model, shared, most))
  if (lists.some(({ size }) => size === 0)) return { axis, points: [], tolerance: 0 }
  const whole = lists.reduce((mix, own) => thinned(added(mix, own, shared.map(limitOf)), most))
  const points = inOrderOfCost(whole).map((i) => pointOf(program, whole.parts(i)))
  return { axis, points, tolerance: whole.tolerance }
}

/** Limits so wide that they limit nothing, so that choices which only differ in the axis are told apart. */
const WIDE = 1e9

function withAxis(problem: Problem, axis: FrontierAxis): Problem {
  return {
    ...problem,
    swapWeight: 0,
    swapWeightPerMB: 0,
    ...(axis === 'memory' ? { memoryBytes: problem.memoryBytes ?? 2 ** 50 } : {}),
    ...(axis === 'memory'
      ? {}
      : { models: problem.models.map((model) => ({ ...model, maxLatencyMs: model.maxLatencyMs ?? WIDE })) }),
  }
}

/** What plans are compared in beside their loss, and its limit over all models. */
interface Dim {
  readonly of: (model: ModelProgram, variant: VariantProgram) => Float64Array
  readonly limit: number
}

const limitOf = ({ limit }: Dim): number => limit

/** The axis first, then the other limits that models share. */
function sharedDims(program: Program, axis: FrontierAxis): Dim[] {
  const { problem, memoryLimit, coreLimits } = program
  const room = coreLimits?.reduce((sum, limit) => sum + limit, 0) ?? Number.POSITIVE_INFINITY
  const dims: Record<FrontierAxis, Dim> = {
    latency: { of: (_, { latency }) => latency, limit: Number.POSITIVE_INFINITY },
    memory: { of: (_, { memory }) => memory, limit: memoryLimit },
    cpu: {
      of: ({ index, loadRate }, { latency }) => {
        const rate = coreLimits ? loadRate : (problem.models[index]!.rate ?? 0)
        return latency.map((steps) => steps * rate)
      },
      limit: room,
    },
  }
  const others = (['memory', 'cpu'] as const).filter(
    (other) => other !== axis && dims[other].limit < Number.POSITIVE_INFINITY,
  )
  return [dims[axis], ...others.map((other) => dims[other])]
}

/** Partial plans; as parts (the items of a model's blocks, or the configurations of models) and what they cost. */
interface List<Part> {
  readonly size: number
  readonly cost: Float64Array
  readonly dims: readonly Float64Array[]
  readonly parts: (i: number) => readonly Part[]
  readonly tolerance: number
}

/** Every configuration of a model within its own limits that is worth having. */
function listOf(model: ModelProgram, shared: readonly Dim[], most: number): List<Config> {
  const own = [
    { column: 'latency', limit: latencyLimitOf(model) },
    { column: 'loss', limit: model.lossLimit },
  ] as const
  const limited = own.filter(({ limit }) => limit < Number.POSITIVE_INFINITY)
  const limits = [...shared.map(limitOf), ...limited.map(({ limit }) => limit)]
  const lists = model.variants.map((variant, v): List<Config> => {
    const columns = [...shared.map(({ of }) => of(model, variant)), ...limited.map(({ column }) => variant[column])]
    const list = listOfBlocks(variant, columns, limits, most)
    return { ...list, parts: (i) => [configOf(model, v, Int32Array.from(list.parts(i)))] }
  })
  return thinned(unbeaten(joined(lists), shared.length), most)
}

function listOfBlocks(
  { start, cost }: VariantProgram,
  columns: readonly Float64Array[],
  limits: readonly number[],
  most: number,
): List<number> {
  // What the blocks so far may use: all but the least of those to come.
  const left = [...limits]
  const spare = (b: number, sign: 1 | -1) =>
    columns.forEach((column, j) => {
      left[j]! +=
        sign * column.subarray(start[b], start[b + 1]).reduce((a, x) => Math.min(a, x), Number.POSITIVE_INFINITY)
    })
  for (let b = 0; b + 1 < start.length; b++) spare(b, -1)
  let whole: List<number> = {
    size: 1,
    cost: new Float64Array(1),
    dims: columns.map(() => new Float64Array(1)),
    parts: () => [],
    tolerance: 0,
  }
  for (let b = 0; b + 1 < start.length; b++) {
    const first = start[b]!
    const end = start[b + 1]!
    const block: List<number> = {
      size: end - first,
      cost: cost.subarray(first, end),
      dims: columns.map((column) => column.subarray(first, end)),
      parts: (i) => [first + i],
      tolerance: 0,
    }
    spare(b, 1)
    whole = thinned(added(whole, block, left), most)
  }
  return whole
}

/** Every sum of one of `a` and one of `b` that keeps the limits and is not beaten. */
function added<Part>(a: List<Part>, b: List<Part>, limits: readonly number[]): List<Part> {
  const explored = explore(
    {
      start: Int32Array.of(0, a.size, a.size + b.size),
      key: both(a.cost, b.cost),
      dims: a.dims.map((dim, j) => both(dim, b.dims[j]!)),
      limits,
    },
    everything(a.dims.length),
  )
  const size = explored.keys.length
  const from = new Int32Array(size)
  const to = new Int32Array(size)
  for (let i = 0; i < size; i++) {
    const [x, y] = explored.picks(i)
    from[i] = x!
    to[i] = y! - a.size
  }
  return {
    size,
    cost: Float64Array.from(explored.keys),
    dims: a.dims.map((dim, j) => Float64Array.from(from, (x, i) => dim[x]! + b.dims[j]![to[i]!]!)),
    parts: (i) => [...a.parts(from[i]!), ...b.parts(to[i]!)],
    tolerance: a.tolerance + b.tolerance,
  }
}

/** Lists beside each other, such as those of a model's variants. */
function joined<Part>(lists: readonly List<Part>[]): List<Part> {
  const offsets = [0]
  for (const { size } of lists) offsets.push(offsets.at(-1)! + size)
  const all = (column: (list: List<Part>) => Float64Array) =>
    Float64Array.from(lists.flatMap((list) => [...column(list)]))
  return {
    size: offsets.at(-1)!,
    cost: all(({ cost }) => cost),
    dims: lists[0]!.dims.map((_, j) => all(({ dims }) => dims[j]!)),
    parts: (i) => {
      const at = offsets.findLastIndex((offset) => offset <= i)
      return lists[at]!.parts(i - offsets[at]!)
    },
    tolerance: Math.max(...lists.map(({ tolerance }) => tolerance)),
  }
}

/** Those that no other beats in loss and the first `count` dimensions; the other dimensions are let go. */
function unbeaten<Part>(list: List<Part>, count: number): List<Part> {
  const dims = list.dims.slice(0, count)
  const start = Int32Array.of(0, list.size)
  const limits = dims.map(() => Number.POSITIVE_INFINITY)
  const explored = explore({ start, key: list.cost, dims, limits }, everything(count))
  return taken(
    { ...list, dims },
    Array.from({ length: explored.keys.length }, (_, i) => explored.picks(i)[0]!),
  )
}

/** Positions of those that no other beats in loss and axis, the cheapest first; losses that differ by rounding alone are equal. */
function inOrderOfCost<Part>({ cost, dims, size }: List<Part>): number[] {
  const axis = dims[0]!
  const order = Array.from({ length: size }, (_, i) => i).sort((a, b) => axis[a]! - axis[b]! || cost[a]! - cost[b]!)
  let least = Number.POSITIVE_INFINITY
  return order.filter((i) => {
    if (!(cost[i]! < least - ROUNDING * Math.max(1, Math.abs(cost[i]!)))) return false
    least = cost[i]!
    return true
  })
}

const ROUNDING = 1e-12

/**
 * At most about `most` of a list: leaves out what another one replaces that costs no more of anything and has hardly more loss.
 * The list is in order of loss, least first; each that stays stands for those with less loss right before it.
 */
function thinned<Part>(list: List<Part>, most: number): List<Part> {
  if (list.size <= most) return list
  const { cost, dims, size } = list
  const range = cost[size - 1]! - cost[0]!
  for (let slack = range / (4 * most); slack > 0; slack *= 1.5) {
    const kept: number[] = []
    for (let i = size - 1; i >= 0; i--) {
      let isReplaced = false
      for (let k = kept.length - 1; k >= Math.max(0, kept.length - LOOKED_AT) && !isReplaced; k--) {
        const other = kept[k]!
        isReplaced = cost[other]! - cost[i]! <= slack && dims.every((dim) => dim[other]! <= dim[i]!)
      }
      if (!isReplaced) kept.push(i)
    }
    if (kept.length <= most || slack > range) {
      return { ...taken(list, kept.reverse()), tolerance: list.tolerance + slack }
    }
  }
  return list
}

/** How many of those that stay one is compared with; with the axis alone the last one is the one to look at. */
const LOOKED_AT = 32

function taken<Part>(list: List<Part>, kept: readonly number[]): List<Part> {
  return {
    ...list,
    size: kept.length,
    cost: Float64Array.from(kept, (i) => list.cost[i]!),
    dims: list.dims.map((dim) => Float64Array.from(kept, (i) => dim[i]!)),
    parts: (i) => list.parts(kept[i]!),
  }
}

const everything = (dims: number) => ({
  price: new Array<number>(dims).fill(0),
  waste: new Array<number>(dims).fill(0),
  gap: Number.POSITIVE_INFINITY,
  cap: Number.POSITIVE_INFINITY,
})

function both(a: Float64Array, b: Float64Array): Float64Array {
  const whole = new Float64Array(a.length + b.length)
  whole.set(a)
  whole.set(b, a.length)
  return whole
}

function pointOf(program: Program, configs: readonly Config[]): FrontierPoint {
  const cost = configs.reduce((sum, config) => sum + config.cost, 0)
  const { objective, totals, models } = planOf(program, { configs, cores: undefined, cost, lower: cost }, NO_PRICES, 0)
  return { objective: objective!, totals: totals!, models }
}

const NO_PRICES = new Float64Array(2)
