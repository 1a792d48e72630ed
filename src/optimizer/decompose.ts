import { type CloseOptions, closeGap } from './close.ts'
import type { Program } from './compile.ts'
import { generate, seed } from './generate.ts'
import type { Config } from './price.ts'
import { refill } from './refill.ts'
import type { Rows } from './rows.ts'
import { type Pool, Standing } from './standing.ts'

export interface DecomposeOptions {
  readonly pool?: Pool | undefined
  /** stop as soon as a plan costs no more than this, or none can */
  readonly target?: number | undefined
  /** cost of a plan known elsewhere: dearer ones are of no interest, and need not be found */
  readonly cutoff?: number | undefined
  /** attempts to close the gap, at most; all of them unless given */
  readonly attempts?: number | undefined
  /** relative gap at which the search ends; that at which a plan counts as optimal unless given */
  readonly enough?: number | undefined
  /** on the clock of `performance.now()` */
  readonly deadline: number
}

export interface Outcome {
  /** undefined: no plan was found (below the cutoff); with `lower` infinite there is none */
  readonly configs: readonly Config[] | undefined
  readonly cost: number
  readonly lower: number
  readonly pool: Pool
  /** prices of the rows, the bound that they alone prove, and the least reduced cost of each model at them */
  readonly duals: Float64Array
  readonly root: number
  readonly leastReduced: Float64Array
  /** the least latency of each model that loads a core */
  readonly leastLatency: Float64Array
}

/** While no plan is known, the search goes on for so long after its deadline: a problem with a plan must not seem to have none. */
const GRACE_MS = 2000

export const isLate = (deadline: number, hasPlan: boolean): boolean =>
  performance.now() > (hasPlan ? deadline : deadline + GRACE_MS)

/** Relative gap at which a plan counts as optimal. */
export const ENOUGH = 1e-4

/** Whether a plan of this cost counts as optimal. */
export const isEnough = (cost: number, lower: number, share = ENOUGH): boolean => cost - lower <= share * Math.abs(cost)

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
export function decompose(program: Program, rows: Rows, options: DecomposeOptions): Outcome {
  const { pool, target, cutoff, deadline } = options
  const standing = new Standing(program, rows, pool, cutoff)
  const reached = () =>
    target !== undefined && ((standing.best !== undefined && standing.cost <= target) || standing.lower > target)
  const stop = () => standing.isSettled() || reached() || isLate(deadline, standing.best !== undefined)
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
    root: standing.root,
    leastReduced: standing.leastReduced,
    leastLatency: standing.leastLatency,
  })
  const none = () => outcome(Number.POSITIVE_INFINITY)

  const free = standing.priceAll(standing.duals, true)
  if (!free) return none()
  standing.offer(free.map(({ config }) => config))
  if (pool?.plan) standing.offer(pool.plan)
  if (!standing.isSettled() && !reached()) {
    // However little time there is: what uses least proves that there is no plan, or is one.
    const lightest = standing.addLightest()
    if (!lightest) return none()
    for (const configs of lightest) standing.offerImproved(configs)
  }
  if (!stop()) {
    seed(standing, free, pool?.duals)
    if (!generate(standing, stop)) return none()
  }
  if (!stop()) refill(standing)
  for (const attempt of ATTEMPTS.slice(0, options.attempts)) {
    if (stop() || (attempt !== ATTEMPTS[0] && isEnough(standing.ceiling(), standing.lower, options.enough))) break
    closeGap(standing, attempt)
  }
  return outcome(standing.isSettled() ? standing.ceiling() : Math.min(standing.lower, standing.ceiling()))
}
