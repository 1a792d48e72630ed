import { explore } from './choose.ts'
import type { Program } from './compile.ts'
import { type Enumerated, enumerate, type Room } from './enumerate.ts'
import { improve } from './improve.ts'
import { dot, type MasterSolution, solveMaster } from './master.ts'
import { type Config, type Priced, type Prices, price } from './price.ts'
import { addUse, fitsRows, pricesFor, type Rows, useOf } from './rows.ts'

/** What one solve leaves to the next: configurations that were worth having, and prices of the rows. */
export interface Pool {
  readonly configs: readonly (readonly Config[])[]
  readonly duals: Float64Array | undefined
}

export interface DecomposeOptions {
  readonly pool?: Pool | undefined
  /** stop as soon as a plan costs no more than this, or none can */
  readonly target?: number | undefined
  /** on the clock of `performance.now()` */
  readonly deadline: number
}

export interface Outcome {
  /** undefined: no plan was found; with `lower` infinite there is none */
  readonly configs: readonly Config[] | undefined
  readonly cost: number
  readonly lower: number
  readonly pool: Pool
  readonly duals: Float64Array
}

/** Gap at which a plan counts as optimal, and how far beyond it the search goes while that is cheap. */
const ENOUGH = 1e-4
const CAPS = [150, 600, 2400] as const
const ROUNDS = 30

/**
 * The cheapest plan under rows that models share, by Dantzig–Wolfe decomposition.
 *
 * The master mixes whole-model configurations; its prices for the rows let each model be priced by itself; the sum is a lower
 * bound. What is left of the gap is closed by listing every configuration whose reduced cost lies within it and choosing one for
 * each model. Everything listed was all there is: then the plan is optimal; otherwise the bound says how far it can be.
 */
export function decompose(program: Program, rows: Rows, options: DecomposeOptions): Outcome {
  return new Decomposition(program, rows, options).run()
}

class Decomposition {
  readonly program: Program
  readonly rows: Rows
  readonly options: DecomposeOptions
  readonly pool: Map<string, Config>[]
  best: readonly Config[] | undefined
  cost = Number.POSITIVE_INFINITY
  lower = Number.NEGATIVE_INFINITY
  duals: Float64Array
  /** least reduced cost of each model at `duals` */
  leastReduced: Float64Array
  /** what each model uses at least; filled where a row looks at it */
  readonly leastMemory: Float64Array
  readonly leastLatency: Float64Array

  constructor(program: Program, rows: Rows, options: DecomposeOptions) {
    this.program = program
    this.rows = rows
    this.options = options
    this.pool = program.models.map(
      (_, m) => new Map((options.pool?.configs[m] ?? []).map((config) => [keyOf(config), config])),
    )
    this.duals = new Float64Array(rows.limits.length)
    this.leastReduced = new Float64Array(program.models.length)
    this.leastMemory = new Float64Array(program.models.length)
    this.leastLatency = new Float64Array(program.models.length)
  }

  run(): Outcome {
    const free = this.priceAll(this.duals, true)
    if (!free) return this.outcome(Number.POSITIVE_INFINITY)
    this.offer(free.map(({ config }) => config))
    if (this.closed()) return this.outcome()
    if (!this.addLightest()) return this.outcome(Number.POSITIVE_INFINITY)
    this.seed(free)
    if (!this.generate()) return this.outcome(Number.POSITIVE_INFINITY)
    for (const cap of CAPS) {
      if (this.closed() || performance.now() > this.options.deadline) break
      if (cap > CAPS[0] && this.cost - this.lower <= ENOUGH * Math.abs(this.cost)) break
      this.closeGap(cap)
    }
    return this.outcome()
  }

  outcome(lower = this.best && this.gap() <= 0 ? this.cost : Math.min(this.lower, this.cost)): Outcome {
    return {
      configs: this.best,
      cost: this.cost,
      lower,
      pool: { configs: this.pool.map((own) => [...own.values()]), duals: this.duals },
      duals: this.duals,
    }
  }

  closed(): boolean {
    const { target } = this.options
    if (target !== undefined && ((this.best && this.cost <= target) || this.lower > target)) return true
    return this.best !== undefined && this.gap() <= 0
  }

  /** How much less a better plan could cost: it costs at least `lower`, and at least one step less than the best. */
  gap(): number {
    if (!this.best) return Number.POSITIVE_INFINITY
    const noise = 1e-12 * Math.abs(this.cost)
    const step = this.program.costStep
    return this.cost - this.lower - Math.max(noise, step - Math.max(noise, 1e-6 * step))
  }

  /** Prices every model; takes the bound when it is the best so far. Undefined when a model fits no way at all. */
  priceAll(duals: Float64Array, exact: boolean): Priced[] | undefined {
    const { program, rows } = this
    const priced: Priced[] = []
    for (const [m, model] of program.models.entries()) {
      const one = price(model, pricesFor(rows, model, m, duals), exact)
      if (!one) return undefined
      this.keep(m, one.config)
      priced.push(one)
    }
    const bound = priced.reduce((sum, one) => sum + one.lower, 0) - dot(duals, Float64Array.from(rows.limits))
    if (bound > this.lower) {
      this.lower = bound
      this.duals = Float64Array.from(duals)
      this.leastReduced = Float64Array.from(priced, ({ lower }) => lower)
    }
    return priced
  }

  keep(m: number, config: Config): void {
    const key = keyOf(config)
    if (!this.pool[m]!.has(key)) this.pool[m]!.set(key, config)
  }

  /** Takes a plan that fits when it is the cheapest so far. */
  offer(configs: readonly Config[]): void {
    const cost = configs.reduce((sum, config) => sum + config.cost, 0)
    if (cost >= this.cost || !fitsRows(this.rows, useOf(this.rows, this.program, configs))) return
    this.cost = cost
    this.best = configs
    configs.forEach((config, m) => {
      this.keep(m, config)
    })
  }

  improved(configs: readonly Config[]): void {
    const better = improve(
      this.program,
      this.rows,
      this.duals,
      configs,
      (cost) => Math.min(cost, this.cost) - this.lower,
    )
    if (better) this.offer(better)
  }

  /** The configurations that use least of each row; false when even they break one, so that no plan can keep it. */
  addLightest(): boolean {
    const { program, rows } = this
    const least = (m: number, prices: Prices): number => {
      const { config, lower } = price(program.models[m]!, prices, true)!
      this.keep(m, config)
      return lower
    }
    program.models.forEach((_, m) => {
      if (rows.memory >= 0) this.leastMemory[m] = least(m, { cost: 0, memory: 1, latency: 0 })
      if (rows.loads[m]!.length > 0) this.leastLatency[m] = least(m, { cost: 0, memory: 0, latency: 1 })
    })
    return rows.limits.every((limit, r) => this.leastUse(r) <= limit)
  }

  /** No plan uses less of a row than this. */
  leastUse(r: number): number {
    return this.program.models.reduce((sum, _, m) => sum + this.leastUseOf(m, r), 0)
  }

  leastUseOf(m: number, r: number): number {
    if (r === this.rows.memory) return this.leastMemory[m]!
    return this.rows.loads[m]!.includes(r) ? this.leastLatency[m]! * this.program.models[m]!.loadRate : 0
  }

  /** Columns at a few rates of exchange between cost and use, so that the first prices are sensible. */
  seed(free: readonly Priced[]): void {
    const { rows, program } = this
    if (this.options.pool?.duals?.length === rows.limits.length) {
      this.priceAll(this.options.pool.duals, false)
      return
    }
    const used = useOf(
      rows,
      program,
      free.map(({ config }) => config),
    )
    const rates = rows.limits.map((limit, r) => {
      let cost = 0
      let use = 0
      program.models.forEach((_, m) => {
        let lightest = free[m]!.config
        const amount = (config: Config) => (r === rows.memory ? config.memory : config.latency)
        for (const config of this.pool[m]!.values()) if (amount(config) < amount(lightest)) lightest = config
        const one = new Float64Array(rows.limits.length)
        addUse(rows, program, m, free[m]!.config, one)
        addUse(rows, program, m, lightest, one, -1)
        cost += Math.max(0, lightest.cost - free[m]!.config.cost)
        use += one[r]!
      })
      return used[r]! > limit && use > 0 ? cost / use : 0
    })
    for (const scale of [0.3, 1, 3])
      this.priceAll(
        Float64Array.from(rates, (rate) => rate * scale),
        false,
      )
  }

  /** Column generation; false when the rows cannot hold together. */
  generate(): boolean {
    let exact = false
    let penalty = 100 * this.program.models.length
    const few = 0.1 * this.program.models.length
    for (let round = 0; round < ROUNDS && !this.closed(); round++) {
      const master = this.master(penalty)
      const before = this.columnCount()
      const priced = this.priceAll(this.unscaled(master), exact)
      if (!priced) return false
      const added = this.columnCount() - before
      if (exact || (round > 0 && !this.best)) this.improved(priced.map(({ config }) => config))
      if (!exact) {
        exact = added <= few
        continue
      }
      if (added > 0) continue
      this.roundMaster(master)
      if (master.excess <= 1e-9 || this.best) return true
      if (!this.fitsTogether()) return false
      penalty *= 1000
      if (penalty > 1e12) return true
    }
    return true
  }

  /** Solves the master over all columns; with `penalty` 0 it minimises the overuse of the rows and forgets the cost. */
  master(
    penalty: number,
  ): MasterSolution & { readonly unit: number; readonly columns: readonly (readonly Config[])[] } {
    const { program, rows } = this
    const columns = this.pool.map((own, m) => {
      const first = this.best ? own.get(keyOf(this.best[m]!))! : [...own.values()][0]!
      return [first, ...[...own.values()].filter((config) => config !== first)]
    })
    let unit = 0
    for (const own of columns) for (const { cost } of own) unit = Math.max(unit, Math.abs(cost - own[0]!.cost))
    const scaled = columns.map((own, m) =>
      own.map((config) => {
        const uses = new Float64Array(rows.limits.length)
        addUse(rows, program, m, config, uses)
        for (let r = 0; r < uses.length; r++) uses[r]! /= Math.max(rows.limits[r]!, 1)
        return { cost: penalty === 0 ? 0 : (config.cost - own[0]!.cost) / (unit || 1), uses }
      }),
    )
    return { ...solveMaster(scaled, rows.limits.length, penalty || 1), unit: unit || 1, columns }
  }

  unscaled(master: MasterSolution & { readonly unit: number }): Float64Array {
    return master.rows.map((value, r) => (value * master.unit) / Math.max(this.rows.limits[r]!, 1))
  }

  roundMaster(master: MasterSolution & { readonly columns: readonly (readonly Config[])[] }): void {
    this.improved(
      master.columns.map((own, m) => {
        const shares = master.shares[m]!
        let most = 0
        for (let k = 1; k < shares.length; k++) if (shares[k]! > shares[most]!) most = k
        return own[most]!
      }),
    )
  }

  /**
   * Phase one: can mixes of configurations keep all rows at once? Generates columns against the overuse of the rows alone; its
   * bound above zero proves that no plan can.
   */
  fitsTogether(): boolean {
    const { program, rows } = this
    for (let round = 0; round < ROUNDS; round++) {
      const { rows: duals, excess } = this.master(0)
      if (excess <= 1e-9) return true
      const scaled = duals.map((value, r) => value / Math.max(rows.limits[r]!, 1))
      let bound = -dot(
        duals,
        Float64Array.from(rows.limits, (limit) => limit / Math.max(limit, 1)),
      )
      const before = this.columnCount()
      program.models.forEach((model, m) => {
        const { config, lower } = price(model, { ...pricesFor(rows, model, m, scaled), cost: 0 }, true)!
        this.keep(m, config)
        bound += lower
      })
      if (bound > 1e-9) return false
      if (this.columnCount() === before) return true
    }
    return true
  }

  columnCount(): number {
    return this.pool.reduce((sum, own) => sum + own.size, 0)
  }

  /**
   * Lists every configuration whose reduced cost is within the gap, and chooses one for each model.
   *
   * A better plan can only be made of those: the reduced costs of its configurations add up to less than the gap.
   */
  closeGap(cap: number): void {
    const { program, rows, duals } = this
    // A little more than the gap, so that rounding does not leave a sliver of it open.
    const gap = this.gap() * (1 + 1e-9) + 1e-7 * program.costStep + 1e-13 * Math.abs(this.best ? this.cost : 0)
    const root = this.lower
    const least = this.leastReduced
    const room = this.roomOf()
    const lists: Enumerated[] = program.models.map((model, m) =>
      enumerate(model, pricesFor(rows, model, m, duals), least[m]! + gap, room(m), cap),
    )
    const start = new Int32Array(lists.length + 1)
    lists.forEach(({ configs }, m) => {
      start[m + 1] = start[m]! + configs.length
    })
    const all = lists.flatMap(({ configs }) => configs)
    const dims = rows.limits.map(() => new Float64Array(all.length))
    lists.forEach(({ configs }, m) => {
      configs.forEach((config, k) => {
        const use = new Float64Array(rows.limits.length)
        addUse(rows, program, m, config, use)
        for (let r = 0; r < use.length; r++) dims[r]![start[m]! + k] = use[r]!
      })
    })
    const explored = explore(
      { start, key: Float64Array.from(all, (config) => config.cost), dims, limits: rows.limits },
      { price: [...duals], waste: [...duals], gap, cap: 4 * cap },
    )
    if (explored.keys.length > 0) {
      const configs = [...explored.picks(0)].map((i) => all[i]!)
      this.offer(configs)
      this.improved(configs)
    }
    let beyond = root + explored.dropped
    lists.forEach((list, m) => {
      beyond = Math.min(beyond, root + list.beyond - least[m]!)
    })
    // What was listed and chosen from holds the best plan, unless that costs at least `beyond`.
    this.lower = Math.max(this.lower, Math.min(beyond, this.cost))
  }

  /** What the lightest configurations of all other models leave to one model. */
  roomOf(): (m: number) => Room {
    const { program, rows } = this
    const left = rows.limits.map((limit, r) => limit - this.leastUse(r))
    const room = (m: number, r: number) => left[r]! + this.leastUseOf(m, r)
    return (m) => ({
      memory: rows.memory >= 0 ? room(m, rows.memory) : Number.POSITIVE_INFINITY,
      latency: rows.loads[m]!.reduce(
        (least, r) => Math.min(least, room(m, r) / program.models[m]!.loadRate),
        Number.POSITIVE_INFINITY,
      ),
      memoryMatters: rows.memory >= 0,
      latencyMatters: rows.loads[m]!.length > 0,
    })
  }
}

const keyOf = (config: Config): string => `${config.variant}:${config.picks.join()}`
