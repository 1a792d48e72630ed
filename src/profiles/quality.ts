import { type Curve, fitCurve, type Point } from './curve.ts'
import { conformal, type HalfWidth } from './interval.ts'
import { ridge } from './ridge.ts'
import { mean } from './statistics.ts'

/** A measured whole: one choice (by its number) for each block, the quality that it lost, and its divergence if measured. */
export interface MeasuredLoss {
  readonly choices: readonly number[]
  readonly loss: number
  readonly divergence?: number | undefined
}

/** Quality lost by a whole: a rising curve over the sum of its choices' divergences. */
export interface QualityLoss {
  readonly curve: Curve
  /** divergence of each choice, corrected by what wholes with it lost */
  readonly divergences: readonly number[]
  readonly half: HalfWidth
}

interface Stiffness {
  /** of the choices' corrections by the divergences of wholes; Infinity for none */
  readonly divergences: number
  /** of the curve, see `fitCurve` */
  readonly curve: number
  /** of the choices' corrections by the losses of wholes; Infinity for none */
  readonly choices: number
}

/** Corrections of single choices are only fitted when there are this many wholes. */
const ENOUGH = 16
const STIFF = Number.POSITIVE_INFINITY
const FOLDS = 8
/** of the curve from summed to measured divergence, on which points lie closely */
const DIVERGENCE_STIFFNESS = 1
/** up to here each whole is left out by itself for the interval */
const MOST_FOLDS = 24
/** A descendant alone says as much about the curve as this part of a measured whole; plans are wholes. */
const SINGLE_WEIGHT = 0.3

/**
 * Fits the divergence of each choice to the divergences of measured wholes, then the curve to the losses of wholes and single
 * descendants, and then the choices again to what the curve misses.
 *
 * Summed divergences rank wholes almost rightly, but deep wholes lose more than their sum says; the curve takes that up. A loss
 * counts the pictures that turn wrong, of which a hundred pictures have few; divergence says something about every picture, and
 * so shows with a tenth of the noise what a choice does in the company of others. How freely curve and choices follow the data is decided by cross-validation; the interval comes from wholes that a fit has not seen.
 *
 * @param divergences of each choice alone, ≥ 0
 * @param singles losses of choices alone, where they were measured
 */
export function fitQualityLoss(
  divergences: readonly number[],
  singles: readonly { readonly choice: number; readonly loss: number }[],
  wholes: readonly MeasuredLoss[],
): QualityLoss {
  const known: Known = { divergences, singles, typical: typicalOf(divergences) }
  const stiffness = chooseStiffness(known, wholes)
  const { curve, divergences: corrected } = fitBoth(known, wholes, stiffness)
  const errors = unseen((others) => fitBoth(known, others, stiffness), wholes, Math.min(wholes.length, MOST_FOLDS))
  if (wholes.length === 0) {
    for (const { choice, loss } of singles) {
      const predicted = curve.loss(divergences[choice]!)
      errors.push({ predicted, error: 2 * (loss - predicted) }) // wholes stray further than single descendants
    }
  }
  const range = Math.max(
    1e-6,
    ...wholes.map(({ loss }) => Math.abs(loss)),
    ...singles.map(({ loss }) => Math.abs(loss)),
  )
  return { curve, divergences: corrected, half: conformal(errors, 0.03 * range) }
}

interface Known {
  readonly divergences: readonly number[]
  readonly singles: readonly { readonly choice: number; readonly loss: number }[]
  /** so that a choice of almost no divergence can be corrected too */
  readonly typical: number
}

type Fit = Pick<QualityLoss, 'curve' | 'divergences'>

const sumOf = (values: readonly number[], choices: readonly number[]): number =>
  choices.reduce((total, choice) => total + values[choice]!, 0)

const predict = ({ curve, divergences }: Fit, choices: readonly number[]): number =>
  curve.loss(sumOf(divergences, choices))

function typicalOf(divergences: readonly number[]): number {
  const positive = divergences.filter((value) => value > 0)
  return positive.length ? 0.1 * mean(positive) : 0
}

/** @param known with the divergences that `fitDivergences` found */
function fitLosses(
  known: Known,
  wholes: readonly MeasuredLoss[],
  stiffness: Pick<Stiffness, 'curve' | 'choices'>,
): Fit {
  let divergences = known.divergences
  const curveNow = (): Curve => {
    const points = pointsOf(divergences, wholes)
    const weight = wholes.length ? SINGLE_WEIGHT : 1
    for (const { choice, loss } of known.singles) points.push({ divergence: divergences[choice]!, loss, weight })
    return fitCurve(points, stiffness.curve)
  }
  let curve = curveNow()
  if (stiffness.choices === STIFF || wholes.length === 0) return { curve, divergences }
  for (let pass = 0; pass < 2; pass++) {
    divergences = correct(known, divergences, curve, wholes, stiffness.choices)
    curve = curveNow()
  }
  return { curve, divergences }
}

function fitBoth(known: Known, wholes: readonly MeasuredLoss[], stiffness: Stiffness): Fit {
  return fitLosses(corrected(known, wholes, stiffness.divergences), wholes, stiffness)
}

const corrected = (known: Known, wholes: readonly MeasuredLoss[], stiffness: number): Known =>
  stiffness === STIFF
    ? known
    : { ...known, divergences: fitDivergences(known, divergencesOf(wholes), stiffness).divergences }

const pointsOf = (divergences: readonly number[], wholes: readonly MeasuredLoss[]): Point[] =>
  wholes.map(({ choices, loss }) => ({ divergence: sumOf(divergences, choices), loss, weight: 1 }))

/**
 * Divergences of choices as wholes show them; the curve is from their sum to the divergence of a whole.
 *
 * @param measured wholes with their divergence as their loss
 */
function fitDivergences(known: Known, measured: readonly MeasuredLoss[], stiffness: number): Fit {
  let divergences = known.divergences
  let curve = fitCurve(pointsOf(divergences, measured), DIVERGENCE_STIFFNESS)
  if (stiffness === STIFF) return { curve, divergences }
  for (let pass = 0; pass < 2; pass++) {
    divergences = correct(known, divergences, curve, measured, stiffness)
    curve = fitCurve(pointsOf(divergences, measured), DIVERGENCE_STIFFNESS)
  }
  return { curve, divergences }
}

/** Wholes with their measured divergence in the place of the loss. */
const divergencesOf = (wholes: readonly MeasuredLoss[]): MeasuredLoss[] =>
  wholes.flatMap(({ choices, divergence }) => (divergence === undefined ? [] : [{ choices, loss: divergence }]))

/** One step of Gauss and Newton: how much each choice's divergence has to change for the curve to meet the wholes. */
function correct(
  known: Known,
  divergences: readonly number[],
  curve: Curve,
  wholes: readonly MeasuredLoss[],
  lambda: number,
): number[] {
  const rows: Map<number, number>[] = []
  const targets: number[] = []
  const floor = 0.1 * mean(wholes.map(({ loss }) => Math.abs(loss))) + 1e-9
  for (const { choices, loss } of wholes) {
    const total = sumOf(divergences, choices)
    const slope = curve.slope(total)
    const scatter = floor + 0.1 * curve.loss(total)
    const row = new Map<number, number>()
    for (const choice of choices) {
      const reach = known.divergences[choice]! > 0 ? known.divergences[choice]! + known.typical : 0
      if (reach > 0) row.set(choice, (slope * reach) / scatter)
    }
    rows.push(row)
    // Relative to the choices as they were measured alone, so that passes do not add up.
    const moved = slope * (total - sumOf(known.divergences, choices))
    targets.push((loss - curve.loss(total) + moved) / scatter)
  }
  const squares = mean(rows.map((row) => [...row.values()].reduce((total, value) => total + value * value, 0)))
  const gamma = ridge(rows, targets, lambda * Math.max(squares, 1e-12), divergences.length)
  return known.divergences.map((alone, choice) =>
    alone > 0 ? Math.max(0.1 * alone, alone + (alone + known.typical) * gamma[choice]!) : alone,
  )
}

function chooseStiffness(known: Known, wholes: readonly MeasuredLoss[]): Stiffness {
  const weight = wholes.length + SINGLE_WEIGHT * known.singles.length
  if (wholes.length < 6) return { divergences: STIFF, curve: weight < 6 ? STIFF : 3, choices: STIFF }
  const measured = divergencesOf(wholes)
  const floor = 0.1 * mean(measured.map(({ loss }) => loss))
  const divergences =
    measured.length < ENOUGH
      ? STIFF
      : best([STIFF, 3, 0.3, 0.03, 0.003], (each) => {
          const errors = unseen((others) => fitDivergences(known, others, each), measured, FOLDS)
          return mean(errors.map(({ predicted, error }) => Math.abs(error) / (floor + predicted)))
        })
  // The divergences of each fold do not hang on what follows.
  const folds = new Map<number, Known>()
  const lossError = (stiffness: Pick<Stiffness, 'curve' | 'choices'>): number => {
    const fitTo = (others: readonly MeasuredLoss[], fold: number) => {
      if (!folds.has(fold)) folds.set(fold, corrected(known, others, divergences))
      return fitLosses(folds.get(fold)!, others, stiffness)
    }
    return mean(unseen(fitTo, wholes, FOLDS).map(({ error }) => Math.abs(error)))
  }
  const curve = best([STIFF, 3, 0.5], (each) => lossError({ curve: each, choices: STIFF }))
  if (wholes.length < ENOUGH) return { divergences, curve, choices: STIFF }
  return { divergences, curve, choices: best([STIFF, 3, 0.3, 0.03], (choices) => lossError({ curve, choices })) }
}

/** The candidate of least error; a later, softer one has to be clearly better. */
function best(candidates: readonly number[], errorOf: (candidate: number) => number): number {
  let chosen = candidates[0]!
  let least = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const error = errorOf(candidate)
    if (error >= least * 0.98) continue
    least = error
    chosen = candidate
  }
  return chosen
}

/** Predictions of wholes by fits that have not seen them: each of `folds` parts by a fit to the others. */
function unseen(
  fitTo: (others: readonly MeasuredLoss[], fold: number) => Fit,
  wholes: readonly MeasuredLoss[],
  folds: number,
) {
  const errors: { predicted: number; error: number }[] = []
  for (let fold = 0; fold < folds; fold++) {
    const fit = fitTo(
      wholes.filter((_, i) => i % folds !== fold),
      fold,
    )
    for (let i = fold; i < wholes.length; i += folds) {
      const { choices, loss } = wholes[i]!
      const predicted = predict(fit, choices)
      errors.push({ predicted, error: loss - predicted })
    }
  }
  return errors
}
