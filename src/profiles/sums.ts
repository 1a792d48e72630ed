import type { Curve } from './curve.ts'
import { ridge } from './ridge.ts'
import { mean } from './statistics.ts'

/** A measured whole: one choice (by its number) for each block, and what was measured of it. */
export interface MeasuredWhole {
  readonly choices: readonly number[]
  readonly value: number
}

/** A whole's value as a curve over the sum of its choices' parts. */
export interface CurvedSum {
  readonly parts: readonly number[]
  readonly curve: Curve
}

/** No correction of single choices. */
export const STIFF = Number.POSITIVE_INFINITY
/**
 * A choice is taken for so many times what it was alone. That was measured, so that in company it does more and hardly less: deep
 * wholes, where little is left to lose, would make a small thing of what is only ever seen in them, and plans would take it.
 */
const CHANGE = { least: 0.7, most: 5 }
/** A softer candidate has to be better by this. */
const CLEARLY_LESS = 0.98

export const sumOf = (parts: readonly number[], choices: readonly number[]): number =>
  choices.reduce((total, choice) => total + parts[choice]!, 0)

export const wholeOf = ({ parts, curve }: CurvedSum, choices: readonly number[]): number =>
  curve.loss(sumOf(parts, choices))

/**
 * One step of Gauss and Newton with ridge regression: by what factor each choice's part has to change for the curve to meet
 * the wholes.
 *
 * @param alone the parts as they were measured alone; changes are counted from there, so that steps do not add up
 * @param lambda stiffness, whatever the number of wholes and blocks
 * @param scatterAt how far wholes scatter at a predicted value
 */
export function correctParts<Whole extends MeasuredWhole>(
  alone: readonly number[],
  { parts, curve }: CurvedSum,
  wholes: readonly Whole[],
  lambda: number,
  scatterAt: (predicted: number, whole: Whole) => number,
): number[] {
  const rows: Map<number, number>[] = []
  const targets: number[] = []
  for (const whole of wholes) {
    const { choices, value } = whole
    const total = sumOf(parts, choices)
    if (total <= 0) continue
    const slope = curve.slope(total)
    const scatter = scatterAt(curve.loss(total), whole)
    const row = new Map<number, number>()
    for (const choice of choices) if (alone[choice]! > 0) row.set(choice, (slope * alone[choice]!) / scatter)
    rows.push(row)
    const moved = slope * (total - sumOf(alone, choices))
    targets.push((value - curve.loss(total) + moved) / scatter)
  }
  if (rows.length === 0) return [...parts]
  const squares = mean(rows.map((row) => [...row.values()].reduce((total, value) => total + value * value, 0)))
  const gamma = ridge(rows, targets, lambda * Math.max(squares, 1e-12), parts.length)
  return alone.map((part, choice) => part * Math.max(CHANGE.least, Math.min(CHANGE.most, 1 + gamma[choice]!)))
}

/** Predictions of wholes by fits that have not seen them: each of `folds` parts by a fit to the others. */
export function unseen<Whole extends { readonly choices: readonly number[] }>(
  wholes: readonly Whole[],
  folds: number,
  fitTo: (others: readonly Whole[], fold: number) => CurvedSum,
): { readonly whole: Whole; readonly predicted: number; readonly fit: CurvedSum }[] {
  const predictions: { whole: Whole; predicted: number; fit: CurvedSum }[] = []
  for (let fold = 0; fold < folds; fold++) {
    const fit = fitTo(
      wholes.filter((_, i) => i % folds !== fold),
      fold,
    )
    for (let i = fold; i < wholes.length; i += folds) {
      predictions.push({ whole: wholes[i]!, predicted: wholeOf(fit, wholes[i]!.choices), fit })
    }
  }
  return predictions
}

/** The candidate of least error; a later, softer one has to be clearly better. */
export function best(candidates: readonly number[], errorOf: (candidate: number) => number): number {
  let chosen = candidates[0]!
  let least = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const error = errorOf(candidate)
    if (error >= least * CLEARLY_LESS) continue
    least = error
    chosen = candidate
  }
  return chosen
}
