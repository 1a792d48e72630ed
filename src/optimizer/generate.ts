import { dot, type MasterSolution, solveMaster } from './master.ts'
import { type Config, type Priced, price } from './price.ts'
import { pricesFor, useOf } from './rows.ts'
import { keyOf, type Standing } from './standing.ts'

const ROUNDS = 30
/** Overuse of the rows (in shares of their limits) that is only rounding. */
const ROUNDING = 1e-9

/**
 * Column generation: the master mixes configurations and prices the rows; each model offers its best configuration at those
 * prices; until none is new. Cheap pricing first, exact pricing for the last rounds and the bound.
 *
 * @param stop asked before each round
 * @returns false when it is proven that the rows cannot hold together
 */
export function generate(standing: Standing, stop: () => boolean): boolean {
  const few = 0.1 * standing.program.models.length
  let exact = false
  let penalty = 100 * standing.program.models.length
  for (let round = 0; round < ROUNDS && !stop(); round++) {
    const mixed = mix(standing, penalty)
    const before = standing.columnCount()
    const priced = standing.priceAll(mixed.duals, exact)
    if (!priced) return false
    const added = standing.columnCount() - before
    if (exact || (round > 0 && !standing.best)) standing.offerImproved(priced.map(({ config }) => config))
    if (!exact) {
      exact = added <= few
      continue
    }
    if (added > 0) continue
    standing.mixed = mixed.whole()
    standing.offerImproved(standing.mixed.rounded)
    if (mixed.excess <= ROUNDING || standing.best) return true
    if (!canHoldTogether(standing)) return false
    penalty *= 1000
    if (penalty > 1e12) return true
  }
  return true
}

/** Columns at a few rates of exchange between cost and use, so that the first prices are sensible. */
export function seed(standing: Standing, free: readonly Priced[], duals: Float64Array | undefined): void {
  const { rows, program } = standing
  if (duals?.length === rows.limits.length) {
    standing.priceAll(duals, false)
    return
  }
  const configs = free.map(({ config }) => config)
  const used = useOf(rows, program, configs)
  const rates = rows.limits.map((limit, r) => {
    if (used[r]! <= limit) return 0
    let cost = 0
    let use = 0
    program.models.forEach((_, m) => {
      const amount = (config: Config) => (r === rows.memory ? config.memory : config.latency)
      let lightest = configs[m]!
      for (const config of standing.pool[m]!.values()) if (amount(config) < amount(lightest)) lightest = config
      cost += Math.max(0, lightest.cost - configs[m]!.cost)
      use += standing.useOfOne(m, configs[m]!)[r]! - standing.useOfOne(m, lightest)[r]!
    })
    return use > 0 ? cost / use : 0
  })
  for (const scale of [0.3, 1, 3]) {
    const prices = Float64Array.from(rates, (rate) => rate * scale)
    standing.priceAll(prices, false)
  }
}

interface Mixed {
  /** prices of the rows in the units of the program */
  readonly duals: Float64Array
  readonly excess: number
  /** of each model the configuration with the largest share, and whether that is not all */
  whole(): { readonly rounded: Config[]; readonly isSplit: boolean[] }
}

/** Solves the master over all columns; with `penalty` 0 it minimises the overuse of the rows and forgets the cost. */
function mix(standing: Standing, penalty: number): Mixed {
  const { limits } = standing.rows
  const columns = standing.pool.map((own, m) => {
    const first = standing.best ? own.get(keyOf(standing.best[m]!))! : [...own.values()][0]!
    return [first, ...[...own.values()].filter((config) => config !== first)]
  })
  let unit = 0
  for (const own of columns) for (const { cost } of own) unit = Math.max(unit, Math.abs(cost - own[0]!.cost))
  if (unit === 0) unit = 1
  const scaled = columns.map((own, m) =>
    own.map((config) => ({
      cost: penalty === 0 ? 0 : (config.cost - own[0]!.cost) / unit,
      uses: standing.useOfOne(m, config).map((use, r) => use / Math.max(limits[r]!, 1)),
    })),
  )
  const solution: MasterSolution = solveMaster(scaled, limits.length, penalty || 1)
  return {
    duals: solution.rows.map((value, r) => ((penalty === 0 ? 1 : unit) * value) / Math.max(limits[r]!, 1)),
    excess: solution.excess,
    whole: () => {
      const most = solution.shares.map((shares) =>
        shares.reduce((best, share, k) => (share > shares[best]! ? k : best), 0),
      )
      return {
        rounded: columns.map((own, m) => own[most[m]!]!),
        isSplit: solution.shares.map((shares, m) => shares[most[m]!]! < 1 - 1e-6),
      }
    },
  }
}

/**
 * Phase one: can mixes of configurations keep all rows at once? Generates columns against the overuse of the rows alone; its
 * bound above zero proves that no plan can.
 */
function canHoldTogether(standing: Standing): boolean {
  const { program, rows } = standing
  for (let round = 0; round < ROUNDS; round++) {
    const { duals, excess } = mix(standing, 0)
    if (excess <= ROUNDING) return true
    const before = standing.columnCount()
    let bound = -dot(duals, Float64Array.from(rows.limits))
    program.models.forEach((model, m) => {
      const { config, lower } = price(model, { ...pricesFor(rows, model, m, duals), cost: 0 }, true)!
      standing.keep(m, config)
      bound += lower
    })
    if (bound > ROUNDING) return false
    if (standing.columnCount() === before) return true
  }
  return true
}
