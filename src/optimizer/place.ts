import { seededRandom, shuffled } from '../base/index.ts'
import { assignments, everyAssignment } from './assign.ts'
import type { Program } from './compile.ts'
import { type DecomposeOptions, decompose, isEnough, isLate, type Outcome } from './decompose.ts'
import { type Enumerated, enumerate } from './enumerate.ts'
import { fillCore, joinCores, type Menu } from './fill-cores.ts'
import { pack } from './pack.ts'
import { PARTITIONED, partition } from './partition.ts'
import type { Config } from './price.ts'
import { placedRows, pricesFor, sharedRows } from './rows.ts'

/** A plan with a core for each model. */
export interface Placed {
  readonly configs: readonly Config[]
  readonly cores: readonly number[]
  readonly cost: number
}

/** The gaps looked into, as shares of the cost, and the assignments filled for each: a small gap is quickly looked through. */
const GAPS = [
  { share: 1e-4, tried: 10 },
  { share: 4e-4, tried: 8 },
  { share: 1.6e-3, tried: 6 },
  { share: 6.4e-3, tried: 4 },
  { share: 0.025, tried: 4 },
] as const
/** Where all divisions are looked at: configurations listed and ways kept in all; the more models, the fewer of each. */
const LISTED = 8000
/** Where cores are filled by themselves: models set free on each, configurations listed of each, and ways kept. */
const FREE = 6
const LISTED_OF_FREE = 50
const KEPT = 400
/** Turns in which two cores divide some of their models anew, how many models, and ways kept of each set of them. */
const TURNS = 32
const REDIVIDED = 10
const REDIVIDED_KEPT = 100
const NOTHING_LISTED: Enumerated = { configs: [], beyond: Number.POSITIVE_INFINITY, work: 0 }
/** Partial placements that are solved, at most. */
const NODES = 100
/** Up to so many models, every assignment is solved, until nothing better is left. */
const FEW_MODELS = 5

/** Models bound to cores so far (-1: free), what is known of the plans that remain, and the bound on them. */
interface Node {
  readonly cores: readonly number[]
  readonly outcome: Outcome
  readonly lower: number
}

/**
 * Finds the cheapest plan whose models can be placed on the cores, when the cheapest plan of all (the root) cannot.
 *
 * First good assignments for the loads of the root's plan, each core filled by itself. Then, for few models, every way to divide
 * them among the cores. What is left is branch and bound: models are bound to cores one by one, the largest first.
 */
export function place(program: Program, limits: readonly number[], options: DecomposeOptions, root: Outcome) {
  return new Placement(program, limits, options, root).run()
}

class Placement {
  readonly program: Program
  readonly limits: readonly number[]
  readonly options: DecomposeOptions
  readonly root: Outcome
  best: Placed | undefined
  lower: number
  private solved = 0

  constructor(program: Program, limits: readonly number[], options: DecomposeOptions, root: Outcome) {
    this.program = program
    this.limits = limits
    this.options = options
    this.root = root
    this.lower = root.lower
  }

  run(): { readonly best: Placed | undefined; readonly lower: number } {
    const free = this.program.models.map(() => -1)
    this.settle(free, this.root.configs)
    if (this.isFew()) this.tryEvery()
    else this.tryGaps()
    return { best: this.best, lower: Math.min(this.lower, this.best?.cost ?? Number.POSITIVE_INFINITY) }
  }

  /** Few models: every assignment, each solved as far as it can beat the best. */
  tryEvery(): void {
    if (this.isDone()) return
    const { program, limits, root } = this
    const loads = this.loadsOf(root.configs!)
    const lightest = program.models.map((model, m) => (model.loadRate > 0 ? root.leastLatency[m]! * model.loadRate : 0))
    const loaded = program.models.flatMap((model, m) => (model.loadRate > 0 ? [m] : []))
    const only = (values: readonly number[]) => loaded.map((m) => values[m]!)
    let lower = Number.POSITIVE_INFINITY
    for (const own of everyAssignment(only(loads), only(lightest), limits)) {
      if (this.isDone()) {
        lower = Math.min(lower, this.lower)
        break
      }
      const cores = program.models.map(() => -1)
      loaded.forEach((m, i) => {
        cores[m] = own[i]!
      })
      const { outcome } = this.solve(cores)
      this.settle(cores, outcome.configs)
      lower = Math.min(lower, outcome.lower)
    }
    this.raise(lower)
  }

  /** More models: within a small gap of the bound first, which is quick, then within larger ones. */
  tryGaps(): void {
    for (const { share, tried } of GAPS) {
      const gap = this.root.cost - this.root.root + share * Math.abs(this.root.cost)
      if (this.isDone() || (this.best && this.best.cost - this.root.root <= gap)) break
      if (this.loadedCount() <= PARTITIONED) this.divide(gap)
      else this.fillAssignments(gap, tried)
    }
    if (this.loadedCount() > PARTITIONED) for (let turn = 0; turn < TURNS && !this.isDone(); turn++) this.redivide(turn)
    if (!this.isDone() && !this.best) this.solveAssignments()
    if (!this.isDone() && !this.best) this.branch()
  }

  loadedCount(): number {
    return this.program.models.filter((model) => model.loadRate > 0).length
  }

  isFew(): boolean {
    return this.loadedCount() <= FEW_MODELS
  }

  isDone(): boolean {
    const { target, deadline } = this.options
    if (this.lower === Number.POSITIVE_INFINITY || isLate(deadline, this.best !== undefined)) return true
    if (!this.best) return false
    if (target !== undefined && this.best.cost <= target) return true
    if (this.best.cost - this.lower <= 1e-12 * Math.abs(this.best.cost)) return true
    return !this.isFew() && isEnough(this.best.cost, this.lower)
  }

  /** Places the models of a plan where that is possible; `cores` are settled already. */
  settle(cores: readonly number[], configs: readonly Config[] | undefined): boolean {
    if (!configs) return false
    const packing = pack(this.loadsOf(configs), this.limits, cores)
    if (!packing.cores) return false
    const cost = configs.reduce((sum, config) => sum + config.cost, 0)
    if (!this.best || cost < this.best.cost) this.best = { configs, cores: packing.cores, cost }
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

  /** Configurations near enough to the root's prices that a plan of them can cost no more than `root + gap`. */
  list(m: number, gap: number, cap: number): Enumerated {
    const { program, root } = this
    const rows = sharedRows(program)
    const room = {
      memory: Number.POSITIVE_INFINITY,
      latency: Number.POSITIVE_INFINITY,
      memoryMatters: rows.memory >= 0,
      latencyMatters: true,
    }
    const model = program.models[m]!
    return enumerate(model, pricesFor(rows, model, m, root.duals), root.leastReduced[m]! + gap, room, cap)
  }

  menu(gap: number, lists: readonly Enumerated[]): Menu {
    const { program, root } = this
    const { memoryLimit } = program
    return {
      program,
      lists,
      memoryLimit,
      memoryPrice: this.memoryPrice(),
      least: root.leastReduced,
      root: root.root,
      gap,
    }
  }

  memoryPrice(): number {
    const { memory } = sharedRows(this.program)
    return memory >= 0 ? this.root.duals[memory]! : 0
  }

  loadPrice(): number {
    const row = sharedRows(this.program).loads.find((own) => own.length > 0)?.[0]
    return row === undefined ? 0 : this.root.duals[row]!
  }

  /**
   * Whole assignments that suit the root's plan. Each core is filled by itself, then memory is shared out. Where many models are on
   * a core, a few of them are set free and the others stay as in the root's plan.
   */
  fillAssignments(gap: number, tried: number): void {
    const { program, limits } = this
    const planned = this.root.configs!
    const known = new Map<number, Enumerated>()
    const listed = (m: number): Enumerated => {
      const list = known.get(m) ?? this.list(m, gap, LISTED_OF_FREE)
      known.set(m, list)
      return list
    }
    const models = program.models.map((_, m) => m)
    const random = seededRandom(models.length)
    for (const cores of this.assignments(tried)) {
      const onCore = limits.map((_, core) => models.filter((m) => program.models[m]!.loadRate > 0 && cores[m] === core))
      const free = new Set(onCore.flatMap((own) => shuffled(own, random).slice(0, FREE)))
      const lists = models.map((m) => (free.has(m) ? listed(m) : { configs: [planned[m]!], beyond: 0, work: 0 }))
      const menu = this.menu(gap, lists)
      const price = this.loadPrice()
      const idle = models.filter((m) => program.models[m]!.loadRate === 0)
      const ways = idle.length > 0 ? [fillCore(menu, idle, { room: Number.POSITIVE_INFINITY, price: 0 }, KEPT)] : []
      for (const [core, own] of onCore.entries()) {
        if (own.length > 0) ways.push(fillCore(menu, own, { room: limits[core]!, price }, KEPT))
        if (ways.some(({ cost }) => cost.length === 0)) break
      }
      if (ways.every(({ cost }) => cost.length > 0)) this.settle(cores, joinCores(menu, ways, KEPT).configs)
      if (this.isDone()) return
    }
  }

  /** Where the rows are tight, each core needs prices of its own. */
  solveAssignments(): void {
    for (const cores of this.assignments(3)) this.settle(cores, this.solve(cores).outcome.configs)
  }

  assignments(count: number): number[][] {
    return assignments(this.loadsOf(this.root.configs!), this.limits, count)
  }

  /** Divides some models of two cores anew between the two, in the best of all ways. */
  redivide(turn: number): void {
    if (!this.best) return
    const { program, limits } = this
    const { configs, cores } = this.best
    const random = seededRandom(turn)
    const pair = shuffled(
      limits.map((_, core) => core),
      random,
    ).slice(0, 2)
    const here = program.models.flatMap((model, m) => (model.loadRate > 0 && pair.includes(cores[m]!) ? [m] : []))
    const free = shuffled(here, random).slice(0, REDIVIDED)
    const isFree = program.models.map((_, m) => free.includes(m))
    const loads = this.loadsOf(configs)
    const rooms = pair.map((core) =>
      loads.reduce((left, load, m) => (cores[m] === core && !isFree[m] ? left - load : left), limits[core]!),
    )
    const memoryLimit = configs.reduce((left, { memory }, m) => (isFree[m] ? left : left - memory), program.memoryLimit)
    const [memoryPrice, price] = [this.memoryPrice(), this.loadPrice()]
    const now = free.reduce((sum, m) => sum + configs[m]!.cost - this.root.leastReduced[m]!, 0)
    const paid = rooms.reduce((sum, room) => sum + price * room, memoryPrice > 0 ? memoryPrice * memoryLimit : 0)
    const gap = now + paid
    if (!(gap > 0)) return
    const lists = program.models.map((_, m) => (isFree[m] ? this.list(m, gap, LISTED_OF_FREE) : NOTHING_LISTED))
    const found = partition({ ...this.menu(gap, lists), memoryLimit }, free, rooms, price, REDIVIDED_KEPT)
    if (!found.configs) return
    const next = { configs: [...configs], cores: [...cores] }
    for (const m of free) {
      next.configs[m] = found.configs[m]!
      next.cores[m] = pair[found.cores[m]!]!
    }
    this.settle(next.cores, next.configs)
  }

  /** All divisions of the models among the cores at once; exact when nothing was cut off. */
  divide(gap: number): void {
    const { models } = this.program
    const cap = Math.min(2000, Math.max(60, Math.floor(LISTED / models.length)))
    const lists = models.map((_, m) => this.list(m, gap, cap))
    const all = models.map((_, m) => m)
    const found = partition(this.menu(gap, lists), all, this.limits, this.loadPrice(), cap)
    if (found.configs) this.settle(found.cores, found.configs)
    this.raise(Math.min(found.beyond, this.best?.cost ?? Number.POSITIVE_INFINITY))
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
    const options = { ...this.options, pool, cutoff: this.best?.cost, attempts: this.isFew() ? undefined : 1 }
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
