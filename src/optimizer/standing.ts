import type { Program } from './compile.ts'
import { improve } from './improve.ts'
import { dot } from './master.ts'
import { type Config, type Priced, type Prices, price } from './price.ts'
import { addUse, fitsRows, pricesFor, type Rows, useOf } from './rows.ts'

/** What one solve leaves to the next: configurations that were worth having, and prices of the rows. */
export interface Pool {
  readonly configs: readonly (readonly Config[])[]
  readonly duals: Float64Array | undefined
  /** a plan to start from; ignored where it no longer fits */
  readonly plan?: readonly Config[] | undefined
}

/** How a solve stands: the best plan and the best bound so far, and every configuration seen. */
export class Standing {
  readonly program: Program
  readonly rows: Rows
  readonly pool: readonly Map<string, Config>[]
  best: readonly Config[] | undefined
  cost = Number.POSITIVE_INFINITY
  /** cost of a plan known elsewhere; dearer ones are of no interest */
  readonly cutoff: number
  /** no plan costs less */
  lower = Number.NEGATIVE_INFINITY
  /** what the last master mixed: of each model the configuration with the largest share, and whether it has a second */
  mixed: { readonly rounded: readonly Config[]; readonly isSplit: readonly boolean[] } | undefined
  /** the bound that the prices below prove by themselves; `lower` may be better by what was listed and ruled out */
  root = Number.NEGATIVE_INFINITY
  /** prices of the rows, and the least reduced cost of each model at them */
  duals: Float64Array
  leastReduced: Float64Array
  /** what each model uses at least; filled where a row looks at it */
  private readonly leastMemory: Float64Array
  readonly leastLatency: Float64Array
  private readonly limits: Float64Array

  constructor(program: Program, rows: Rows, pool: Pool | undefined, cutoff = Number.POSITIVE_INFINITY) {
    this.program = program
    this.rows = rows
    this.cutoff = cutoff
    this.pool = program.models.map((_, m) => new Map((pool?.configs[m] ?? []).map((config) => [keyOf(config), config])))
    this.limits = Float64Array.from(rows.limits)
    this.duals = new Float64Array(rows.limits.length)
    this.leastReduced = new Float64Array(program.models.length)
    this.leastMemory = new Float64Array(program.models.length)
    this.leastLatency = new Float64Array(program.models.length)
  }

  /** How much less a plan could cost than what is known, judged by `bound`: it costs at least that, and a step less. */
  gap(bound = this.lower): number {
    const known = this.ceiling()
    if (known === Number.POSITIVE_INFINITY) return known
    const noise = 1e-12 * Math.abs(known)
    const step = this.program.costStep
    return known - bound - Math.max(noise, step - Math.max(noise, 1e-6 * step))
  }

  /** A plan is of interest only when it costs less than this. */
  ceiling(): number {
    return Math.min(this.cost, this.cutoff)
  }

  /** Whether nothing better is left to find. */
  isSettled(): boolean {
    return this.gap() <= 0
  }

  keep(m: number, config: Config): void {
    const key = keyOf(config)
    if (!this.pool[m]!.has(key)) this.pool[m]!.set(key, config)
  }

  columnCount(): number {
    return this.pool.reduce((sum, own) => sum + own.size, 0)
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

  /** Makes a plan of these configurations, as good as single and double exchanges can make it, and offers it. */
  offerImproved(configs: readonly Config[]): void {
    const gapOf = (cost: number) => Math.min(cost, this.ceiling()) - this.lower
    const better = improve(this.program, this.rows, this.duals, configs, gapOf)
    if (better) this.offer(better)
  }

  /** Prices every model and takes the bound when it is the best so far; undefined when a model fits no way at all. */
  priceAll(duals: Float64Array, exact: boolean): Priced[] | undefined {
    const priced: Priced[] = []
    for (const [m, model] of this.program.models.entries()) {
      const one = price(model, pricesFor(this.rows, model, m, duals), exact)
      if (!one) return undefined
      this.keep(m, one.config)
      priced.push(one)
    }
    const bound = priced.reduce((sum, one) => sum + one.lower, 0) - dot(duals, this.limits)
    if (bound > this.root) {
      this.root = bound
      this.lower = Math.max(this.lower, bound)
      this.duals = Float64Array.from(duals)
      this.leastReduced = Float64Array.from(priced, ({ lower }) => lower)
    }
    return priced
  }

  /**
   * The configurations that use least memory, and those that use least time; undefined when even they break a row, so that no
   * plan can keep it.
   */
  addLightest(): Config[][] | undefined {
    const { program, rows } = this
    const least = (m: number, prices: Prices): Priced => {
      const priced = price(program.models[m]!, prices, true)!
      this.keep(m, priced.config)
      return priced
    }
    const lightest: Config[][] = [[], []]
    program.models.forEach((_, m) => {
      const small = rows.memory >= 0 ? least(m, { cost: 0, memory: 1, latency: 0 }) : undefined
      const fast = rows.loads[m]!.length > 0 ? least(m, { cost: 0, memory: 0, latency: 1 }) : undefined
      if (small) this.leastMemory[m] = small.lower
      if (fast) this.leastLatency[m] = fast.lower
      const any = small ?? fast ?? least(m, { cost: 1, memory: 0, latency: 0 })
      lightest[0]![m] = (small ?? any).config
      lightest[1]![m] = (fast ?? any).config
    })
    return rows.limits.every((limit, r) => this.leastUse(r) <= limit) ? lightest : undefined
  }

  /** No plan uses less of a row than this. */
  leastUse(r: number): number {
    return this.program.models.reduce((sum, _, m) => sum + this.leastUseOf(m, r), 0)
  }

  leastUseOf(m: number, r: number): number {
    if (r === this.rows.memory) return this.leastMemory[m]!
    return this.rows.loads[m]!.includes(r) ? this.leastLatency[m]! * this.program.models[m]!.loadRate : 0
  }

  useOfOne(m: number, config: Config): Float64Array {
    const use = new Float64Array(this.rows.limits.length)
    addUse(this.rows, this.program, m, config, use)
    return use
  }
}

export const keyOf = (config: Config): string => `${config.variant}:${config.picks.join()}`
