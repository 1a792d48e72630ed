import { seededRandom, shuffled } from '../base/index.ts'
import { everyAssignment } from './assign.ts'
import type { Program } from './compile.ts'
import { kindsOf } from './core-sets.ts'
import { type DecomposeOptions, decompose, ENOUGH, isEnough, isLate, type Outcome } from './decompose.ts'
import { Division, type DivisionOptions } from './division.ts'
import { pack } from './pack.ts'
import { type Config, price } from './price.ts'
import { placedRows, sharedRows } from './rows.ts'

/** A plan with a core for each model. */
export interface Placed {
  readonly configs: readonly Config[]
  readonly cores: readonly number[]
  readonly cost: number
}

/** The first gap that divisions are looked for in, as a share of the cost beyond the root's, and by how much it grows each time. */
const FIRST_GAP = 1e-4
const GAP_GROWTH = 2
const GAPS = 16
/** Configurations listed of each model, and ways kept to fill a core. */
const LISTED = 1000
/** Up to so many models, every assignment is solved by itself in the end, until nothing better is left. */
const FEW_MODELS = 5
/** How much lighter (as a share of all load) a plan of many models is made at first, so that it can be placed, and at most. */
const LIGHTER = { least: 1e-5, most: 0.3, second: 1.35, growth: 2 }
/** Up to so many kinds of models, the price of memory is sought anew. */
const FEW_KINDS = 4
/** Turns in which two cores divide some of their models anew, until so many were in vain; how many models those may be. */
const TURNS = 8
const REDIVIDED = 10
const LISTED_OF_REDIVIDED = 200
/** Partial placements that are solved, at most. */
const NODES = 100

/**
 * Finds the cheapest plan whose models can be placed on the cores, when the cheapest plan of all (the root) cannot.
 *
 * Few models, or few kinds of them: every division among the cores is looked at. Many models: a plan that is lighter by a trace
 * leaves the room that placing it needs, and then some cores at a time are divided anew. What is left is branch and bound:
 * models are bound to cores one by one, the largest first.
 */
export function place(program: Program, limits: readonly number[], options: DecomposeOptions, root: Outcome) {
  return new Placement(program, limits, options, root).run()
}

interface Node {
  readonly cores: readonly number[]
  readonly outcome: Outcome
  readonly lower: number
}

class Placement {
  readonly program: Program
  readonly limits: readonly number[]
  readonly options: DecomposeOptions
  readonly root: Outcome
  readonly loaded: readonly number[]
  best: Placed | undefined
  lower: number
  private solved = 0

  constructor(program: Program, limits: readonly number[], options: DecomposeOptions, root: Outcome) {
    this.program = program
    this.limits = limits
    this.options = options
    this.root = root
    this.loaded = program.models.flatMap((model, m) => (model.loadRate > 0 ? [m] : []))
    this.lower = root.lower
  }

  run(): { readonly best: Placed | undefined; readonly lower: number } {
    this.settle(
      this.program.models.map(() => -1),
      this.root.configs,
    )
    if (!this.isDone()) {
      const kinds = kindsOf(this.program, this.loaded, this.limits.length)
      if (kinds) this.divide(kinds)
      else this.lighten()
    }
    if (!this.isDone() && !this.best) this.branch()
    return { best: this.best, lower: Math.min(this.lower, this.best?.cost ?? Number.POSITIVE_INFINITY) }
  }

  isDone(): boolean {
    const { target, deadline } = this.options
    if (this.lower === Number.POSITIVE_INFINITY || isLate(deadline, this.best !== undefined)) return true
    if (!this.best) return false
    if (target !== undefined && this.best.cost <= target) return true
    if (this.best.cost - this.lower <= 1e-12 * Math.abs(this.best.cost)) return true
    return this.loaded.length > FEW_MODELS && isEnough(this.best.cost, this.lower)
  }

  /** Places the models of a plan where that is possible; `cores` are settled already. */
  settle(cores: readonly number[], configs: readonly Config[] | undefined): boolean {
    if (!configs) return false
    const placed = pack(this.loadsOf(configs), this.limits, cores)
    if (!placed) return false
    const cost = configs.reduce((sum, config) => sum + config.cost, 0)
    if (!this.best || cost < this.best.cost) this.best = { configs, cores: placed, cost }
    this.raise(this.lower)
    return true
  }

  /** Takes a better bound. Costs come in steps: a bound less than a step below the best plan is that plan's cost. */
  raise(lower: number): void {
    const { costStep } = this.program
    this.lower = Math.max(this.lower, lower)
    if (this.best && this.best.cost - this.lower < (1 - 1e-6) * costStep) this.lower = this.best.cost
  }

  loadsOf(configs: readonly Config[]): number[] {
    return configs.map((config, m) => config.latency * this.program.models[m]!.loadRate)
  }

  private get memoryPrice(): number {
    const { memory } = sharedRows(this.program)
    return memory >= 0 ? this.root.duals[memory]! : 0
  }

  private get loadPrice(): number {
    const row = this.loadRow
    return row === undefined ? 0 : this.root.duals[row]!
  }

  private get loadRow(): number | undefined {
    return sharedRows(this.program).loads.find((own) => own.length > 0)?.[0]
  }

  /** @param memoryPrice other than the root's where the cores make memory dearer or cheaper than all together would */
  private division(
    kinds: readonly (readonly number[])[],
    rest: Pick<DivisionOptions, 'idle' | 'rooms' | 'memoryLimit' | 'cap'>,
    memoryPrice = this.memoryPrice,
  ): Division {
    const { program, root, loadPrice } = this
    const least =
      memoryPrice === this.memoryPrice ? root.leastReduced : this.leastAt(memoryPrice, [...kinds, rest.idle])
    return new Division({
      ...rest,
      program,
      kinds,
      memoryPrice,
      loadPrice,
      least,
      isLate: () => isLate(this.options.deadline, this.best !== undefined),
    })
  }

  /** Least reduced costs at another price of memory; models of a kind have the same. */
  private leastAt(memoryPrice: number, kinds: readonly (readonly number[])[]): Float64Array {
    const { program, loadPrice } = this
    const least = new Float64Array(program.models.length)
    for (const own of kinds) {
      for (const m of own) {
        const model = program.models[m]!
        const prices = { cost: 1, memory: memoryPrice, latency: loadPrice * model.loadRate }
        least[m] = m === own[0] || model.loadRate === 0 ? price(model, prices, true)!.lower : least[own[0]!]!
      }
    }
    return least
  }

  /** All divisions of the models among the cores, within a small gap of the bound first and then within larger ones. */
  divide(kinds: readonly (readonly number[])[]): void {
    const { program, root, limits } = this
    const idle = program.models.flatMap((model, m) => (model.loadRate > 0 ? [] : [m]))
    const rest = { idle, rooms: limits, memoryLimit: program.memoryLimit, cap: LISTED }
    const division = kinds.length <= FEW_KINDS ? this.bestPriced(kinds, rest) : this.division(kinds, rest)
    const { base } = division
    const floor = base + division.floor()
    this.raise(floor)
    const start = Math.max(root.cost, floor) - base
    /** Whether larger gaps may say more. */
    const lookWithin = (gap: number): boolean => {
      const most = Math.min(gap, (this.best?.cost ?? Number.POSITIVE_INFINITY) - base)
      const found = division.within(most)
      if (found.configs) this.settle(found.cores, found.configs)
      this.raise(Math.min(base + found.beyond, this.best?.cost ?? Number.POSITIVE_INFINITY))
      return most === gap && found.beyond >= most
    }
    let isOpen = true
    for (let round = 0; round < GAPS && isOpen && !this.isDone(); round++)
      isOpen = lookWithin(start + FIRST_GAP * GAP_GROWTH ** round * Math.abs(root.cost))
    // What the caps cut off may be all that fits: the division that seems best then gets prices of its own.
    if (!this.best && !this.isDone()) {
      const cores = division.likeliest()
      if (cores) this.settle(cores, this.solve(cores).outcome.configs)
    }
    // Where the root costs next to nothing, no share of it reaches as far as the best division costs.
    if (isOpen && this.best && !this.isDone()) lookWithin(Number.MAX_VALUE)
    if (!this.isDone() && this.loaded.length <= FEW_MODELS) this.tryEvery(division)
  }

  /**
   * The division at the price of memory that proves most. Alike models fill a core in few ways, often far from what all cores
   * together would do, and then the root's price is not the right one. (With many kinds that hardly happens.)
   */
  private bestPriced(kinds: readonly (readonly number[])[], rest: Parameters<typeof this.division>[1]): Division {
    let best = this.division(kinds, rest)
    let most = best.base + best.floor()
    let middle = this.memoryPrice
    if (!(middle > 0) || most === Number.POSITIVE_INFINITY) return best
    for (let step = 0.5; step > 0.004; step /= 2) {
      for (const factor of [1 / (1 + step), 1 + step]) {
        const other = this.division(kinds, rest, middle * factor)
        const bound = other.base + other.floor()
        if (bound <= most) continue
        most = bound
        best = other
        middle *= factor
        break
      }
    }
    return best
  }

  /** Few models: what divisions could not settle, each assignment does by prices of its own. */
  tryEvery(division: Division): void {
    const { program, limits, root, loaded } = this
    const loads = this.loadsOf(root.configs!)
    const only = (values: readonly number[]) => loaded.map((m) => values[m]!)
    let lower = Number.POSITIVE_INFINITY
    for (const own of everyAssignment(only(loads), only(loads.map(() => 0)), limits)) {
      const cores = program.models.map(() => -1)
      loaded.forEach((m, i) => {
        cores[m] = own[i]!
      })
      const bound = division.base + division.excessOf(cores)
      if (this.isDone() || bound >= (this.best?.cost ?? Number.POSITIVE_INFINITY)) {
        lower = Math.min(lower, Math.max(bound, this.lower))
        continue
      }
      const { outcome } = this.solve(cores)
      this.settle(cores, outcome.configs)
      lower = Math.min(lower, outcome.lower)
    }
    this.raise(lower)
  }

  /** Many models: lighter plans, until one can be placed; then cores are divided anew while that is worth it. */
  lighten(): void {
    const { program, root } = this
    const rows = sharedRows(program)
    const row = this.loadRow!
    const all = rows.limits[row]!
    // What may be lost to placing, so that the plan still counts as optimal.
    const spare = 0.7 * (ENOUGH * Math.abs(root.cost) - (root.cost - root.lower))
    const price = this.loadPrice * all
    const first = price > 0 ? Math.max(spare / price, LIGHTER.least) : LIGHTER.growth * LIGHTER.least
    const anywhere = program.models.map(() => -1)
    const options = { ...this.options, pool: root.pool, attempts: 2, enough: ENOUGH / 8 }
    let share = first
    while (share < LIGHTER.most && !this.isDone()) {
      const limits = rows.limits.map((limit, r) => (r === row ? Math.floor(limit * (1 - share)) : limit))
      const { configs } = decompose(program, { ...rows, limits }, options)
      if (this.settle(anywhere, configs)) break
      share *= share === first ? LIGHTER.second : LIGHTER.growth
    }
    for (let turn = 0, idle = 0; idle < TURNS && this.best && !this.isDone(); turn++) {
      const { cost } = this.best
      this.redivide(turn)
      idle = this.best.cost < cost ? 0 : idle + 1
    }
  }

  /** Divides some models of two cores anew between the two, in the best of all ways. */
  redivide(turn: number): void {
    const { program, limits } = this
    const { configs, cores } = this.best!
    const random = seededRandom(turn)
    const some = shuffled(
      limits.map((_, core) => core),
      random,
    ).slice(0, 2)
    const here = this.loaded.filter((m) => some.includes(cores[m]!))
    const free = shuffled(here, random).slice(0, REDIVIDED)
    const kinds = kindsOf(program, free, some.length)
    if (!kinds) return
    const isFree = new Set(free)
    const loads = this.loadsOf(configs)
    const rooms = some.map((core) =>
      loads.reduce((left, load, m) => (cores[m] === core && !isFree.has(m) ? left - load : left), limits[core]!),
    )
    const memoryLimit = configs.reduce(
      (left, { memory }, m) => (isFree.has(m) ? left : left - memory),
      program.memoryLimit,
    )
    const division = this.division(kinds, { idle: [], rooms, memoryLimit, cap: LISTED_OF_REDIVIDED })
    const now = free.reduce((sum, m) => sum + configs[m]!.cost, 0) - division.base
    if (!(now > 0)) return
    let found = division.within(now / 8)
    if (!found.configs) found = division.within(now * (1 - 1e-9))
    if (!found.configs) return
    const next = { configs: [...configs], cores: [...cores] }
    for (const m of free) {
      next.configs[m] = found.configs[m]!
      next.cores[m] = some[found.cores[m]!]!
    }
    this.settle(next.cores, next.configs)
  }

  branch(): void {
    const open: Node[] = [{ cores: this.program.models.map(() => -1), outcome: this.root, lower: this.lower }]
    let closed = Number.POSITIVE_INFINITY
    for (let node = open.pop(); node; node = open.pop()) {
      const { lower, outcome } = node
      const isBeaten = this.best !== undefined && this.best.cost - lower <= 1e-12 * Math.abs(this.best.cost)
      const m = this.nextToBind(node)
      if (isBeaten || lower === Number.POSITIVE_INFINITY || this.settle(node.cores, outcome.configs) || m < 0) {
        closed = Math.min(closed, lower)
        continue
      }
      if (this.solved > NODES || this.isDone()) {
        closed = Math.min(closed, lower)
        break
      }
      for (const core of this.coresFor(node.cores)) {
        const child = this.solve(node.cores.with(m, core))
        open.push({ ...child, lower: Math.max(child.lower, lower) })
      }
      open.sort((a, b) => b.lower - a.lower)
    }
    this.raise(open.reduce((least, node) => Math.min(least, node.lower), closed))
  }

  solve(cores: readonly number[]): Node {
    this.solved++
    const pool = { configs: this.root.pool.configs, duals: undefined }
    const attempts = this.loaded.length <= FEW_MODELS ? undefined : 1
    const options = { ...this.options, pool, cutoff: this.best?.cost, attempts }
    const outcome = decompose(this.program, placedRows(this.program, cores), options)
    return { cores, outcome, lower: outcome.lower }
  }

  /** The free model with the largest load; -1 when none is free. */
  nextToBind({ cores, outcome }: Node): number {
    const { models } = this.program
    const loads = outcome.configs ? this.loadsOf(outcome.configs) : models.map((model) => model.loadRate)
    let best = -1
    loads.forEach((load, m) => {
      if (cores[m]! < 0 && models[m]!.loadRate > 0 && (best < 0 || load > loads[best]!)) best = m
    })
    return best
  }

  /** The cores to try: of equally large cores without a model, one. */
  coresFor(cores: readonly number[]): number[] {
    const seen = new Set<number>()
    return this.limits.flatMap((limit, core) => {
      if (cores.includes(core)) return [core]
      if (seen.has(limit)) return []
      seen.add(limit)
      return [core]
    })
  }
}
