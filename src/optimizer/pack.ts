import { fillRooms } from './fill-rooms.ts'
import { rebalance } from './rebalance.ts'

/** Up to so many loads every way is tried; more have so many good ways that exchanges find one. */
const FEW_LOADS = 14
/** Placements looked at before giving up. */
const NODES = 50_000

/**
 * The core that each load goes to, so that no core is overfull; undefined when no way was found. Loads and room are whole steps.
 *
 * The largest load goes first; each goes where it leaves least room (which finds tight packings), then where most is left
 * (which balances), then every way is tried, or cores are filled as nearly as can be, or loads are exchanged.
 *
 * @param bound cores that are settled already; -1 for a model that may go anywhere
 */
export function pack(
  loads: readonly number[],
  room: readonly number[],
  bound?: readonly number[],
): number[] | undefined {
  const left = [...room]
  const cores = loads.map(() => -1)
  const open: number[] = []
  loads.forEach((load, m) => {
    const core = bound?.[m] ?? -1
    if (core < 0) open.push(m)
    else {
      cores[m] = core
      left[core]! -= load
    }
  })
  if (left.some((value) => value < 0)) return undefined
  open.sort((a, b) => loads[b]! - loads[a]! || a - b)
  const loaded = open.filter((m) => loads[m]! > 0)
  const total = loaded.reduce((sum, m) => sum + loads[m]!, 0)
  if (total > left.reduce((sum, value) => sum + value, 0)) return undefined
  const only = loaded.map((m) => loads[m]!)
  const found =
    greedy(only, left, (a, b) => b - a) ??
    greedy(only, left, (a, b) => a - b) ??
    (only.length > FEW_LOADS ? (fillRooms(only, left) ?? rebalance(only, left)) : everyWay(only, left))
  if (!found) return undefined
  loaded.forEach((m, i) => {
    cores[m] = found[i]!
  })
  spreadIdle(cores, room.length)
  return cores
}

function greedy(
  loads: readonly number[],
  room: readonly number[],
  better: (left: number, most: number) => number,
): number[] | undefined {
  const left = [...room]
  const placed: number[] = []
  for (const load of loads) {
    let best = -1
    for (let core = 0; core < left.length; core++) {
      if (left[core]! < load) continue
      if (best < 0 || better(left[core]!, left[best]!) > 0) best = core
    }
    if (best < 0) return undefined
    left[best]! -= load
    placed.push(best)
  }
  return placed
}

/** @param loads the largest first */
function everyWay(loads: readonly number[], room: readonly number[]): number[] | undefined {
  const left = [...room]
  const placed: number[] = []
  let nodes = 0
  const rest = new Float64Array(loads.length + 1)
  for (let i = loads.length - 1; i >= 0; i--) rest[i] = rest[i + 1]! + loads[i]!
  const smallest = loads.at(-1) ?? 0
  const place = (i: number): boolean => {
    if (i === loads.length) return true
    if (++nodes > NODES) return false
    // Room that is too small for every load left is lost.
    let usable = 0
    for (const value of left) if (value >= smallest) usable += value
    if (usable < rest[i]!) return false
    const load = loads[i]!
    const tried: number[] = []
    for (let core = 0; core < left.length; core++) {
      if (left[core]! < load || tried.includes(left[core]!)) continue
      tried.push(left[core]!)
      left[core]! -= load
      placed[i] = core
      if (place(i + 1)) return true
      left[core]! += load
    }
    return false
  }
  return place(0) ? placed : undefined
}

/** Models without a rate load no core for long: they go where fewest models are. */
function spreadIdle(cores: number[], count: number): void {
  const models = new Array<number>(count).fill(0)
  for (const core of cores) if (core >= 0) models[core]!++
  cores.forEach((core, m) => {
    if (core >= 0 || count === 0) return
    let least = 0
    for (let c = 1; c < count; c++) if (models[c]! < models[least]!) least = c
    models[least]!++
    cores[m] = least
  })
}
