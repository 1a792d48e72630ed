import { type CloseOptions, closeGap } from './close.ts'
import type { Program } from './compile.ts'
import { generate, seed } from './generate.ts'
import type { Config } from './price.ts'
import type { Rows } from './rows.ts'
import { type Pool, Standing } from './standing.ts'

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

/** Relative gap at which a plan counts as optimal. */
export const ENOUGH = 1e-4

/** Attempts to close the gap. The first is made even when the gap is small enough: mostly it is cheap, and makes plans exact. */
const ATTEMPTS: readonly CloseOptions[] = [
  { listed: 150, work: 2e5 },
  { listed: 500, work: 1e6 },
  { listed: 2000, work: 4e6 },
  { listed: 8000, work: 16e6 },
]

/**
 * The cheapest plan under rows that models share, by Dantzig–Wolfe decomposition.
 *
 * The master mixes whole-model configurations; its prices for the rows let each model be priced by itself; the sum is a lower
 * bound. What is left of the gap is closed by listing every configuration whose reduced cost lies within it and choosing one for
 * each model. When everything listed was all there is, the plan is optimal; otherwise the bound says how far it can be.
 */
export function decompose(program: Program, rows: Rows, { pool, target, deadline }: DecomposeOptions): Outcome {
  const standing = new Standing(program, rows, pool)
  const reached = () =>
    target !== undefined && ((standing.best !== undefined && standing.cost <= target) || standing.lower > target)
  const stop = () => standing.isOptimal() || reached() || performance.now() > deadline
  const outcome = (lower: number): Outcome => ({
    configs: standing.best,
    cost: standing.cost,
    lower,
    pool: {
      configs: standing.pool.map((own) => [...own.values()]),
      duals: standing.duals,
      plan: standing.best,
    },
    duals: standing.duals,
  })
  const none = () => outcome(Number.POSITIVE_INFINITY)

  const free = standing.priceAll(standing.duals, true)
  if (!free) return none()
  standing.offer(free.map(({ config }) => config))
  if (pool?.plan) standing.offer(pool.plan)
  if (!stop()) {
    if (!standing.addLightest()) return none()
    seed(standing, free, pool?.duals)
    if (!generate(standing, stop)) return none()
  }
  for (const attempt of ATTEMPTS) {
    if (stop() || (attempt !== ATTEMPTS[0] && standing.cost - standing.lower <= ENOUGH * Math.abs(standing.cost))) break
    closeGap(standing, attempt)
  }
  return outcome(standing.isOptimal() ? standing.cost : Math.min(standing.lower, standing.cost))
}
