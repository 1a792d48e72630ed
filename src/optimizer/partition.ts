import { fillCore, type Menu, type Ways } from './fill-cores.ts'
import type { Config } from './price.ts'

/** With more models than this there are too many subsets. */
export const PARTITIONED = 13

/** Configurations and cores by model; only those of the divided models are there. */
export interface Partitioned {
  readonly configs: readonly Config[] | undefined
  readonly cores: readonly number[]
  readonly cost: number
  /** where all models are divided: every plan that is not found here costs at least this */
  readonly beyond: number
}

interface Partial {
  readonly cost: number
  readonly memory: number
  readonly excess: number
  readonly before: Partial | undefined
  readonly ways: Ways
  readonly way: number
  readonly core: number
}

/**
 * The best plan over all ways to divide the models among the cores, by dynamic programming over sets of models.
 *
 * Each set that can fill a core to within the gap is filled once; sets are then put together, one core after the other, so that each
 * model is in one of them. A core that is left half empty wastes what its load is priced at, which rules most sets out.
 *
 * @param models those that are divided; the others are as they are
 * @param price of a load step
 * @param cap ways and partial plans kept of each set
 */
export function partition(
  menu: Menu,
  models: readonly number[],
  rooms: readonly number[],
  price: number,
  cap: number,
): Partitioned {
  const { program, root, gap } = menu
  const loaded = models.filter((m) => program.models[m]!.loadRate > 0)
  const idle = models.filter((m) => program.models[m]!.loadRate === 0)
  const sets = new Sets(menu, loaded, price, cap)
  let beyond = models.reduce((least, m) => Math.min(least, root + menu.lists[m]!.beyond - menu.least[m]!), root + gap)
  const cutOff = (excess: number) => {
    beyond = Math.min(beyond, root + excess)
  }

  // Models that load no core come first, as a core of their own without a limit.
  let states = new Map<number, Partial[]>()
  const none = { models: [], cost: new Float64Array(1), memory: new Float64Array(1), excess: new Float64Array(1) }
  const first: Ways =
    idle.length > 0
      ? fillCore(menu, idle, { room: Number.POSITIVE_INFINITY, price: 0 }, cap)
      : { ...none, dropped: Number.POSITIVE_INFINITY, configs: () => [] }
  cutOff(first.dropped)
  const start: Partial[] = []
  extendBy(start, undefined, first, -1, menu)
  states.set(0, start)

  // A smaller core may take any set; of equal cores each takes the first model that is left, so that they do not change places.
  const order = rooms.map((_, core) => core).sort((a, b) => rooms[a]! - rooms[b]! || a - b)
  const largest = Math.max(0, ...rooms)
  const all = 2 ** loaded.length - 1
  for (const core of order) {
    const room = rooms[core]!
    const isSmall = room < largest
    const next = new Map<number, Partial[]>()
    for (const [mask, partials] of states) {
      if (isSmall || mask === all) merge(next, mask, partials)
      for (const set of sets.within(all & ~mask, room, !isSmall)) {
        cutOff(set.ways.dropped)
        const extended: Partial[] = []
        for (const partial of partials) extendBy(extended, partial, set.ways, core, menu)
        if (extended.length > 0) merge(next, mask | set.mask, extended)
      }
    }
    states = new Map([...next].map(([mask, partials]) => [mask, pareto(partials, cap, cutOff)]))
  }
  const best = states.get(all)?.[0]
  return best
    ? { ...planOf(best, program.models.length), cost: best.cost, beyond }
    : { configs: undefined, cores: [], cost: Number.POSITIVE_INFINITY, beyond }
}

function planOf(best: Partial, count: number): { configs: Config[]; cores: number[] } {
  const configs: Config[] = []
  const cores = new Array<number>(count).fill(-1)
  for (let one: Partial | undefined = best; one; one = one.before) {
    const own = one.ways.configs(one.way)
    const { core } = one
    one.ways.models.forEach((m, k) => {
      configs[m] = own[k]!
      cores[m] = core
    })
  }
  return { configs, cores }
}

function extendBy(
  into: Partial[],
  before: Partial | undefined,
  ways: Ways,
  core: number,
  { memoryLimit, gap }: Menu,
): void {
  for (let way = 0; way < ways.cost.length; way++) {
    const excess = (before?.excess ?? 0) + ways.excess[way]!
    const memory = (before?.memory ?? 0) + ways.memory[way]!
    if (excess > gap || memory > memoryLimit) continue
    into.push({ cost: (before?.cost ?? 0) + ways.cost[way]!, memory, excess, before, ways, way, core })
  }
}

function merge(states: Map<number, Partial[]>, mask: number, partials: readonly Partial[]): void {
  const known = states.get(mask)
  if (known) known.push(...partials)
  else states.set(mask, [...partials])
}

/** By cost, each lighter than the one before; at most `cap`, those with the least excess. */
function pareto(partials: Partial[], cap: number, cutOff: (excess: number) => void): Partial[] {
  partials.sort((a, b) => a.cost - b.cost || a.memory - b.memory)
  const kept: Partial[] = []
  for (const one of partials) if (kept.length === 0 || one.memory < kept[kept.length - 1]!.memory) kept.push(one)
  if (kept.length <= cap) return kept
  const limit = Float64Array.from(kept, ({ excess }) => excess).sort()[cap]!
  cutOff(limit)
  return kept.filter(({ excess }) => excess < limit).slice(0, cap)
}

interface FilledSet {
  readonly mask: number
  readonly ways: Ways
}

/** The sets of models that can fill a core of some room to within the gap, found once for each room. */
class Sets {
  private readonly menu: Menu
  private readonly models: readonly number[]
  private readonly price: number
  private readonly cap: number
  private readonly lightest: number[]
  private readonly heaviest: number[]
  private readonly known = new Map<number, FilledSet[][]>()

  constructor(menu: Menu, models: readonly number[], price: number, cap: number) {
    this.menu = menu
    this.models = models
    this.price = price
    this.cap = cap
    const loads = models.map((m) => menu.lists[m]!.configs.map((c) => c.latency * menu.program.models[m]!.loadRate))
    this.lightest = loads.map((own) => Math.min(...own))
    this.heaviest = loads.map((own) => Math.max(...own))
  }

  /** The sets within `left`; with `first` only those that hold its first model. */
  within(left: number, room: number, first: boolean): FilledSet[] {
    if (left === 0) return []
    const byFirst = this.known.get(room) ?? this.fill(room)
    this.known.set(room, byFirst)
    const lowest = 31 - Math.clz32(left & -left)
    const candidates = first ? (byFirst[lowest] ?? []) : byFirst.flat()
    return candidates.filter(({ mask }) => (mask & ~left) === 0)
  }

  private fill(room: number): FilledSet[][] {
    const { menu, models, price, lightest, heaviest } = this
    const byFirst: FilledSet[][] = models.map(() => [])
    const visit = (i: number, mask: number, light: number, heavy: number): void => {
      if (light > room) return
      if (mask > 0 && price * (room - heavy) <= menu.gap) {
        const own = models.filter((_, k) => (mask >> k) & 1)
        const ways = fillCore(menu, own, { room, price }, this.cap)
        if (ways.cost.length > 0 || ways.dropped < Number.POSITIVE_INFINITY) {
          byFirst[31 - Math.clz32(mask & -mask)]!.push({ mask, ways })
        }
      }
      for (let k = i; k < models.length; k++) visit(k + 1, mask | (1 << k), light + lightest[k]!, heavy + heaviest[k]!)
    }
    visit(0, 0, 0, 0)
    return byFirst
  }
}
