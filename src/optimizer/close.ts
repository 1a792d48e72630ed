import { explore } from './choose.ts'
import { type Enumerated, enumerate, type Room } from './enumerate.ts'
import { configsOf, fillCore, joinCores } from './fill-cores.ts'
import type { Config } from './price.ts'
import { pricesFor } from './rows.ts'
import type { Standing } from './standing.ts'

export interface CloseOptions {
  /** configurations listed of each model, at most */
  readonly listed: number
  /** combinations of configurations looked at, at most (about) */
  readonly work: number
}

/**
 * Closes the gap between the best plan and the bound: lists every configuration whose reduced cost is within the gap, and chooses
 * one for each model.
 *
 * A better plan can only be made of those, for the reduced costs of its configurations add up to less than the gap. What the
 * caps cut off limits what is proven, not what is found.
 */
export function closeGap(standing: Standing, { listed, work }: CloseOptions): void {
  const { program, rows, duals, root, leastReduced } = standing
  // A little more than the gap, so that rounding does not leave a sliver of it open.
  const ceiling = standing.ceiling()
  const sliver = ceiling < Number.POSITIVE_INFINITY ? 1e-7 * program.costStep + 1e-13 * Math.abs(ceiling) : 0
  const gap = standing.gap(root) * (1 + 1e-9) + sliver
  const room = roomOf(standing)
  const lists = program.models.map((model, m) =>
    enumerate(model, pricesFor(rows, model, m, duals), leastReduced[m]! + gap, room(m), listed),
  )
  const chosen = rows.cores ? chooseByCore(standing, lists, gap, work) : chooseAtOnce(standing, lists, gap, work)
  if (chosen.configs) {
    standing.offer(chosen.configs)
    if (!standing.isSettled()) standing.offerImproved(chosen.configs)
  }
  const beyond = lists.reduce(
    (least, list, m) => Math.min(least, root + list.beyond - leastReduced[m]!),
    root + chosen.dropped,
  )
  // The best plan is among what was listed and chosen from, unless it costs at least `beyond`.
  standing.lower = Math.max(standing.lower, Math.min(beyond, standing.ceiling()))
}

interface Chosen {
  readonly configs: readonly Config[] | undefined
  /** plans that were cut off exceed the bound of the prices by at least this */
  readonly dropped: number
}

function chooseAtOnce(standing: Standing, lists: readonly Enumerated[], gap: number, work: number): Chosen {
  const { rows, duals } = standing
  const start = new Int32Array(lists.length + 1)
  lists.forEach(({ configs }, m) => {
    start[m + 1] = start[m]! + configs.length
  })
  const all = lists.flatMap(({ configs }) => configs)
  const uses = lists.flatMap(({ configs }, m) => configs.map((config) => standing.useOfOne(m, config)))
  const explored = explore(
    {
      start,
      key: Float64Array.from(all, (config) => config.cost),
      dims: rows.limits.map((_, r) => Float64Array.from(uses, (use) => use[r]!)),
      limits: rows.limits,
    },
    { price: [...duals], waste: [...duals], gap, cap: capOf(work, all.length) },
  )
  const configs = explored.keys.length > 0 ? Array.from(explored.picks(0), (i) => all[i]!) : undefined
  return { configs, dropped: explored.dropped }
}

/** Where every model is bound to a core: one core after the other, so that at any time only one core's load is looked at. */
function chooseByCore(standing: Standing, lists: readonly Enumerated[], gap: number, work: number): Chosen {
  const { program, rows, duals, root, leastReduced: least } = standing
  const memoryPrice = rows.memory >= 0 ? duals[rows.memory]! : 0
  const menu = { program, lists, memoryLimit: program.memoryLimit, memoryPrice, least, root, gap }
  const items = lists.reduce((sum, { configs }) => sum + configs.length, 0)
  const idle = { room: Number.POSITIVE_INFINITY, price: 0 }
  const ways = [-1, ...rows.cores!].flatMap((row) => {
    const models = program.models.flatMap((_, m) => ((rows.loads[m]![0] ?? -1) === row ? [m] : []))
    if (models.length === 0) return []
    return [
      fillCore(menu, models, row < 0 ? idle : { room: rows.limits[row]!, price: duals[row]! }, capOf(work, items)),
    ]
  })
  const joined = joinCores(menu, ways, capOf(work, items))
  return {
    configs: configsOf(joined, ways),
    dropped: ways.reduce((least, { dropped }) => Math.min(least, dropped), joined.dropped),
  }
}

const capOf = (work: number, items: number): number => Math.max(20, Math.min(10_000, Math.floor(work / items)))

/** What the lightest configurations of all other models leave to one model. */
function roomOf(standing: Standing): (m: number) => Room {
  const { program, rows } = standing
  const left = rows.limits.map((limit, r) => limit - standing.leastUse(r))
  const room = (m: number, r: number) => left[r]! + standing.leastUseOf(m, r)
  return (m) => ({
    memory: rows.memory >= 0 ? room(m, rows.memory) : Number.POSITIVE_INFINITY,
    latency: rows.loads[m]!.reduce(
      (least, r) => Math.min(least, room(m, r) / program.models[m]!.loadRate),
      Number.POSITIVE_INFINITY,
    ),
    memoryMatters: rows.memory >= 0,
    latencyMatters: rows.loads[m]!.length > 0,
  })
}
