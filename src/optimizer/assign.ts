import { seededRandom, shuffled } from '../base/index.ts'

/** Starts that exchanges improve. */
const STARTS = 60

/**
 * Assignments of loads to cores that overfill the cores least, the best first, all different.
 *
 * The loads belong to one plan that could not be placed. A plan with almost these loads can be placed when an assignment overfills
 * hardly at all: its choices then change a little to fit, at almost no cost.
 */
export function assignments(loads: readonly number[], room: readonly number[], count: number): number[][] {
  const order = loads.map((_, m) => m).sort((a, b) => loads[b]! - loads[a]! || a - b)
  const found: { readonly overfill: number; readonly cores: number[] }[] = []
  // Largest first is a good start; others in a seeded random order, so that equal problems get equal answers.
  const random = seededRandom(loads.length)
  for (let start = 0; start < STARTS; start++) {
    const sequence = start === 0 ? order : shuffled(order, random)
    const one = improved(spread(sequence, loads, room), loads, room)
    // The same overfill is the same assignment: cores have changed names, or equal loads places.
    if (!found.some(({ overfill }) => overfill === one.overfill)) found.push(one)
  }
  found.sort((x, y) => x.overfill - y.overfill)
  return found.slice(0, count).map(({ cores }) => cores)
}

/**
 * Every assignment, those that overfill least first; cores of equal room that are still empty count as one.
 *
 * @param lightest what each model loads at least; assignments that cannot hold even that are left out
 */
export function everyAssignment(
  loads: readonly number[],
  lightest: readonly number[],
  room: readonly number[],
): number[][] {
  const found: { readonly overfill: number; readonly cores: number[] }[] = []
  const left = [...room]
  const used = room.map(() => 0)
  const cores = loads.map(() => 0)
  const overfill = () =>
    room.reduce((sum, limit, core) => {
      const load = loads.reduce((total, value, n) => (cores[n] === core ? total + value : total), 0)
      return sum + square(load - limit)
    }, 0)
  const place = (m: number): void => {
    if (m === loads.length) {
      found.push({ overfill: overfill(), cores: [...cores] })
      return
    }
    const empty = new Set<number>()
    for (let core = 0; core < room.length; core++) {
      if (used[core] === 0) {
        if (empty.has(room[core]!)) continue
        empty.add(room[core]!)
      }
      if (lightest[m]! > left[core]!) continue
      left[core]! -= lightest[m]!
      used[core]!++
      cores[m] = core
      place(m + 1)
      used[core]!--
      left[core]! += lightest[m]!
    }
  }
  place(0)
  return found.sort((x, y) => x.overfill - y.overfill).map((one) => one.cores)
}

const square = (value: number): number => (value > 0 ? value * value : 0)

/** One after the other, each to the core with most room. */
function spread(sequence: readonly number[], loads: readonly number[], room: readonly number[]): number[] {
  const left = [...room]
  const cores = loads.map(() => 0)
  for (const m of sequence) {
    const core = left.reduce((most, value, c) => (value > left[most]! ? c : most), 0)
    cores[m] = core
    left[core]! -= loads[m]!
  }
  return cores
}

/** Moves a load, or exchanges two, while that lessens the overfill. */
function improved(
  start: readonly number[],
  loads: readonly number[],
  room: readonly number[],
): { overfill: number; cores: number[] } {
  const cores = [...start]
  const left = [...room]
  cores.forEach((core, m) => {
    left[core]! -= loads[m]!
  })
  const total = () => left.reduce((sum, value) => sum + square(-value), 0)
  /** what changes when `load` more goes from core a to core b */
  const effect = (a: number, b: number, load: number) =>
    square(-left[a]! - load) + square(-left[b]! + load) - square(-left[a]!) - square(-left[b]!)
  for (let round = 0; round < 10 * loads.length; round++) {
    let best: { readonly gain: number; readonly m: number; readonly n: number; readonly core: number } | undefined
    const consider = (gain: number, m: number, n: number, core: number) => {
      if (gain < (best?.gain ?? -1e-9)) best = { gain, m, n, core }
    }
    loads.forEach((load, m) => {
      const a = cores[m]!
      for (let core = 0; core < room.length; core++) if (core !== a) consider(effect(a, core, load), m, -1, core)
      for (let n = m + 1; n < loads.length; n++) {
        if (cores[n] !== a) consider(effect(a, cores[n]!, load - loads[n]!), m, n, cores[n]!)
      }
    })
    if (!best) break
    const { m, n, core } = best as { m: number; n: number; core: number }
    const a = cores[m]!
    const moved = loads[m]! - (n < 0 ? 0 : loads[n]!)
    left[a]! += moved
    left[core]! -= moved
    cores[m] = core
    if (n >= 0) cores[n] = a
  }
  return { overfill: total(), cores }
}
