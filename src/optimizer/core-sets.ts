import type { Program } from './compile.ts'
import { type Enumerated, enumerate, type Room } from './enumerate.ts'
import { fillCore, type Ways } from './fill-cores.ts'
import { price } from './price.ts'

/** The models that are divided among cores, and what a step of memory and of load is worth. */
export interface SetsOptions {
  readonly program: Program
  readonly memoryLimit: number
  readonly memoryPrice: number
  readonly loadPrice: number
  /** least reduced cost of each model at these prices */
  readonly least: Float64Array
  /** configurations listed of each model, and ways kept to fill a core */
  readonly cap: number
}

/** With more pairs of sets than this on all cores together, looking at each is no longer quick. */
const MOST_PAIRS = 2e8
/** Prices of load at which the sets are looked at, as multiples of the given one (or of a sensible one, where that is 0). */
const STEPS = [1, 0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.35, 1.6, 2, 3, 5, 10] as const

/** Lists reach a little further than is asked, so that rounding does not leave a sliver out. */
const MARGIN = 1e-9

/** What a model may use when it is not yet known what the others leave. */
export const anywhere = ({ memoryLimit }: Program): Room => ({
  memory: Number.POSITIVE_INFINITY,
  latency: Number.POSITIVE_INFINITY,
  memoryMatters: memoryLimit < Number.POSITIVE_INFINITY,
  latencyMatters: true,
})

/** Models that are alike in everything but their name, by kind; undefined when they make too many different sets. */
export function kindsOf(program: Program, models: readonly number[], cores: number): number[][] | undefined {
  const kinds: number[][] = []
  for (const m of models) {
    const same = kinds.find(([first]) => isAlike(program, first!, m))
    if (same) same.push(m)
    else kinds.push([m])
  }
  const sets = kinds.reduce((product, { length }) => product * (length + 1), 1)
  return sets ** 2 * cores <= MOST_PAIRS ? kinds : undefined
}

function isAlike({ models }: Program, a: number, b: number): boolean {
  const [one, two] = [models[a]!, models[b]!]
  const equal = (x: ArrayLike<number>, y: ArrayLike<number>) =>
    x.length === y.length && Array.prototype.every.call(x, (value, i) => value === y[i])
  return (
    one.loadRate === two.loadRate &&
    one.latencyLimit === two.latencyLimit &&
    one.lossLimit === two.lossLimit &&
    one.variants.length === two.variants.length &&
    one.variants.every((variant, v) => {
      const other = two.variants[v]!
      return (['start', 'cost', 'latency', 'memory', 'loss'] as const).every((key) => equal(variant[key], other[key]))
    })
  )
}

/**
 * What every set of the models costs at least when it has a core to itself, and the ways to run it there.
 *
 * A set says how many models of each kind are in it. Costs are excesses: what a plan costs more than the bound of the prices,
 * because of this core alone. They are known roughly at first (no less than at any price of load) and become exact as far as
 * a core has been filled.
 */
export class CoreSets {
  readonly kinds: readonly (readonly number[])[]
  readonly size: number
  private readonly options: SetsOptions
  /** what one more model of a kind adds to the number of a set, and the bits in which its count stands */
  private readonly weights: readonly number[]
  private readonly guards: number
  private readonly packed: Int32Array
  private readonly loadPrices: readonly number[]
  /** least reduced cost of a model of each kind at each price of load, and whether it is exact */
  private readonly reduced: readonly Float64Array[]
  private readonly isExact: readonly Uint8Array[]
  private readonly lightest: readonly number[]
  private readonly lists = new Map<string, { readonly slack: number; readonly list: Enumerated }>()

  constructor(kinds: readonly (readonly number[])[], options: SetsOptions, rooms: readonly number[]) {
    const { program, loadPrice, memoryPrice, least } = options
    this.kinds = kinds
    this.options = options
    const weights: number[] = []
    let size = 1
    for (const { length } of kinds) {
      weights.push(size)
      size *= length + 1
    }
    this.weights = weights
    this.size = size
    ;({ packed: this.packed, guards: this.guards } = pack(kinds, size))
    const priced = (k: number, scale: number, exact: boolean) =>
      price(program.models[kinds[k]![0]!]!, { cost: 1, memory: memoryPrice, latency: scale }, exact)!
    const unit = loadPrice > 0 ? loadPrice : sensiblePrice(program, kinds, rooms)
    this.loadPrices = loadPrice > 0 ? STEPS.map((step) => step * unit) : [0, ...STEPS.map((step) => step * unit)]
    this.reduced = kinds.map((own, k) => {
      const { loadRate } = program.models[own[0]!]!
      return Float64Array.from(this.loadPrices, (value, i) =>
        i === 0 ? least[own[0]!]! : priced(k, value * loadRate, false).lower,
      )
    })
    this.isExact = kinds.map(() => Uint8Array.from(this.loadPrices, (_, i) => (i === 0 ? 1 : 0)))
    this.lightest = kinds.map(([m]) => {
      const model = program.models[m!]!
      return model.loadRate * price(model, { cost: 0, memory: 0, latency: 1 }, true)!.lower
    })
  }

  get all(): number {
    return this.size - 1
  }

  /** Whether `set` can be taken out of `from`; what is left is `from - set`. */
  isWithin(set: number, from: number): boolean {
    return (((this.packed[from]! | this.guards) - this.packed[set]!) & this.guards) === this.guards
  }

  /** The first kind of which there is a model in the set; -1 for the empty set. */
  firstKind(set: number): number {
    return this.kinds.findIndex((_, k) => this.countOf(set, k) > 0)
  }

  countOf(set: number, kind: number): number {
    return Math.floor(set / this.weights[kind]!) % (this.kinds[kind]!.length + 1)
  }

  /** The set of those models that are wanted. */
  setOf(isWanted: (m: number) => boolean): number {
    return this.kinds.reduce((set, own, k) => set + this.weights[k]! * own.filter(isWanted).length, 0)
  }

  /** One model for each in the set; of a kind always the first, which stands for the others. */
  private modelsOf(set: number): number[] {
    return this.kinds.flatMap((own, k) => new Array<number>(this.countOf(set, k)).fill(own[0]!))
  }

  /** What each set costs at least on a core of this room, and the price of load that says so. */
  bounds(room: number): { readonly excess: Float64Array; readonly at: Uint8Array } {
    const excess = new Float64Array(this.size).fill(Number.NEGATIVE_INFINITY)
    const at = new Uint8Array(this.size)
    const sum = new Float64Array(this.size)
    const base = new Float64Array(this.size)
    this.loadPrices.forEach((value, i) => {
      this.addUp(sum, (k) => this.reduced[k]![i]!)
      if (i === 0) base.set(sum)
      for (let set = 0; set < this.size; set++) {
        const own = sum[set]! - value * room - (base[set]! - this.loadPrices[0]! * room)
        if (own <= excess[set]!) continue
        excess[set] = own
        at[set] = i
      }
    })
    this.addUp(sum, (k) => this.lightest[k]!)
    for (let set = 0; set < this.size; set++) if (sum[set]! > room) excess[set] = Number.POSITIVE_INFINITY
    return { excess, at }
  }

  /** Sums over the models of every set. */
  private addUp(sum: Float64Array, value: (kind: number) => number): void {
    sum[0] = 0
    this.kinds.forEach(({ length }, k) => {
      const weight = this.weights[k]!
      const one = value(k)
      for (let set = weight; set < weight * (length + 1); set++) sum[set] = sum[set - weight]! + one
    })
  }

  /**
   * Every way to run a set on a core whose excess is at most `most`, except what the caps cut off.
   *
   * @param at the price of load at which the core is filled, see `bounds`
   */
  fill(set: number, room: number, at: number, most: number): Filled {
    const { program, memoryLimit, memoryPrice, cap } = this.options
    const models = this.modelsOf(set)
    const loadPrice = this.loadPrices[at]!
    const kinds = this.kinds.flatMap((_, k) => (this.countOf(set, k) > 0 ? [k] : []))
    for (const k of kinds) this.makeExact(k, at)
    const sumAt = (i: number) =>
      this.kinds.reduce((sum, _, k) => sum + this.countOf(set, k) * this.reduced[k]![i]!, -this.loadPrices[i]! * room)
    const start = sumAt(at) - sumAt(0)
    const gap = most - start
    if (gap < 0) return { ways: undefined, least: start, complete: most }
    let reach = Number.POSITIVE_INFINITY
    const lists: Enumerated[] = []
    const least = new Float64Array(program.models.length)
    for (const k of kinds) {
      const m = this.kinds[k]![0]!
      lists[m] = this.listed(k, at, gap * (1 + MARGIN))
      least[m] = this.reduced[k]![at]!
      reach = Math.min(reach, lists[m]!.dropped - least[m]!)
    }
    const menu = { program, lists, memoryLimit, memoryPrice, least, root: 0, gap }
    const ways = fillCore(menu, models, { room, price: loadPrice }, cap)
    reach = Math.min(reach, ways.dropped)
    const complete = reach < gap ? start + reach : most
    const found = ways.excess.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
    return { ways: ways.cost.length > 0 ? ways : undefined, least: Math.min(start + found, complete), complete }
  }

  private makeExact(k: number, at: number): void {
    if (this.isExact[k]![at]) return
    const model = this.options.program.models[this.kinds[k]![0]!]!
    const latency = this.loadPrices[at]! * model.loadRate
    this.isExact[k]![at] = 1
    this.reduced[k]![at] = price(model, { cost: 1, memory: this.options.memoryPrice, latency }, true)!.lower
  }

  private listed(k: number, at: number, slack: number): Enumerated {
    const key = `${k}:${at}`
    const known = this.lists.get(key)
    if (known && known.slack >= slack) return known.list
    const { program, memoryPrice, cap } = this.options
    const model = program.models[this.kinds[k]![0]!]!
    const prices = { cost: 1, memory: memoryPrice, latency: this.loadPrices[at]! * model.loadRate }
    const list = enumerate(model, prices, this.reduced[k]![at]! + slack, anywhere(program), cap)
    this.lists.set(key, { slack, list })
    return list
  }
}

export interface Filled {
  readonly ways: Ways | undefined
  /** no way has less excess */
  readonly least: number
  /** every way of less excess is known */
  readonly complete: number
}

/** The counts of every set, each in bits of its own below a guard bit: one subtraction compares them all. */
function pack(kinds: readonly (readonly number[])[], size: number): { packed: Int32Array; guards: number } {
  const packed = new Int32Array(size)
  let guards = 0
  let shift = 0
  let weight = 1
  for (const { length } of kinds) {
    for (let set = weight; set < weight * (length + 1); set++) packed[set] = packed[set - weight]! + (1 << shift)
    shift += 32 - Math.clz32(length)
    guards |= 1 << shift
    shift++
    weight *= length + 1
  }
  return { packed, guards }
}

/** Where load has no price so far: what the models could save by using all the load there is, for each step of it. */
function sensiblePrice(program: Program, kinds: readonly (readonly number[])[], rooms: readonly number[]): number {
  let range = 0
  for (const own of kinds) {
    for (const { start, cost } of program.models[own[0]!]!.variants) {
      for (let b = 0; b + 1 < start.length; b++) {
        const block = cost.subarray(start[b], start[b + 1])
        const most = block.reduce((a, x) => Math.max(a, x), Number.NEGATIVE_INFINITY)
        range += own.length * (most - block.reduce((a, x) => Math.min(a, x), Number.POSITIVE_INFINITY))
      }
    }
  }
  const room = rooms.reduce((sum, one) => sum + one, 0)
  return room > 0 ? (0.3 * range) / room : 0
}
