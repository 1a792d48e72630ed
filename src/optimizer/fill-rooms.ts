import { seededRandom, shuffled } from '../base/index.ts'
import { MOST_ITEMS, nearestSubset } from './subset-sums.ts'

/** Attempts, at most; each begins with another order of the loads. */
const ATTEMPTS = 120

/**
 * Places many loads on cores that they fill almost without room: one core after the other is filled as nearly as some of the loads
 * that are left can do it, and the last two divide the rest.
 *
 * Twenty loads have a million sums, so that a core is filled to about a millionth of it: nearly all room there is stays for the
 * last two cores. Undefined when no attempt succeeded.
 */
export function fillRooms(loads: readonly number[], room: readonly number[]): number[] | undefined {
  const random = seededRandom(loads.length)
  const all = loads.map((_, m) => m)
  // The largest first: what is left to the last two cores has to be small enough to be divided well.
  const order = room.map((_, core) => core).sort((a, b) => room[b]! - room[a]! || a - b)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const cores = fillOnce(loads, room, order, shuffled(all, random))
    if (cores) return cores
  }
  return undefined
}

function fillOnce(
  loads: readonly number[],
  room: readonly number[],
  order: readonly number[],
  models: readonly number[],
): number[] | undefined {
  const cores = loads.map(() => -1)
  let left = models
  for (const [i, core] of order.entries()) {
    const isLast = i === order.length - 1
    if (isLast) {
      const sum = left.reduce((total, m) => total + loads[m]!, 0)
      if (sum > room[core]!) return undefined
      for (const m of left) cores[m] = core
      return cores
    }
    const some = left.slice(0, MOST_ITEMS)
    const taken = nearestSubset(some, loads, room[core]!, true)
    some.forEach((m, k) => {
      if ((taken >> k) & 1) cores[m] = core
    })
    left = left.filter((m) => cores[m] === -1)
  }
  return cores
}
