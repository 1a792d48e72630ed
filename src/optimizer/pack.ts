/** Which core each model runs on, so that no core is overfull. */
export interface Packing {
  readonly cores: readonly number[] | undefined
  /** whether "none" is proven */
  readonly proven: boolean
}

/** Placements looked at before giving up; enough to settle a dozen models, and a second at most. */
const NODES = 200_000

/**
 * Places `loads` on cores with the given room; loads and room are whole steps.
 *
 * The largest load goes first; each goes where it leaves least room (which finds tight packings), then where most is left
 * (which balances), then every way is tried.
 *
 * @param bound cores that are settled already; -1 for a model that may go anywhere
 */
export function pack(loads: readonly number[], room: readonly number[], bound?: readonly number[]): Packing {
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
  if (left.some((value) => value < 0)) return { cores: undefined, proven: true }
  open.sort((a, b) => loads[b]! - loads[a]! || a - b)
  const loaded = open.filter((m) => loads[m]! > 0)
  const total = loaded.reduce((sum, m) => sum + loads[m]!, 0)
  if (total > left.reduce((sum, value) => sum + value, 0)) return { cores: undefined, proven: true }
  const placed = greedy(loaded, loads, left, (a, b) => b - a) ?? greedy(loaded, loads, left, (a, b) => a - b)
  const found = placed ?? everyWay(loaded, loads, left)
  if (found === 'none' || found === 'unknown') return { cores: undefined, proven: found === 'none' }
  loaded.forEach((m, i) => {
    cores[m] = found[i]!
  })
  spreadIdle(cores, room.length)
  return { cores, proven: true }
}

function greedy(
  order: readonly number[],
  loads: readonly number[],
  room: readonly number[],
  better: (left: number, most: number) => number,
): number[] | undefined {
  const left = [...room]
  const placed: number[] = []
  for (const m of order) {
    let best = -1
    for (let core = 0; core < left.length; core++) {
      if (left[core]! < loads[m]!) continue
      if (best < 0 || better(left[core]!, left[best]!) > 0) best = core
    }
    if (best < 0) return undefined
    left[best]! -= loads[m]!
    placed.push(best)
  }
  return placed
}

function everyWay(
  order: readonly number[],
  loads: readonly number[],
  room: readonly number[],
): number[] | 'none' | 'unknown' {
  const left = [...room]
  const placed: number[] = []
  let nodes = 0
  const rest = new Float64Array(order.length + 1)
  for (let i = order.length - 1; i >= 0; i--) rest[i] = rest[i + 1]! + loads[order[i]!]!
  const smallest = order.length > 0 ? loads[order[order.length - 1]!]! : 0
  const place = (i: number): boolean => {
    if (i === order.length) return true
    if (++nodes > NODES) return false
    // Room that is too small for every load left is lost.
    let usable = 0
    for (const value of left) if (value >= smallest) usable += value
    if (usable < rest[i]!) return false
    const load = loads[order[i]!]!
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
  if (place(0)) return placed
  return nodes > NODES ? 'unknown' : 'none'
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
