import { conformal, type UnseenError } from './interval.ts'
import { ridge } from './ridge.ts'
import { mean, median } from './statistics.ts'

/** A measured whole: one choice (by its number) for each block, and what it costs. */
export interface MeasuredCost {
  readonly choices: readonly number[]
  readonly cost: number
}

/** What wholes cost against the sum of their parts, both as shares of what the original costs: `factor`·sum + `constant`. */
export interface Line {
  readonly factor: number
  readonly constant: number
}

/** A whole's cost as a sum over its choices, with the interval of nine of ten. */
export interface AdditiveCost {
  readonly line: Line
  of(choice: number): number
  total(choices: readonly number[]): { readonly value: number; readonly low: number; readonly high: number }
}

/** The choices of a model, one of each block. */
export interface Parts {
  /** cost of each choice measured alone */
  readonly costs: readonly number[]
  /** each block's original, by its number */
  readonly originals: readonly number[]
}

/** Residuals of single choices are only fitted when there are this many wholes. */
const ENOUGH = 16
const FOLDS = 8
/** up to here each whole is left out by itself for the interval */
const MOST_FOLDS = 24
const LAMBDAS = [0.03, 0.3, 3, Number.POSITIVE_INFINITY]
/** What an interval is at least, with nothing measured: sums of block times are within −14…+7 % of the fused graph. */
const UNMEASURED = 0.1

/** The line of parts that add up to wholes. */
const STRAIGHT: Line = { factor: 1, constant: 0 }
/** How much a line is drawn to the one that is expected, in wholes: to `STRAIGHT`, and to that of another input size. */
const DRAWN = { straight: 0.2, near: 0.5 }
/** Limits are shares of what the original takes, so that an error there is one of all plans; it is known best of all. */
const ORIGINAL_WEIGHT = 25

/**
 * Fits the cost of wholes to the sum of the costs of their parts: a·Σ part + b, then a residual for each choice, all in
 * relative errors. With no wholes it is the sum itself.
 *
 * Parts and wholes are measured at different times, between which the speed of a machine changes; so the scale of the parts is
 * taken from the original, which is measured both ways, and never counts as an error of the sum.
 *
 * @param near the line of the same model at another input size, which wholes here are expected to follow
 */
export function fitAdditive(parts: Parts, measured: readonly MeasuredCost[], near?: Line): AdditiveCost {
  const usable = measured.filter(({ choices, cost }) => cost > 0 && sumOf(parts.costs, choices) > 0)
  const isOriginal = ({ choices }: MeasuredCost) =>
    parts.originals.every((original, block) => choices[block] === original)
  const wholes: Wholes = {
    original: usable.find(isOriginal),
    others: usable.filter((whole) => !isOriginal(whole)),
    near,
  }
  const lambda = wholes.others.length >= ENOUGH ? bestLambda(parts, wholes) : Number.POSITIVE_INFINITY
  const { line, costs: of } = fitCosts(parts, wholes, lambda)
  const errors = unseen(parts, wholes, lambda, Math.min(wholes.others.length, MOST_FOLDS))
  const half = conformal(errors, errors.length ? 0.02 : UNMEASURED)(1)
  return {
    line,
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

interface Wholes {
  readonly original: MeasuredCost | undefined
  readonly others: readonly MeasuredCost[]
  readonly near: Line | undefined
}

function bestLambda(parts: Parts, wholes: Wholes): number {
  const errorOf = (lambda: number): number => mean(unseen(parts, wholes, lambda, FOLDS).map(({ error }) => error ** 2))
  const errors = LAMBDAS.map(errorOf)
  return LAMBDAS[errors.indexOf(Math.min(...errors))]!
}

/** Relative errors of wholes under fits that have not seen them: each of `folds` parts under a fit to the others. */
function unseen(parts: Parts, wholes: Wholes, lambda: number, folds: number): UnseenError[] {
  const errors: UnseenError[] = []
  for (let fold = 0; fold < folds; fold++) {
    const others = wholes.others.filter((_, i) => i % folds !== fold)
    const { costs } = fitCosts(parts, { ...wholes, others }, lambda)
    for (let i = fold; i < wholes.others.length; i += folds) {
      errors.push({ at: 1, error: relativeError(costs, wholes.others[i]!) })
    }
  }
  return errors
}

/** Cost of each choice within a whole. */
function fitCosts(parts: Parts, { original, others, near }: Wholes, lambda: number): { line: Line; costs: number[] } {
  const alone = sumOf(parts.costs, parts.originals)
  const ratios = (original ? [original] : others).map(({ choices, cost }) => cost / sumOf(parts.costs, choices))
  const scale = ratios.length ? median(ratios) : 1
  const scaled = parts.costs.map((cost) => scale * cost)
  const level = scale * alone
  const line = fitLine(scaled, level, { original, others, near })
  const share = (line.constant * level) / parts.originals.length
  const costs = scaled.map((cost) => Math.max(line.factor * cost + share, 0.05 * line.factor * cost))
  if (lambda === Number.POSITIVE_INFINITY) return { line, costs }
  const rows = others.map(({ choices }) => {
    const total = sumOf(costs, choices)
    return new Map(choices.map((choice) => [choice, costs[choice]! / total]))
  })
  const targets = others.map((whole) => relativeError(costs, whole))
  const gamma = ridge(rows, targets, lambda * meanSquare(rows), costs.length)
  return { line, costs: costs.map((cost, choice) => cost * Math.max(0.1, 1 + gamma[choice]!)) }
}

/** So that λ means the same whatever the number of blocks. */
const meanSquare = (rows: readonly ReadonlyMap<number, number>[]): number =>
  mean(rows.map((row) => [...row.values()].reduce((total, value) => total + value * value, 0)))

/**
 * Weighted by 1/cost², and drawn to the line that is expected.
 *
 * @param level what the original costs
 */
function fitLine(scaled: readonly number[], level: number, { original, others, near }: Wholes): Line {
  const expected = near ?? STRAIGHT
  const prior = near ? DRAWN.near : DRAWN.straight
  let [xx, x1, n, xy, y1] = [prior, 0, prior, prior * expected.factor, prior * expected.constant]
  const add = ({ choices, cost }: MeasuredCost, weight: number) => {
    const x = sumOf(scaled, choices) / cost
    const one = level / cost
    xx += weight * x * x
    x1 += weight * x * one
    n += weight * one * one
    xy += weight * x
    y1 += weight * one
  }
  if (original) add(original, ORIGINAL_WEIGHT)
  for (const whole of others) add(whole, 1)
  const determinant = xx * n - x1 * x1
  return { factor: (xy * n - x1 * y1) / determinant, constant: (xx * y1 - x1 * xy) / determinant }
}
