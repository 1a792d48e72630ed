/** Items that are looked at together, at most: a million subsets, found by halves. */
export const MOST_ITEMS = 20

/**
 * The subset whose loads add up to the sum nearest to `target`: the sums of one half, in order, against those of the other
 * (Horowitz and Sahni, 1974).
 *
 * @param items positions in `loads`, at most `MOST_ITEMS`
 * @param below only sums that do not exceed the target
 * @returns a bit for each item
 */
export function nearestSubset(
  items: readonly number[],
  loads: readonly number[],
  target: number,
  below = false,
): number {
  const half = items.length >> 1
  const one = sumsOf(items, 0, half, loads, HALVES[0])
  const two = sumsOf(items, half, items.length, loads, HALVES[1])
  let best = Number.POSITIVE_INFINITY
  let bits = 0
  let k = two.size - 1
  for (let i = 0; i < one.size; i++) {
    for (;;) {
      const off = one.sums[i]! + two.sums[k]! - target
      if (Math.abs(off) < best && !(below && off > 0)) {
        best = Math.abs(off)
        bits = one.sets[i]! | (two.sets[k]! << half)
      }
      if (off <= 0 || k === 0) break
      k--
    }
  }
  return bits
}

/** Sums in order, and the subset (as bits) that each belongs to. */
interface Sums {
  readonly sums: Float64Array
  readonly sets: Int32Array
}

const sumsFor = (items: number): Sums => ({ sums: new Float64Array(2 ** items), sets: new Int32Array(2 ** items) })

/** Room for the sums of each half, twice: they are written from one to the other. Taken once, as it is used thousands of times. */
const HALVES = [0, 1].map(() => [sumsFor(MOST_ITEMS / 2), sumsFor(MOST_ITEMS / 2)] as const) as unknown as readonly [
  readonly [Sums, Sums],
  readonly [Sums, Sums],
]

/** The sums of all subsets, in order: those without an item and those with it are merged, so nothing has to be sorted. */
function sumsOf(
  items: readonly number[],
  from: number,
  to: number,
  loads: readonly number[],
  room: readonly [Sums, Sums],
): Sums & { readonly size: number } {
  let [now, next] = room
  now.sums[0] = 0
  now.sets[0] = 0
  let size = 1
  for (let item = from; item < to; item++) {
    const load = loads[items[item]!]!
    const bit = 1 << (item - from)
    let [x, y] = [0, 0]
    for (let i = 0; i < 2 * size; i++) {
      if (y >= size || (x < size && now.sums[x]! <= now.sums[y]! + load)) {
        next.sums[i] = now.sums[x]!
        next.sets[i] = now.sets[x++]!
      } else {
        next.sums[i] = now.sums[y]! + load
        next.sets[i] = now.sets[y++]! | bit
      }
    }
    size *= 2
    ;[now, next] = [next, now]
  }
  return { ...now, size }
}
