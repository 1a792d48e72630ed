import { seededRandom, shuffled } from '../base/index.ts'
import { MOST_ITEMS, nearestSubset } from './subset-sums.ts'

/** Attempts, at most; each looks at all ways to divide some loads between two cores. */
const TURNS = 3000

/**
 * Places many loads on cores that they fill almost without room: the fullest core and another one divide their loads anew, in the
 * way that leaves both nearest to equally full, until none is overfull. Undefined when that was not found.
 *
 * With a dozen loads between two cores some division meets almost any target to 1e-4 of a core, and there is always another pair.
 */
export function rebalance(loads: readonly number[], room: readonly number[]): number[] | undefined {
  const random = seededRandom(loads.length)
  const left = [...room]
  const cores = spread(loads, left)
  const move = (m: number, core: number) => {
    left[cores[m]!]! += loads[m]!
    left[core]! -= loads[m]!
    cores[m] = core
  }
  let unchanged = 0
  for (let turn = 0; turn < TURNS; turn++) {
    const full = fullest(left)
    if (left[full]! >= 0) return cores
    const other = (full + 1 + Math.floor(random() * (left.length - 1))) % left.length
    const before = left[full]!
    const free = divided(cores, full, other, random)
    let own = 0
    for (const m of free) if (cores[m] === full) own += loads[m]!
    const inFull = nearestSubset(free, loads, own - (left[other]! - left[full]!) / 2)
    for (let i = 0; i < free.length; i++) move(free[i]!, (inFull >> i) & 1 ? full : other)
    unchanged = left[full] === before ? unchanged + 1 : 0
    if (unchanged < left.length) continue
    // No pair does better: two exchanges at random, and on from there.
    unchanged = 0
    for (let i = 0; i < 2; i++) {
      const [a, b] = [Math.floor(random() * loads.length), Math.floor(random() * loads.length)]
      const [coreOfA, coreOfB] = [cores[a]!, cores[b]!]
      move(a, coreOfB)
      move(b, coreOfA)
    }
  }
  return undefined
}

function fullest(left: readonly number[]): number {
  let full = 0
  for (let core = 1; core < left.length; core++) if (left[core]! < left[full]!) full = core
  return full
}

/** The loads of two cores, or some of them. */
function divided(cores: readonly number[], a: number, b: number, random: () => number): readonly number[] {
  const here: number[] = []
  for (let m = 0; m < cores.length; m++) if (cores[m] === a || cores[m] === b) here.push(m)
  return here.length <= MOST_ITEMS ? here : shuffled(here, random).slice(0, MOST_ITEMS)
}

/** The largest first, each to the core with most room. */
function spread(loads: readonly number[], left: number[]): number[] {
  const cores = loads.map(() => 0)
  const order = loads.map((_, m) => m).sort((a, b) => loads[b]! - loads[a]! || a - b)
  for (const m of order) {
    const core = left.reduce((most, value, c) => (value > left[most]! ? c : most), 0)
    cores[m] = core
    left[core]! -= loads[m]!
  }
  return cores
}
