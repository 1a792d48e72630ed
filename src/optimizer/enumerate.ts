import { explore } from './choose.ts'
import type { ModelProgram } from './compile.ts'
import { type Config, configOf, keysOf, latencyLimitOf, type Prices } from './price.ts'
import { relax } from './relax.ts'

export interface Enumerated {
  readonly configs: readonly Config[]
  /** every configuration that is not listed (nor beaten by a listed one) has at least this reduced cost */
  readonly beyond: number
  /** the least reduced cost among what the cap cut off; infinite when it cut off nothing */
  readonly dropped: number
  readonly work: number
}

/** What the rest of the problem leaves to this model, and what its configurations must differ in to be worth keeping. */
export interface Room {
  readonly memory: number
  readonly latency: number
  readonly memoryMatters: boolean
  readonly latencyMatters: boolean
}

/**
 * Every configuration of a model whose reduced cost (at `prices`) is at most `most`, without those that another one equals or
 * beats in cost, memory and latency.
 */
export function enumerate(model: ModelProgram, prices: Prices, most: number, room: Room, cap: number): Enumerated {
  const configs: Config[] = []
  let beyond = Number.POSITIVE_INFINITY
  let dropped = Number.POSITIVE_INFINITY
  let work = 0
  model.variants.forEach((variant, v) => {
    const latencyLimit = Math.min(latencyLimitOf(model), room.latency)
    const relaxed = relaxedFor(model, v, prices, latencyLimit)
    if (relaxed.bound > most || relaxed.bound === Number.POSITIVE_INFINITY) {
      beyond = Math.min(beyond, relaxed.bound)
      return
    }
    const dims: Float64Array[] = []
    const limits: number[] = []
    const price: number[] = []
    const waste: number[] = []
    if (room.memoryMatters) {
      dims.push(variant.memory)
      limits.push(room.memory)
      price.push(prices.memory)
      waste.push(0)
    }
    if (room.latencyMatters || latencyLimit < Number.POSITIVE_INFINITY) {
      dims.push(variant.latency)
      limits.push(latencyLimit)
      price.push(prices.latency + relaxed.latency)
      waste.push(relaxed.latency)
    }
    if (model.lossLimit < Number.POSITIVE_INFINITY) {
      dims.push(variant.loss)
      limits.push(model.lossLimit)
      price.push(relaxed.loss)
      waste.push(relaxed.loss)
    }
    const gap = most - relaxed.bound
    const explored = explore({ start: variant.start, key: variant.cost, dims, limits }, { price, waste, gap, cap })
    explored.keys.forEach((_, i) => {
      configs.push(configOf(model, v, explored.picks(i)))
    })
    beyond = Math.min(beyond, relaxed.bound + Math.min(gap, explored.dropped))
    dropped = Math.min(dropped, relaxed.bound + explored.dropped)
    work += explored.work
  })
  return { configs, beyond, dropped, work }
}

function relaxedFor(model: ModelProgram, v: number, prices: Prices, latencyLimit: number) {
  const variant = model.variants[v]!
  const { multipliers, bound } = relax({
    start: variant.start,
    key: keysOf(variant, prices),
    dims: [variant.latency, variant.loss],
    limits: [latencyLimit, model.lossLimit],
  })
  return { latency: multipliers[0]!, loss: multipliers[1]!, bound }
}
