/**
 * Measured numbers as integers, so that a limit is kept or broken without rounding.
 *
 * `0.1 + 0.2 > 0.3` in doubles, and a solver's tolerance lets a byte pass. Numbers with up to `digits` decimals become
 * integers without error. Numbers with more are rounded on the finest grid whose sums are still exact, and a limit
 * on them is `slack` wider, which is what the rounding can have added: about 1e-13 of the sum.
 */
export interface Scale {
  readonly factor: number
  /** whether every value is a whole number of steps */
  readonly exact: boolean
}

/** Sums stay below this, with two bits to spare. */
const LARGEST = 2 ** 51
/** A limit is kept by so much of a step more, for what rounding of doubles can have taken from it. */
const NOISE = 1e-3

/** Whether `value · factor` is a whole number but for the rounding of doubles: a rate of 35.642999 is no 35.643. */
const isWhole = (scaled: number): boolean =>
  Math.abs(scaled - Math.round(scaled)) <= Math.max(1e-6, Math.abs(scaled) * 2 ** -50)

/**
 * The scale for `values` whose sums reach at most `total`.
 *
 *     scaleFor([2.1, 0.75], 20, 9) // → { factor: 1e9, exact: true }
 */
export function scaleFor(values: Iterable<number>, total: number, digits: number): Scale {
  let factor = 10 ** digits
  while (factor > 1 && total * factor > LARGEST / 256) factor /= 10
  let exact = true
  for (const value of values) {
    if (!isWhole(value * factor)) {
      exact = false
      break
    }
  }
  if (exact) return { factor, exact }
  factor = 1e15
  while (factor > 1 && total * factor > LARGEST) factor /= 10
  return { factor, exact: false }
}

export const toSteps = (scale: Scale, value: number): number => Math.round(value * scale.factor)

/** The largest sum of `terms` values, in steps, that keeps the limit. */
export function limitSteps(scale: Scale, limit: number, terms: number): number {
  const steps = Math.floor(limit * scale.factor + NOISE)
  return scale.exact ? steps : steps + Math.ceil(terms / 2)
}

/** Steps as the number that a reader expects: `0.3`, not `0.30000000000000004`. */
export const fromSteps = (scale: Scale, steps: number): number => steps / scale.factor
