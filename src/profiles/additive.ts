import { conformal } from './interval.ts'
import { ridge } from './ridge.ts'
import { mean } from './statistics.ts'

/** A measured whole: one choice (by its number) for each block, and what it costs. */
export interface MeasuredCost {
  readonly choices: readonly number[]
  readonly cost: number
}

/** A whole's cost as a sum over its choices, plus a constant for each block; with the interval of nine of ten. */
export interface AdditiveCost {
  of(choice: number): number
  total(choices: readonly number[]): { readonly value: number; readonly low: number; readonly high: number }
}

/** Residuals of single choices are only fitted when there are this many wholes. */
const ENOUGH = 16
const FOLDS = 8
/** up to here each whole is left out by itself for the interval */
const MOST_FOLDS = 24
const LAMBDAS = [0.03, 0.3, 3, Number.POSITIVE_INFINITY]
/** What an interval is at least, with nothing measured: sums of block times are within −14…+7 % of the fused graph. */
const UNMEASURED = 0.1

/**
 * Fits the cost of wholes to the sum of the costs of their parts: a·Σ part + b, then a residual for each choice, all in
 * relative errors. With no wholes it is the sum itself.
 *
 * @param parts cost of each choice measured alone
 */
export function fitAdditive(parts: readonly number[], measured: readonly MeasuredCost[], blocks: number): AdditiveCost {
  const usable = measured.filter(({ choices, cost }) => cost > 0 && sumOf(parts, choices) > 0)
  const lambda = usable.length >= ENOUGH ? bestLambda(parts, usable, blocks) : Number.POSITIVE_INFINITY
  const of = fitCosts(parts, usable, blocks, lambda)
  const errors = unseen(parts, usable, blocks, lambda, Math.min(usable.length, MOST_FOLDS))
  const half = conformal(errors, errors.length ? 0.02 : UNMEASURED)(1)
  return {
    of: (choice) => of[choice]!,
    total(choices) {
      const value = sumOf(of, choices)
      return { value, low: value * (1 - half), high: value * (1 + half) }
    },
  }
}

const sumOf = (costs: readonly number[], choices: readonly number[]): number =>
  choices.reduce((total, choice) => total + costs[choice]!, 0)

const relativeError = (costs: readonly number[], { choices, cost }: MeasuredCost): number =>
  (cost - sumOf(costs, choices)) / sumOf(costs, choices)

function bestLambda(parts: readonly number[], measured: readonly MeasuredCost[], blocks: number): number {
  const errorOf = (lambda: number): number =>
    mean(unseen(parts, measured, blocks, lambda, FOLDS).map(({ error }) => error ** 2))
  const errors = LAMBDAS.map(errorOf)
  return LAMBDAS[errors.indexOf(Math.min(...errors))]!
}

/** Relative errors of wholes under fits that have not seen them: each of `folds` parts under a fit to the others. */
function unseen(
  parts: readonly number[],
  measured: readonly MeasuredCost[],
  blocks: number,
  lambda: number,
  folds: number,
): { predicted: number; error: number }[] {
  const errors: { predicted: number; error: number }[] = []
  for (let fold = 0; fold < folds; fold++) {
    const others = measured.filter((_, i) => i % folds !== fold)
    const costs = fitCosts(parts, others, blocks, lambda)
    for (let i = fold; i < measured.length; i += folds) {
      errors.push({ predicted: 1, error: relativeError(costs, measured[i]!) })
    }
  }
  return errors
}

/** Cost of each choice within a whole. */
function fitCosts(
  parts: readonly number[],
  measured: readonly MeasuredCost[],
  blocks: number,
  lambda: number,
): number[] {
  const { factor, constant } = fitLine(parts, measured)
  const share = constant / blocks
  const costs = parts.map((part) => Math.max(factor * part + share, 0.05 * factor * part))
  if (lambda === Number.POSITIVE_INFINITY) return costs
  const rows = measured.map(({ choices }) => {
    const total = sumOf(costs, choices)
    return new Map(choices.map((choice) => [choice, costs[choice]! / total]))
  })
  const targets = measured.map((whole) => relativeError(costs, whole))
  const gamma = ridge(rows, targets, lambda * meanSquare(rows), parts.length)
  return costs.map((cost, choice) => cost * Math.max(0.1, 1 + gamma[choice]!))
}

/** So that λ means the same whatever the number of blocks. */
const meanSquare = (rows: readonly ReadonlyMap<number, number>[]): number =>
  mean(rows.map((row) => [...row.values()].reduce((total, value) => total + value * value, 0)))

/** Weighted by 1/cost², and drawn to factor 1 and constant 0 as by one more whole measured to a tenth. */
function fitLine(parts: readonly number[], measured: readonly MeasuredCost[]): { factor: number; constant: number } {
  let [xx, x1, n, xy, y1] = [0, 0, 0, 0, 0]
  const typical = measured.length ? mean(measured.map(({ cost }) => cost)) : 1
  for (const { choices, cost } of measured) {
    const x = sumOf(parts, choices) / cost
    const one = typical / cost
    xx += x * x
    x1 += x * one
    n += one * one
    xy += x
    y1 += one
  }
  // unknowns: factor, constant / typical
  const prior = 0.2
  xx += prior
  xy += prior
  n += prior
  const determinant = xx * n - x1 * x1
  return { factor: (xy * n - x1 * y1) / determinant, constant: (typical * (xx * y1 - x1 * xy)) / determinant }
}
