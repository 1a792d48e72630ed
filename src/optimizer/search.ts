import type { Program } from './compile.ts'
import { type DecomposeOptions, decompose, type Outcome } from './decompose.ts'
import { pack } from './pack.ts'
import type { Config } from './price.ts'
import { placedRows, sharedRows } from './rows.ts'

export interface Found {
  readonly configs: readonly Config[]
  /** core of each model, in the order of the program; undefined when the problem names no cores */
  readonly cores: readonly number[] | undefined
  readonly cost: number
  /** no plan costs less than this */
  readonly lower: number
}

export interface SearchResult {
  readonly found: Found | undefined
  /** whether "nothing found" is proven */
  readonly proven: boolean
  /** what the solve without places learnt */
  readonly outcome: Outcome
}

/** Solves a program; with a `target`, any plan that costs no more will do. */
export type Search = (program: Program, target?: number) => SearchResult

/** Gap at which the search for places ends, once this many partial placements were solved; few models are searched to the end. */
const ENOUGH = 1e-4
const THOROUGH = 60

/**
 * The cheapest plan whose models can be placed on the cores, each model on one core.
 *
 * First without places: all cores count as one. Mostly the models of that plan can be placed, and it is the answer. Otherwise
 * models are bound to cores one by one, the largest first, and each partial placement is solved and bounded in the same way.
 */
export function search(program: Program, options: DecomposeOptions): SearchResult {
  const outcome = decompose(program, sharedRows(program), options)
  const { configs, cost, lower } = outcome
  if (!configs) return { found: undefined, proven: lower === Number.POSITIVE_INFINITY, outcome }
  if (!program.coreLimits) return { found: { configs, cores: undefined, cost, lower }, proven: true, outcome }
  const placement = new Placement(program, program.coreLimits, options, outcome)
  return { ...placement.run(), outcome }
}

/** Models bound to cores so far (-1: free), and what is known of the plans that remain. */
interface Node {
  readonly cores: readonly number[]
  readonly outcome: Outcome
}

class Placement {
  readonly program: Program
  readonly limits: readonly number[]
  readonly options: DecomposeOptions
  readonly root: Outcome
  best: { readonly configs: readonly Config[]; readonly cores: readonly number[]; readonly cost: number } | undefined
  /** least bound of the nodes that are closed without knowing better */
  closed = Number.POSITIVE_INFINITY
  solved = 0

  constructor(program: Program, limits: readonly number[], options: DecomposeOptions, root: Outcome) {
    this.program = program
    this.limits = limits
    this.options = options
    this.root = root
  }

  run(): { found: Found | undefined; proven: boolean } {
    const open: Node[] = [{ cores: this.program.models.map(() => -1), outcome: this.root }]
    for (let node = open.pop(); node; node = open.pop()) {
      const { lower } = node.outcome
      if (this.isBeaten(lower) || this.settle(node)) {
        this.closed = Math.min(this.closed, lower)
        continue
      }
      if (this.solved === 0) this.settle(this.solve(this.balanced(node)))
      const m = this.nextToBind(node)
      if (m < 0 || this.isEnough(lower)) {
        this.closed = Math.min(this.closed, lower)
        if (m < 0) continue
        break
      }
      for (const core of this.coresFor(node.cores)) open.push(this.solve(node.cores.with(m, core)))
      open.sort((a, b) => b.outcome.lower - a.outcome.lower)
    }
    const lower = open.reduce((least, { outcome }) => Math.min(least, outcome.lower), this.closed)
    if (!this.best) return { found: undefined, proven: lower === Number.POSITIVE_INFINITY }
    return { found: { ...this.best, lower: Math.min(lower, this.best.cost) }, proven: true }
  }

  isBeaten(lower: number): boolean {
    if (lower === Number.POSITIVE_INFINITY) return true
    return this.best !== undefined && this.best.cost - lower <= 1e-12 * Math.abs(this.best.cost)
  }

  isEnough(lower: number): boolean {
    if (performance.now() > this.options.deadline) return true
    if (!this.best) return false
    const { target } = this.options
    if (target !== undefined && this.best.cost <= target) return true
    return this.solved >= THOROUGH && this.best.cost - lower <= ENOUGH * Math.abs(this.best.cost)
  }

  solve(cores: readonly number[]): Node {
    this.solved++
    const pool = { configs: this.root.pool.configs, duals: undefined }
    return { cores, outcome: decompose(this.program, placedRows(this.program, cores), { ...this.options, pool }) }
  }

  /** Places the plan of a node where that is possible; then no better plan is below the node. */
  settle({ cores, outcome: { configs, cost } }: Node): boolean {
    if (!configs) return false
    const packing = pack(this.loadsOf(configs), this.limits, cores)
    if (!packing.cores) return false
    if (!this.best || cost < this.best.cost) this.best = { configs, cores: packing.cores, cost }
    return true
  }

  /** A whole placement near to the node's plan: largest load first, each to the core with most room left. */
  balanced({ cores, outcome }: Node): number[] {
    const loads = this.loadsOf(outcome.configs!)
    const left = [...this.limits]
    const placed = [...cores]
    const order = loads.map((_, m) => m).sort((a, b) => loads[b]! - loads[a]! || a - b)
    for (const m of order) {
      if (placed[m]! < 0) placed[m] = left.reduce((best, room, core) => (room > left[best]! ? core : best), 0)
      left[placed[m]!]! -= loads[m]!
    }
    return placed
  }

  loadsOf(configs: readonly Config[]): number[] {
    return configs.map((config, m) => config.latency * this.program.models[m]!.loadRate)
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
