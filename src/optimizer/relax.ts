import type { Groups } from './choose.ts'

/** Multipliers of the limits of a choice problem, the bound they prove, and the best choice met on the way. */
export interface Relaxed {
  /** one for each dimension; 0 where the limit does not bind or is infinite */
  readonly multipliers: readonly number[]
  /** no choice within the limits has a lesser key */
  readonly bound: number
  /** a choice within the limits; undefined when none was met (with one limit: when none exists) */
  readonly picks: Int32Array | undefined
  readonly key: number
}

interface Point {
  readonly picks: Int32Array
  readonly key: number
  readonly sums: readonly number[]
}

const ROUNDS = 40

/**
 * The Lagrangian (hull) relaxation of "one item of each group" under at most two finite limits.
 *
 * One limit: the line through the best choice that breaks it and the best one that keeps it gives the next multiplier, until no
 * choice lies below the line: a handful of evaluations, exact. Two: the same, inside a bisection on the second multiplier.
 */
export function relax(groups: Groups): Relaxed {
  const limited = groups.limits.flatMap((limit, j) => (limit < Number.POSITIVE_INFINITY ? [j] : []))
  const best: { point: Point | undefined } = { point: undefined }
  const meet = (point: Point): Point => {
    const fits = limited.every((j) => point.sums[j]! <= groups.limits[j]!)
    if (fits && (!best.point || point.key < best.point.key)) best.point = point
    return point
  }
  const [first, second] = limited
  let found: { readonly multipliers: readonly number[]; readonly bound: number }
  if (first === undefined) {
    found = { multipliers: groups.dims.map(() => 0), bound: meet(evaluate(groups, [], [])).key }
  } else if (second === undefined) {
    const { multiplier, bound } = alongOne(groups, first, [], [], meet)
    found = { multipliers: groups.dims.map((_, j) => (j === first ? multiplier : 0)), bound }
  } else {
    found = alongTwo(groups, first, second, meet)
  }
  const point = best.point && fill(groups, best.point)
  return { ...found, picks: point?.picks, key: point?.key ?? Number.POSITIVE_INFINITY }
}

/** The best item of each group at the given prices; of equals the one that uses less. */
function evaluate({ start, key, dims }: Groups, priced: readonly number[], prices: readonly number[]): Point {
  const picks = new Int32Array(start.length - 1)
  const sums = dims.map(() => 0)
  let total = 0
  for (let g = 0; g + 1 < start.length; g++) {
    let best = -1
    let least = Number.POSITIVE_INFINITY
    for (let i = start[g]!; i < start[g + 1]!; i++) {
      let value = key[i]!
      for (let p = 0; p < priced.length; p++) value += prices[p]! * dims[priced[p]!]![i]!
      if (value < least || (value === least && uses(dims, i) < uses(dims, best))) {
        least = value
        best = i
      }
    }
    picks[g] = best
    total += key[best]!
    for (let j = 0; j < dims.length; j++) sums[j]! += dims[j]![best]!
  }
  return { picks, key: total, sums }
}

function uses(dims: readonly Float64Array[], item: number): number {
  let sum = 0
  for (const dim of dims) sum += dim[item]!
  return sum
}

/** The choice that uses least of one dimension; of equals the one with the least key. */
function lightest({ start, key, dims }: Groups, j: number): Point {
  const picks = new Int32Array(start.length - 1)
  const dim = dims[j]!
  for (let g = 0; g + 1 < start.length; g++) {
    let best = start[g]!
    for (let i = best + 1; i < start[g + 1]!; i++) {
      if (dim[i]! < dim[best]! || (dim[i]! === dim[best]! && key[i]! < key[best]!)) best = i
    }
    picks[g] = best
  }
  return pointOf(picks, key, dims)
}

function pointOf(picks: Int32Array, key: Float64Array, dims: readonly Float64Array[]): Point {
  let total = 0
  for (const item of picks) total += key[item]!
  return {
    picks,
    key: total,
    sums: dims.map((dim) => picks.reduce((sum, item) => sum + dim[item]!, 0)),
  }
}

interface Line {
  readonly multiplier: number
  readonly bound: number
  /** the two choices between which the relaxation mixes, and the share of the one that breaks the limit */
  readonly above: Point
  readonly below: Point
  readonly share: number
}

/** The best multiplier of dimension `j` while others are priced; bound 'infinite' when no choice keeps the limit. */
function alongOne(
  groups: Groups,
  j: number,
  others: readonly number[],
  prices: readonly number[],
  meet: (point: Point) => Point,
): Line {
  const limit = groups.limits[j]!
  const value = (point: Point) => others.reduce((sum, o, p) => sum + prices[p]! * point.sums[o]!, point.key)
  let above = meet(evaluate(groups, others, prices))
  if (above.sums[j]! <= limit) return { multiplier: 0, bound: value(above), above, below: above, share: 0 }
  let below = meet(lightest(groups, j))
  if (below.sums[j]! > limit) {
    return { multiplier: 0, bound: Number.POSITIVE_INFINITY, above: below, below, share: 0 }
  }
  let multiplier = 0
  let bound = value(above)
  for (let round = 0; round < ROUNDS; round++) {
    const slope = (value(below) - value(above)) / (above.sums[j]! - below.sums[j]!)
    if (!(slope > 0)) break
    const point = meet(evaluate(groups, [...others, j], [...prices, slope]))
    const reached = value(point) + slope * (point.sums[j]! - limit)
    if (reached > bound) {
      bound = reached
      multiplier = slope
    }
    const line = value(above) + slope * (above.sums[j]! - limit)
    if (reached >= line - 1e-13 * Math.abs(line)) break
    if (point.sums[j]! > limit) above = point
    else below = point
  }
  const share = (limit - below.sums[j]!) / Math.max(above.sums[j]! - below.sums[j]!, Number.MIN_VALUE)
  return { multiplier, bound, above, below, share }
}

function alongTwo(groups: Groups, first: number, second: number, meet: (point: Point) => Point) {
  const limit = groups.limits[second]!
  let best = { multipliers: groups.dims.map(() => 0), bound: Number.NEGATIVE_INFINITY }
  const at = (price: number): number => {
    const line = alongOne(groups, first, [second], [price], meet)
    const bound = line.bound - price * limit
    if (bound > best.bound) {
      best = {
        multipliers: groups.dims.map((_, j) => (j === first ? line.multiplier : j === second ? price : 0)),
        bound,
      }
    }
    return line.share * line.above.sums[second]! + (1 - line.share) * line.below.sums[second]! - limit
  }
  meet(lightest(groups, second))
  if (at(0) <= 0 || best.bound === Number.POSITIVE_INFINITY) return best
  const spread = (column: Float64Array) =>
    column.reduce((m, x) => Math.max(m, x), 0) - column.reduce((m, x) => Math.min(m, x), 0)
  let low = 0
  let high = Math.max(spread(groups.key), 1e-12) / Math.max(spread(groups.dims[second]!), 1e-12)
  for (let round = 0; round < ROUNDS && at(high) > 0; round++) {
    low = high
    high *= 4
  }
  for (let round = 0; round < 24; round++) {
    const middle = (low + high) / 2
    if (at(middle) > 0) low = middle
    else high = middle
  }
  return best
}

/** Single exchanges that lessen the key and stay within the limits, the best first, until there is none. */
function fill({ start, key, dims, limits }: Groups, point: Point): Point {
  const picks = Int32Array.from(point.picks)
  const sums = [...point.sums]
  for (let round = 0; round < ROUNDS; round++) {
    let best = -1
    let bestGroup = -1
    let gain = 0
    for (let g = 0; g + 1 < start.length; g++) {
      const now = picks[g]!
      for (let i = start[g]!; i < start[g + 1]!; i++) {
        const saved = key[now]! - key[i]!
        if (saved <= gain) continue
        let fits = true
        for (let j = 0; j < dims.length && fits; j++) fits = sums[j]! + dims[j]![i]! - dims[j]![now]! <= limits[j]!
        if (!fits) continue
        gain = saved
        best = i
        bestGroup = g
      }
    }
    if (best < 0) break
    for (let j = 0; j < dims.length; j++) sums[j]! += dims[j]![best]! - dims[j]![picks[bestGroup]!]!
    picks[bestGroup] = best
  }
  return pointOf(picks, key, dims)
}
