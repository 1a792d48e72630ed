import { seededRandom, shuffled } from '../base/index.ts'

/** Attempts, at most; each looks at all ways to divide some loads between two cores. */
const TURNS = 12_000
/** Loads divided anew at once: a million ways, found by halves. */
const DIVIDED = 20

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
    const full = left.reduce((least, value, core) => (value < left[least]! ? core : least), 0)
    if (left[full]! >= 0) return cores
    const other = (full + 1 + Math.floor(random() * (left.length - 1))) % left.length
    const before = left[full]!
    const here = loads.flatMap((_, m) => (cores[m] === full || cores[m] === other ? [m] : []))
    const free = shuffled(here, random).slice(0, DIVIDED)
    const own = free.reduce((sum, m) => (cores[m] === full ? sum + loads[m]! : sum), 0)
    const inFull = nearest(free, loads, own - (left[other]! - left[full]!) / 2)
    free.forEach((m, i) => {
      move(m, inFull[i] ? full : other)
    })
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

/** Which of the loads add up to a sum nearest to `target`: the sums of one half, in order, against those of the other. */
function nearest(free: readonly number[], loads: readonly number[], target: number): boolean[] {
  const half = free.length >> 1
  const [one, two] = [sumsOf(free.slice(0, half), loads), sumsOf(free.slice(half), loads)]
  let best = Number.POSITIVE_INFINITY
  let [a, b] = [0, 0]
  let j = two.order.length - 1
  for (const i of one.order) {
    const sum = one.sums[i]!
    for (;;) {
      const k = two.order[j]!
      const off = sum + two.sums[k]! - target
      if (Math.abs(off) < best) {
        best = Math.abs(off)
        ;[a, b] = [i, k]
      }
      if (off <= 0 || j === 0) break
      j--
    }
  }
  return free.map((_, i) => (i < half ? (a >> i) & 1 : (b >> (i - half)) & 1) === 1)
}

/** The sums of all subsets, and their order. */
function sumsOf(items: readonly number[], loads: readonly number[]): { sums: Float64Array; order: Int32Array } {
  const sums = new Float64Array(2 ** items.length)
  items.forEach((m, i) => {
    for (let set = 0; set < 2 ** i; set++) sums[2 ** i + set] = sums[set]! + loads[m]!
  })
  // Merging the sums without an item and those with it keeps them in order, without sorting.
  let order = Int32Array.of(0)
  for (let size = 1; size < sums.length; size *= 2) {
    const next = new Int32Array(2 * size)
    let [x, y] = [0, 0]
    for (let i = 0; i < next.length; i++) {
      const takeX = y >= size || (x < size && sums[order[x]!]! <= sums[size + order[y]!]!)
      next[i] = takeX ? order[x++]! : size + order[y++]!
    }
    order = next
  }
  return { sums, order }
}
