import { anywhere, CoreSets, type SetsOptions } from './core-sets.ts'
import { type Enumerated, enumerate } from './enumerate.ts'
import { fillCore, joinCores, type Menu, type Ways } from './fill-cores.ts'
import type { Config } from './price.ts'

export interface DivisionOptions extends SetsOptions {
  readonly kinds: readonly (readonly number[])[]
  readonly rooms: readonly number[]
  /** models that load no core */
  readonly idle: readonly number[]
  readonly isLate: () => boolean
}

/** Configurations and cores by model; only those of the divided models are there. */
export interface Divided {
  readonly configs: readonly Config[] | undefined
  readonly cores: readonly number[]
  readonly cost: number
  /** no plan that was not found has less excess */
  readonly beyond: number
}

/** Divisions whose cores are put together, at most. */
const JOINED = 3000

interface Room {
  readonly room: number
  /** the cores of this room */
  readonly cores: readonly number[]
  /** least excess of each set, the price of load that says so, and how far its ways are known */
  readonly excess: Float64Array
  readonly at: Uint8Array
  readonly known: Float64Array
  readonly ways: Map<number, Ways>
}

interface Chosen {
  readonly room: Room
  readonly set: number
}

/**
 * The best plan over all ways to divide the models among the cores.
 *
 * What each set of models costs on a core of its own is known roughly at first; dynamic programming over sets says what the
 * others then cost at least, and so how dear this set may be. Only cores that can be part of a plan within the gap are filled,
 * and no further than that: of the cores of a plan, one has no more than its share of the gap.
 */
export class Division {
  /** what the prices prove that every plan costs */
  readonly base: number
  private readonly options: DivisionOptions
  private readonly sets: CoreSets
  private readonly firstKind: Int8Array
  /** whole cores, and the smaller last one where there is one */
  private readonly whole: Room
  private readonly part: Room | undefined
  private idle: Ways | undefined
  /** plans with more excess than this are of no interest */
  private gap = 0
  /** least excess among what was cut off */
  private cut = Number.POSITIVE_INFINITY
  private joined = 0
  private best: { readonly configs: Config[]; readonly cores: number[]; readonly cost: number } | undefined
  /** least excess of j whole cores together, for every set of models on them */
  private least: Float64Array[] = []
  /** the same of the smaller core and all but one of the whole ones */
  private leastWithPart = new Float64Array(0)

  constructor(options: DivisionOptions) {
    const { kinds, rooms, idle, least, loadPrice, memoryPrice, memoryLimit } = options
    const paid = rooms.reduce((sum, room) => sum + loadPrice * room, memoryPrice > 0 ? memoryPrice * memoryLimit : 0)
    this.base = [...kinds.flat(), ...idle].reduce((sum, m) => sum + least[m]!, -paid)
    this.options = options
    this.sets = new CoreSets(kinds, options, rooms)
    this.firstKind = Int8Array.from({ length: this.sets.size }, (_, set) => this.sets.firstKind(set))
    const largest = Math.max(...rooms)
    const roomOf = (room: number): Room => ({
      room,
      cores: rooms.flatMap((one, core) => (one === room ? [core] : [])),
      ...this.sets.bounds(room),
      known: new Float64Array(this.sets.size),
      ways: new Map(),
    })
    this.whole = roomOf(largest)
    const smaller = rooms.find((room) => room < largest)
    this.part = smaller === undefined ? undefined : roomOf(smaller)
  }

  /** No plan has less excess, as far as is known; infinite when the rooms cannot hold even the lightest configurations. */
  floor(): number {
    const { sets, whole, part } = this
    this.gap = Number.MAX_VALUE
    this.addUp()
    const most = this.least[whole.cores.length]!
    if (!part) return most[sets.all]!
    return this.candidates(part).reduce(
      (least, set) => Math.min(least, part.excess[set]! + most[sets.all - set]!),
      Number.POSITIVE_INFINITY,
    )
  }

  /** What the cores of a plan cost at least when its models are bound to these. */
  excessOf(cores: readonly number[]): number {
    return this.options.rooms.reduce((sum, _, core) => {
      const room = this.whole.cores.includes(core) ? this.whole : this.part!
      const set = this.sets.setOf((m) => cores[m] === core)
      return sum + room.excess[set]!
    }, 0)
  }

  /** The core of each model (-1: idle) in the division that costs least as far as is known; undefined when none can hold them. */
  likeliest(): number[] | undefined {
    const { whole, part, sets, options } = this
    this.gap = Number.MAX_VALUE
    this.addUp()
    const cores = options.program.models.map(() => -1)
    const next = sets.kinds.map(() => 0)
    const bind = (set: number, core: number) => {
      sets.kinds.forEach((own, k) => {
        for (let i = 0; i < sets.countOf(set, k); i++) cores[own[next[k]!++]!] = core
      })
    }
    const cheapest = (room: Room, candidates: Int32Array, left: number, rest: Float64Array): number => {
      let best = -1
      let least = Number.POSITIVE_INFINITY
      for (const set of candidates) {
        if (!sets.isWithin(set, left)) continue
        const sum = room.excess[set]! + rest[left - set]!
        if (sum < least) [best, least] = [set, sum]
      }
      return best
    }
    let left = sets.all
    if (part) {
      const set = cheapest(part, this.candidates(part), left, this.least[whole.cores.length]!)
      if (set < 0) return undefined
      bind(set, part.cores[0]!)
      left -= set
    }
    const byKind = this.byFirstKind(whole)
    for (let j = whole.cores.length - 1; j >= 0 && left > 0; j--) {
      const candidates = byKind[this.firstKind[left]!]!
      const set = j === 0 ? left : cheapest(whole, candidates, left, this.least[j]!)
      if (set < 0 || !(whole.excess[set]! < Number.POSITIVE_INFINITY)) return undefined
      bind(set, whole.cores[j]!)
      left -= set
    }
    return cores
  }

  /** The best plan whose excess is at most `gap`; what is known from smaller gaps is kept. */
  within(gap: number): Divided {
    this.gap = gap
    this.joined = 0
    this.fillIdle()
    this.addUp()
    while (this.deepen()) this.addUp()
    this.search()
    const { best } = this
    return {
      configs: best?.configs,
      cores: best?.cores ?? [],
      cost: best?.cost ?? Number.POSITIVE_INFINITY,
      beyond: Math.min(gap, this.cut),
    }
  }

  /** What the sets cost at least on one core, two cores, and so on. */
  private addUp(): void {
    const { sets, whole, part } = this
    const candidates = this.byFirstKind(whole)
    this.least = [new Float64Array(sets.size).fill(Number.POSITIVE_INFINITY), whole.excess]
    this.least[0]![0] = 0
    for (let j = 2; j <= whole.cores.length; j++) this.least.push(this.oneMore(this.least[j - 1]!, candidates))
    if (!part) return
    const small = this.candidates(part)
    const rest = this.least[whole.cores.length - 1]!
    this.leastWithPart = new Float64Array(sets.size).fill(Number.POSITIVE_INFINITY)
    for (let from = 0; from < sets.size; from++) {
      for (const set of small) {
        if (set > from) break
        if (!sets.isWithin(set, from)) continue
        const sum = part.excess[set]! + rest[from - set]!
        if (sum < this.leastWithPart[from]!) this.leastWithPart[from] = sum
      }
    }
  }

  /** Of equal cores the next one takes a model of the first kind that is left: they do not change places. */
  private oneMore(before: Float64Array, candidates: readonly Int32Array[]): Float64Array {
    const { sets, whole } = this
    const least = new Float64Array(sets.size).fill(Number.POSITIVE_INFINITY)
    least[0] = whole.excess[0]! + before[0]!
    for (let from = 1; from < sets.size; from++) {
      let best = Number.POSITIVE_INFINITY
      for (const set of candidates[this.firstKind[from]!]!) {
        if (set > from) break
        if (!sets.isWithin(set, from)) continue
        const sum = whole.excess[set]! + before[from - set]!
        if (sum < best) best = sum
      }
      least[from] = best
    }
    return least
  }

  /** Sets that a core of this room can hold within the gap, the smallest number first. */
  private candidates({ excess }: Room): Int32Array {
    const found: number[] = []
    for (let set = 0; set < this.sets.size; set++) if (excess[set]! <= this.gap) found.push(set)
    return Int32Array.from(found)
  }

  private byFirstKind(room: Room): Int32Array[] {
    const all = this.candidates(room)
    return this.sets.kinds.map((_, k) => all.filter((set) => this.firstKind[set] === k))
  }

  /** What all other cores and models cost at least beside a set on a core of this room. */
  private beside(room: Room, set: number): number {
    const left = this.sets.all - set
    const { length } = this.whole.cores
    if (room === this.part) return this.least[length]![left]!
    return this.part ? this.leastWithPart[left]! : this.least[length - 1]![left]!
  }

  /**
   * Fills the cores that can be part of a plan within the gap, as far as that plan may need; false when all are.
   *
   * First no further than an even share of the gap, then twice as far each time: the others become dearer meanwhile.
   */
  private deepen(): boolean {
    let changed = false
    for (const room of this.part ? [this.whole, this.part] : [this.whole]) {
      for (let set = 0; set < this.sets.size; set++) {
        const beside = this.beside(room, set)
        const most = this.gap - beside
        if (!(room.excess[set]! <= most) || room.known[set]! >= most) continue
        const share = Math.max(this.gap / this.options.rooms.length, 2 * room.known[set]!)
        if (this.options.isLate()) {
          this.cut = Math.min(this.cut, room.excess[set]! + beside)
          continue
        }
        this.fill(room, set, Math.min(most, share), beside)
        changed = true
      }
    }
    return changed
  }

  private fill(room: Room, set: number, most: number, beside: number): void {
    room.known[set] = most
    if (set === 0) return
    const { ways, least, complete } = this.sets.fill(set, room.room, room.at[set]!, most)
    if (ways) room.ways.set(set, ways)
    room.excess[set] = Math.max(room.excess[set]!, Math.min(least, complete))
    if (complete >= most) return
    // The caps cut something off: asking for more would only cut off more.
    room.known[set] = Number.POSITIVE_INFINITY
    this.cut = Math.min(this.cut, complete + beside)
  }

  /** Divisions within the gap, the best first at every core; the cores of each are put together. */
  private search(): void {
    const chosen: Chosen[] = []
    const take = (room: Room, set: number, sum: number, next: (sum: number) => void): void => {
      chosen.push({ room, set })
      next(sum + room.excess[set]!)
      chosen.pop()
    }
    const among = (room: Room, sets: Int32Array, left: number, rest: Float64Array, sum: number) =>
      Array.from(
        sets.filter((set) => this.sets.isWithin(set, left)),
        (set) => ({ set, bound: sum + room.excess[set]! + rest[left - set]! }),
      ).sort((a, b) => a.bound - b.bound)
    const { whole, part } = this
    const byKind = this.byFirstKind(whole)
    const visit = (left: number, cores: number, sum: number): void => {
      if (cores === 0) {
        this.join(chosen, sum)
        return
      }
      if (left === 0 || cores === 1) {
        take(whole, left, sum, (next) => visit(0, cores - 1, next))
        return
      }
      for (const { set, bound } of among(whole, byKind[this.firstKind[left]!]!, left, this.least[cores - 1]!, sum)) {
        if (bound > this.gap) return
        take(whole, set, sum, (next) => visit(left - set, cores - 1, next))
      }
    }
    const { length } = whole.cores
    if (!part) {
      visit(this.sets.all, length, 0)
      return
    }
    for (const { set, bound } of among(part, this.candidates(part), this.sets.all, this.least[length]!, 0)) {
      if (bound > this.gap) return
      take(part, set, 0, (next) => visit(this.sets.all - set, length, next))
    }
  }

  private join(chosen: readonly Chosen[], sum: number): void {
    const { options, idle } = this
    if (sum > this.gap) return
    if (this.joined >= JOINED || options.isLate()) {
      this.cut = Math.min(this.cut, sum)
      return
    }
    this.joined++
    const filled = chosen.filter(({ set }) => set > 0)
    const ways = filled.map(({ room, set }) => room.ways.get(set))
    if (ways.includes(undefined)) return
    const all = [...(idle ? [idle] : []), ...(ways as Ways[])]
    const found = joinCores(this.menu(this.gap - sum), all, options.cap)
    this.cut = Math.min(this.cut, sum + found.dropped)
    if (!found.picks || found.cost >= (this.best?.cost ?? Number.POSITIVE_INFINITY)) return
    this.best = { cost: found.cost, ...this.assign(chosen, all, found.picks) }
    const { costStep } = options.program
    const noise = 1e-12 * Math.abs(found.cost)
    this.gap = Math.min(this.gap, found.cost - this.base - Math.max(noise, costStep - Math.max(noise, 1e-6 * costStep)))
  }

  private menu(gap: number): Menu {
    const { program, least, memoryLimit, memoryPrice } = this.options
    return { program, lists: [], memoryLimit, memoryPrice, least, root: 0, gap }
  }

  /** Models that load no core are as on one without a limit. */
  private fillIdle(): void {
    const { idle, program, memoryPrice, least, cap } = this.options
    if (idle.length === 0) return
    const lists: Enumerated[] = []
    for (const m of idle) {
      const prices = { cost: 1, memory: memoryPrice, latency: 0 }
      lists[m] = enumerate(program.models[m]!, prices, least[m]! + this.gap, anywhere(program), cap)
      this.cut = Math.min(this.cut, lists[m]!.dropped - least[m]!)
    }
    this.idle = fillCore({ ...this.menu(this.gap), lists }, idle, { room: Number.POSITIVE_INFINITY, price: 0 }, cap)
    this.cut = Math.min(this.cut, this.idle.dropped)
  }

  /** Names the models and cores of a division: of a kind one after the other. */
  private assign(chosen: readonly Chosen[], ways: readonly Ways[], picks: Int32Array) {
    const { kinds } = this.sets
    const { models } = this.options.program
    const configs: Config[] = []
    const cores = models.map(() => -1)
    const next = kinds.map(() => 0)
    const free = new Map([this.whole, ...(this.part ? [this.part] : [])].map((room) => [room, [...room.cores]]))
    const places = chosen.filter(({ set }) => set > 0).map(({ room }) => free.get(room)!.shift()!)
    if (this.idle) places.unshift(-1)
    ways.forEach((own, g) => {
      own.configs(picks[g]!).forEach((config, i) => {
        const like = own.models[i]!
        const kind = kinds.findIndex(([first]) => first === like)
        const m = kind < 0 ? like : kinds[kind]![next[kind]!++]!
        configs[m] = config
        cores[m] = places[g]!
      })
    })
    return { configs, cores }
  }
}
