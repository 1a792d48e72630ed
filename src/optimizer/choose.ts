/**
 * "One item of each group": least key under limits, the kernel of the whole optimizer.
 *
 * Groups are the blocks of a model with their choices, or the models with their configurations. `dims` are what limits (or
 * other rows, then with an infinite limit) look at; two partial choices are compared in the key and in every dimension.
 */
export interface Groups {
  /** group `g` owns the items `start[g]` to `start[g + 1] - 1` */
  readonly start: Int32Array
  readonly key: Float64Array
  readonly dims: readonly Float64Array[]
  readonly limits: readonly number[]
}

export interface ExploreOptions {
  /** what one unit of each dimension costs when an item is judged: excess = key + Σ price · dim − the least of its group */
  readonly price: readonly number[]
  /** the part of `price` that belongs to the dimension's own limit: what is left of the limit in the end was paid in vain */
  readonly waste: readonly number[]
  /** choices whose excess and waste add up to more than this are not wanted */
  readonly gap: number
  /** partial choices kept after each group */
  readonly cap: number
}

/** Complete choices in order of their key. None beats another in key and all dimensions. */
export interface Explored {
  readonly keys: Float64Array
  /** the item (its position, not its offset in the group) taken from each group, for choice `i` */
  picks(i: number): Int32Array
  /** the least excess among what the cap cut off; infinite when nothing was */
  readonly dropped: number
  /** partial choices looked at: a measure of work that is the same on every machine */
  readonly work: number
}

interface Stage {
  count: number
  key: Float64Array
  excess: Float64Array
  dims: Float64Array[]
  parent: Int32Array
  item: Int32Array
}

/** Label-setting search over the groups: exact when nothing was dropped. */
export function explore(groups: Groups, options: ExploreOptions): Explored {
  const core = coreOf(groups, options)
  const stages: Stage[] = []
  let stage: Stage = {
    count: 1,
    key: new Float64Array(1),
    excess: new Float64Array(1),
    dims: groups.dims.map(() => new Float64Array(1)),
    parent: new Int32Array(1),
    item: new Int32Array(1),
  }
  let dropped = Number.POSITIVE_INFINITY
  let work = 0
  for (let g = 0; g < core.order.length; g++) {
    const candidates = extend(groups, core, options, stage, g)
    work += candidates.count
    const kept = withoutBeaten(candidates, mergeRuns(candidates))
    stage = take(candidates, kept)
    if (stage.count > options.cap) {
      const cut = cutTo(stage, options.cap)
      dropped = Math.min(dropped, cut.dropped)
      stage = take(stage, cut.kept)
    }
    stages.push(stage)
  }
  const last = stage
  return {
    keys: last.key.subarray(0, last.count),
    picks(i) {
      const picks = new Int32Array(core.order.length)
      let at = i
      for (let g = core.order.length - 1; g >= 0; g--) {
        picks[core.order[g]!] = stages[g]!.item[at]!
        at = stages[g]!.parent[at]!
      }
      return picks
    },
    dropped,
    work,
  }
}

interface Core {
  /** the groups, those with few items left first */
  readonly order: readonly number[]
  /** items of each group (in that order) whose own excess is within the gap, by key */
  readonly items: readonly Int32Array[]
  readonly excess: Float64Array
  /** least and most that groups g, g + 1, … can add to a dimension */
  readonly least: readonly Float64Array[]
  readonly most: readonly Float64Array[]
}

function coreOf({ start, key, dims }: Groups, { price, gap }: ExploreOptions): Core {
  const excess = Float64Array.from(key)
  dims.forEach((dim, j) => {
    const p = price[j]!
    if (p > 0) for (let i = 0; i < dim.length; i++) excess[i]! += p * dim[i]!
  })
  const items: Int32Array[] = []
  for (let g = 0; g + 1 < start.length; g++) {
    let least = Number.POSITIVE_INFINITY
    for (let i = start[g]!; i < start[g + 1]!; i++) least = Math.min(least, excess[i]!)
    const within: number[] = []
    for (let i = start[g]!; i < start[g + 1]!; i++) {
      excess[i]! -= least
      if (excess[i]! <= gap) within.push(i)
    }
    items.push(Int32Array.from(within.sort((a, b) => key[a]! - key[b]! || a - b)))
  }
  const order = items.map((_, g) => g).sort((a, b) => items[a]!.length - items[b]!.length || a - b)
  const suffix = (pick: (a: number, b: number) => number, from: number) =>
    dims.map((dim) => {
      const sums = new Float64Array(order.length + 1)
      for (let g = order.length - 1; g >= 0; g--) {
        let best = from
        for (const i of items[order[g]!]!) best = pick(best, dim[i]!)
        sums[g] = sums[g + 1]! + best
      }
      return sums
    })
  return {
    order,
    items: order.map((g) => items[g]!),
    excess,
    least: suffix(Math.min, Number.POSITIVE_INFINITY),
    most: suffix(Math.max, Number.NEGATIVE_INFINITY),
  }
}

interface Candidates extends Stage {
  /** where the candidates of each item begin; each run is in order of key */
  runs: number[]
}

function extend(groups: Groups, core: Core, options: ExploreOptions, stage: Stage, g: number): Candidates {
  const { dims, limits } = groups
  const items = core.items[g]!
  const size = stage.count * items.length
  const out: Candidates = {
    count: 0,
    key: new Float64Array(size),
    excess: new Float64Array(size),
    dims: dims.map(() => new Float64Array(size)),
    parent: new Int32Array(size),
    item: new Int32Array(size),
    runs: [],
  }
  const n = dims.length
  let count = 0
  for (const item of items) {
    out.runs.push(count)
    const key = groups.key[item]!
    const own = core.excess[item]!
    for (let at = 0; at < stage.count; at++) {
      const excess = stage.excess[at]! + own
      if (excess > options.gap) continue
      let bound = excess
      let fits = true
      for (let j = 0; j < n; j++) {
        const sum = stage.dims[j]![at]! + dims[j]![item]!
        const limit = limits[j]!
        if (sum + core.least[j]![g + 1]! > limit) {
          fits = false
          break
        }
        const waste = options.waste[j]!
        if (waste > 0) {
          const left = limit - sum - core.most[j]![g + 1]!
          if (left > 0) bound += waste * left
        }
        out.dims[j]![count] = sum
      }
      if (!fits || bound > options.gap) continue
      out.key[count] = stage.key[at]! + key
      out.excess[count] = excess
      out.parent[count] = at
      out.item[count] = item
      count++
    }
  }
  out.runs.push(count)
  out.count = count
  return out
}

/** The candidates in order of their key: every run is sorted already, so runs are merged two by two. */
function mergeRuns({ key, runs, count }: Candidates): Int32Array {
  let from = Int32Array.from({ length: count }, (_, i) => i)
  let to = new Int32Array(count)
  let bounds = runs
  while (bounds.length > 2) {
    const next: number[] = [0]
    for (let r = 0; r + 1 < bounds.length; r += 2) {
      let a = bounds[r]!
      const middle = bounds[r + 1]!
      let b = middle
      const end = bounds[r + 2] ?? middle
      for (let out = a; out < end; out++) {
        if (b >= end || (a < middle && key[from[a]!]! <= key[from[b]!]!)) to[out] = from[a++]!
        else to[out] = from[b++]!
      }
      next.push(end)
    }
    const swap = from
    from = to
    to = swap
    bounds = next
  }
  return from
}

/** How many earlier partial choices one is compared with when three or more dimensions rule out a staircase. */
const COMPARED = 400

/** Positions of the candidates that no earlier one (in order of key) equals or beats in every dimension. */
function withoutBeaten({ dims }: Candidates, order: Int32Array): Int32Array {
  const kept = new Int32Array(order.length)
  let count = 0
  if (dims.length === 0) return order.subarray(0, 1)
  if (dims.length === 1) {
    let least = Number.POSITIVE_INFINITY
    for (const i of order) {
      const value = dims[0]![i]!
      if (value >= least) continue
      least = value
      kept[count++] = i
    }
    return kept.subarray(0, count)
  }
  if (dims.length === 2) return staircase(dims[0]!, dims[1]!, order, kept)
  for (const i of order) {
    let beaten = false
    for (let k = Math.max(0, count - COMPARED); k < count && !beaten; k++) {
      const other = kept[k]!
      beaten = true
      for (let j = 0; j < dims.length; j++) {
        if (dims[j]![other]! > dims[j]![i]!) {
          beaten = false
          break
        }
      }
    }
    if (!beaten) kept[count++] = i
  }
  return kept.subarray(0, count)
}

/** The minima of the kept points form steps: `xs` rising, `ys` falling; a point on or above the steps is beaten. */
function staircase(x: Float64Array, y: Float64Array, order: Int32Array, kept: Int32Array): Int32Array {
  const xs = new Float64Array(order.length + 1)
  const ys = new Float64Array(order.length + 1)
  let steps = 0
  let count = 0
  for (const i of order) {
    const px = x[i]!
    const py = y[i]!
    let low = 0
    let high = steps
    while (low < high) {
      const middle = (low + high) >> 1
      if (xs[middle]! <= px) low = middle + 1
      else high = middle
    }
    if (low > 0 && ys[low - 1]! <= py) continue
    kept[count++] = i
    const from = low > 0 && xs[low - 1] === px ? low - 1 : low
    let until = low
    while (until < steps && ys[until]! >= py) until++
    const shift = from + 1 - until
    if (shift !== 0) {
      xs.copyWithin(from + 1, until, steps)
      ys.copyWithin(from + 1, until, steps)
      steps += shift
    }
    xs[from] = px
    ys[from] = py
  }
  return kept.subarray(0, count)
}

function take(stage: Stage, kept: Int32Array): Stage {
  const column = (values: Float64Array) => {
    const out = new Float64Array(kept.length)
    for (let i = 0; i < kept.length; i++) out[i] = values[kept[i]!]!
    return out
  }
  const whole = (values: Int32Array) => {
    const out = new Int32Array(kept.length)
    for (let i = 0; i < kept.length; i++) out[i] = values[kept[i]!]!
    return out
  }
  return {
    count: kept.length,
    key: column(stage.key),
    excess: column(stage.excess),
    dims: stage.dims.map(column),
    parent: whole(stage.parent),
    item: whole(stage.item),
  }
}

/** The `cap` partial choices with the least excess, still in order of key. */
function cutTo(stage: Stage, cap: number): { kept: Int32Array; dropped: number } {
  const limit = Float64Array.from(stage.excess.subarray(0, stage.count)).sort()[cap]!
  let room = cap
  for (let i = 0; i < stage.count; i++) if (stage.excess[i]! < limit) room--
  const kept = new Int32Array(cap)
  let count = 0
  for (let i = 0; i < stage.count; i++) {
    const excess = stage.excess[i]!
    if (excess < limit || (excess === limit && room-- > 0)) kept[count++] = i
  }
  return { kept, dropped: limit }
}
