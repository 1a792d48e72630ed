import { explore, type Groups } from './choose.ts'
import type { ModelProgram, VariantProgram } from './compile.ts'
import { relax } from './relax.ts'

/** One way to run a model: a variant and a choice for each of its blocks (positions in the variant's columns). */
export interface Config {
  readonly variant: number
  readonly picks: Int32Array
  readonly cost: number
  readonly latency: number
  readonly memory: number
  readonly loss: number
}

/** What is minimised for one model: cost · `cost` + memory · `memory` + latency · `latency`. */
export interface Prices {
  readonly cost: number
  readonly memory: number
  readonly latency: number
}

/** The best configuration of one model at some prices. */
export interface Priced {
  readonly config: Config
  readonly value: number
  /** no configuration within the model's own limits has a lesser value */
  readonly lower: number
}

/** Partial configurations kept while pricing. More cost time where loss and latency are strongly correlated, and gain little. */
const PRICING_CAP = 500

/**
 * The best configuration of a model within its own limits; undefined when it has none.
 *
 * @param exact false takes the hull relaxation as the bound and a good configuration as the answer, several times faster
 */
export function price(model: ModelProgram, prices: Prices, exact: boolean): Priced | undefined {
  let best: { variant: number; picks: Int32Array; value: number } | undefined
  let lower = Number.POSITIVE_INFINITY
  const relaxed = model.variants.map((variant) => {
    const groups = groupsOf(model, variant, keysOf(variant, prices))
    return { groups, ...relax(groups) }
  })
  relaxed.forEach(({ picks, key }, variant) => {
    if (picks && (!best || key < best.value)) best = { variant, picks, value: key }
  })
  relaxed.forEach(({ groups, bound, multipliers }, variant) => {
    const least = best?.value ?? Number.POSITIVE_INFINITY
    const noise = 1e-12 * Math.abs(bound)
    if (bound >= least - noise || !(bound < Number.POSITIVE_INFINITY)) {
      lower = Math.min(lower, Math.max(bound, Number.NEGATIVE_INFINITY))
      return
    }
    if (!exact && best) {
      lower = Math.min(lower, bound)
      return
    }
    const explored = explore(groups, {
      price: multipliers,
      waste: multipliers,
      gap: least - bound - noise,
      cap: PRICING_CAP,
    })
    const found = explored.keys[0]
    if (found !== undefined && found < least) best = { variant, picks: explored.picks(0), value: found }
    lower = Math.min(lower, bound + explored.dropped)
  })
  if (!best) return undefined
  const { variant, picks, value } = best as { variant: number; picks: Int32Array; value: number }
  return { config: configOf(model, variant, picks), value, lower: Math.min(lower, value) }
}

/** The latency that a model may have: its own limit, and what one core can do at its rate. */
export const latencyLimitOf = (model: ModelProgram): number => Math.min(model.latencyLimit, model.coreLatencyLimit)

export function keysOf(variant: VariantProgram, prices: Prices): Float64Array {
  const { cost, memory, latency } = variant
  const keys = new Float64Array(cost.length)
  for (let i = 0; i < keys.length; i++) {
    keys[i] = prices.cost * cost[i]! + prices.memory * memory[i]! + prices.latency * latency[i]!
  }
  return keys
}

function groupsOf(model: ModelProgram, variant: VariantProgram, key: Float64Array): Groups {
  const dims: Float64Array[] = []
  const limits: number[] = []
  const limited = (column: Float64Array, limit: number) => {
    if (limit === Number.POSITIVE_INFINITY) return
    dims.push(column)
    limits.push(limit)
  }
  limited(variant.latency, latencyLimitOf(model))
  limited(variant.loss, model.lossLimit)
  return { start: variant.start, key, dims, limits }
}

export function configOf(model: ModelProgram, variant: number, picks: Int32Array): Config {
  const columns = model.variants[variant]!
  return {
    variant,
    picks,
    cost: sumOf(columns.cost, picks),
    latency: sumOf(columns.latency, picks),
    memory: sumOf(columns.memory, picks),
    loss: sumOf(columns.loss, picks),
  }
}

function sumOf(column: Float64Array, picks: Int32Array): number {
  let total = 0
  for (let g = 0; g < picks.length; g++) total += column[picks[g]!]!
  return total
}
