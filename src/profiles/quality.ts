import { type Curve, chained, fitCurve, type Point } from './curve.ts'
import { fitGrowth, growthStiffness } from './growth.ts'
import { conformal, type HalfWidth, type UnseenError } from './interval.ts'
import { mean } from './statistics.ts'
import { best, type CurvedSum, correctParts, STIFF, sumOf, unseen } from './sums.ts'

/** A measured whole: one choice (by its number) for each block, the quality that it lost, and its divergence if measured. */
export interface MeasuredLoss {
  readonly choices: readonly number[]
  readonly loss: number
  readonly divergence?: number | undefined
}

/** A whole of which only the divergence was measured, on a part of the pictures. */
export interface Glance {
  readonly choices: readonly number[]
  readonly divergence: number
}

/** Quality lost by a whole: a rising curve over the sum of its choices' divergences. */
export interface QualityLoss {
  readonly curve: Curve
  /** divergence of each choice, corrected by what wholes with it lost */
  readonly divergences: readonly number[]
  /** half the width of the interval around the loss of a whole, by the sum of its divergences */
  readonly half: HalfWidth
}

interface Stiffness {
  /** of the choices' corrections by the divergences of wholes; Infinity for none */
  readonly growth: number
  /** of the curve, see `fitCurve` */
  readonly curve: number
  /** of the choices' corrections by the losses of wholes; Infinity for none */
  readonly choices: number
}

/** Corrections of single choices are only fitted when there are this many wholes. */
const ENOUGH = 16
const FOLDS = 8
/** up to here each whole is left out by itself for the interval */
const MOST_FOLDS = 24
/**
 * All descendants alone say as much about the curve as so many measured wholes, and each no more than a part of one: they were
 * judged on few pictures, and all on the same ones, so that their number does not make up for it.
 */
const SINGLES = { all: 3, each: 0.3 }

/**
 * Fits the divergence of each choice to the divergences of measured wholes, then the curve from divergence to loss to wholes
 * and single descendants, and then the choices again to what the curve misses.
 *
 * Summed divergences rank wholes almost rightly, but deep wholes diverge more than their sum says: see `fitGrowth`. A loss
 * counts the pictures that turn wrong, of which a hundred pictures have few; divergence says something about every picture,
 * and so shows with a tenth of the noise what a choice does in the company of others. What a divergence costs is read where
 * it was measured, not where it was predicted, so that errors of the one do not bend the other. How freely curve and choices
 * follow the data is decided by cross-validation; the interval comes from wholes that a fit has not seen.
 *
 * @param divergences of each choice alone, ≥ 0
 * @param singles losses of choices alone, where they were measured
 */
export function fitQualityLoss(
  divergences: readonly number[],
  singles: readonly { readonly choice: number; readonly loss: number }[],
  wholes: readonly MeasuredLoss[],
  glances: readonly Glance[] = [],
): QualityLoss {
  const known: Known = { divergences, singles, glances }
  const stiffness = chooseStiffness(known, wholes)
  const fit = fitBoth(known, wholes, stiffness)
  // A whole errs by how far its divergence is off, in proportion, and by what that costs where it stands on the curve.
  const sizeAt = ({ curve }: Pick<CurvedSum, 'curve'>, sum: number): number => curve.slope(sum) * sum
  const errors: UnseenError[] = unseen(wholes, Math.min(wholes.length, MOST_FOLDS), (others) =>
    fitBoth(known, others, stiffness),
  ).map(({ whole, predicted, fit: other }) => ({
    at: sizeAt(other, sumOf(other.parts, whole.choices)),
    error: whole.loss - predicted,
  }))
  if (wholes.length === 0) {
    for (const { choice, loss } of singles) {
      const alone = divergences[choice]!
      const error = 2 * (loss - fit.curve.loss(alone)) // wholes stray further than single descendants
      errors.push({ at: sizeAt(fit, alone), error })
    }
  }
  const range = Math.max(
    1e-6,
    ...wholes.map(({ loss }) => Math.abs(loss)),
    ...singles.map(({ loss }) => Math.abs(loss)),
  )
  const half = conformal(errors, 0.03 * range)
  return { curve: fit.curve, divergences: fit.parts, half: (sum) => half(sizeAt(fit, sum)) }
}

interface Known {
  readonly divergences: readonly number[]
  readonly singles: readonly { readonly choice: number; readonly loss: number }[]
  readonly glances: readonly Glance[]
}

const fitBoth = (known: Known, wholes: readonly MeasuredLoss[], stiffness: Stiffness): CurvedSum =>
  fitLosses(known, growthOf(known, wholes, stiffness.growth), wholes, stiffness)

const growthOf = (known: Known, wholes: readonly MeasuredLoss[], stiffness: number): CurvedSum =>
  fitGrowth(known.divergences, divergencesOf(known, wholes), stiffness)

const divergencesOf = ({ glances }: Known, wholes: readonly MeasuredLoss[]) => ({
  whole: wholes.flatMap(({ choices, divergence: value }) => (value === undefined ? [] : [{ choices, value }])),
  part: glances.map(({ choices, divergence: value }) => ({ choices, value })),
})

/** The curve from the divergence of wholes to what they lose, and in softer fits the choices by what it misses. */
function fitLosses(
  { divergences, singles }: Known,
  growth: CurvedSum,
  wholes: readonly MeasuredLoss[],
  stiffness: Pick<Stiffness, 'curve' | 'choices'>,
): CurvedSum {
  const weight = wholes.length ? singleWeight(singles.length) : 1
  const alone = singles.map(({ choice, loss }): Point => ({ divergence: divergences[choice]!, loss, weight }))
  const fitTo = (parts: readonly number[]): CurvedSum => {
    const points = wholes.map(({ choices, loss, divergence }): Point => {
      return { divergence: divergence ?? growth.curve.loss(sumOf(parts, choices)), loss, weight: 1 }
    })
    return { parts, curve: chained(growth.curve, fitCurve([...points, ...alone], stiffness.curve)) }
  }
  let fit = fitTo(growth.parts)
  if (stiffness.choices === STIFF || wholes.length === 0) return fit
  const floor = 0.1 * mean(wholes.map(({ loss }) => Math.abs(loss))) + 1e-9
  const measured = wholes.map(({ choices, loss: value }) => ({ choices, value }))
  for (let pass = 0; pass < 2; pass++) {
    const scatter = (predicted: number) => floor + 0.1 * predicted
    fit = fitTo(correctParts(growth.parts, fit, measured, stiffness.choices, scatter))
  }
  return fit
}

const singleWeight = (count: number): number => Math.min(SINGLES.each, SINGLES.all / Math.max(count, 1))

function chooseStiffness(known: Known, wholes: readonly MeasuredLoss[]): Stiffness {
  const growth = growthStiffness(known.divergences, divergencesOf(known, wholes))
  const weight = wholes.length + singleWeight(known.singles.length) * known.singles.length
  if (wholes.length < 6) return { growth, curve: weight < 6 ? STIFF : 3, choices: STIFF }
  // The divergences of each fold do not hang on what follows.
  const folds = new Map<number, CurvedSum>()
  const lossError = (stiffness: Pick<Stiffness, 'curve' | 'choices'>): number => {
    const fitTo = (others: readonly MeasuredLoss[], fold: number) => {
      if (!folds.has(fold)) folds.set(fold, growthOf(known, others, growth))
      return fitLosses(known, folds.get(fold)!, others, stiffness)
    }
    return mean(unseen(wholes, FOLDS, fitTo).map(({ whole, predicted }) => Math.abs(whole.loss - predicted)))
  }
  const curve = best([STIFF, 3, 0.5], (each) => lossError({ curve: each, choices: STIFF }))
  if (wholes.length < ENOUGH) return { growth, curve, choices: STIFF }
  return { growth, curve, choices: best([STIFF, 3, 0.3, 0.03], (choices) => lossError({ curve, choices })) }
}
