import { mean, sum } from './statistics.ts'

/** Half the width of the interval that holds nine of ten, around a predicted value. */
export type HalfWidth = (predicted: number) => number

/** A little more than nine of ten pays for having chosen the stiffness of fits on the same wholes. */
const COVERAGE = 0.92

/**
 * The interval from errors of predictions that did not see what they predict (leave one out), in the conformal way: errors
 * are divided by how large errors are at such a value (a straight line of it), and the quantile of these quotients holds.
 *
 * @param level a size below which no interval is believed, for few or very small errors
 */
export function conformal(
  errors: readonly { readonly predicted: number; readonly error: number }[],
  level: number,
): HalfWidth {
  const n = errors.length
  const scale = scaleOf(errors, level)
  const quotients = errors.map(({ predicted, error }) => Math.abs(error) / scale(predicted)).sort((a, b) => a - b)
  const rank = Math.ceil((n + 1) * COVERAGE)
  // With few errors none is rare enough: the largest, and more the fewer there are.
  const factor = rank <= n ? quotients[rank - 1]! : (quotients.at(-1) ?? 2) * (1 + 3 / Math.max(n, 1))
  return (predicted) => Math.max(factor * scale(predicted), level / 4)
}

/** The mean size of errors as a rising straight line of the predicted value. */
function scaleOf(errors: readonly { readonly predicted: number; readonly error: number }[], level: number): HalfWidth {
  if (errors.length < 8) {
    const flat = Math.max(level, errors.length ? mean(errors.map(({ error }) => Math.abs(error))) : level)
    return () => flat
  }
  const x = errors.map(({ predicted }) => predicted)
  const y = errors.map(({ error }) => Math.abs(error))
  const [mx, my] = [mean(x), mean(y)]
  const spread = sum(x.map((value) => (value - mx) ** 2))
  const slope = spread > 0 ? Math.max(0, sum(x.map((value, i) => (value - mx) * (y[i]! - my))) / spread) : 0
  const floor = Math.max(0.3 * my, level / 10)
  return (predicted) => Math.max(my + slope * (predicted - mx), floor)
}
