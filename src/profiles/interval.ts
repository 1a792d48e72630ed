import { mean, sum } from './statistics.ts'

/** Half the width of the interval that holds nine of ten, by what the size of errors hangs on. */
export type HalfWidth = (at: number) => number

/** An error of a prediction that did not see what it predicts, and what its size hangs on: a predicted cost, say. */
export interface UnseenError {
  readonly at: number
  readonly error: number
}

const COVERAGE = 0.9
/**
 * Nine of ten errors are within so many times their mean size: 2.1 if they were normal, and a little more as they are. The ends
 * of few errors are mostly chance, so this counts like so many more of them.
 */
const TYPICAL = { factor: 2.3, weight: 20 }

/**
 * The interval from errors of predictions that did not see what they predict (leave one out), in the conformal way: errors
 * are divided by how large errors are there (a straight line), and the quantile of these quotients holds.
 *
 * @param level a size below which no interval is believed, for few or very small errors
 */
export function conformal(errors: readonly UnseenError[], level: number): HalfWidth {
  const n = errors.length
  const scale = scaleOf(errors, level)
  const quotients = errors.map(({ at, error }) => Math.abs(error) / scale(at)).sort((a, b) => a - b)
  const rank = (n + 1) * COVERAGE
  // With few errors none is rare enough: the largest, and more the fewer there are.
  const few = 1 + 3 / Math.max(n, 1)
  const seen = rank <= n ? between(quotients, rank) : (quotients.at(-1) ?? 0) * few
  const factor = (n * seen + TYPICAL.weight * TYPICAL.factor * few) / (n + TYPICAL.weight)
  return (at) => Math.max(factor * scale(at), level / 4)
}

/** The value at a rank that lies between two, of sorted ones; ranks count from 1. */
function between(sorted: readonly number[], rank: number): number {
  const below = Math.floor(rank)
  const value = sorted[below - 1]!
  return value + (rank - below) * ((sorted[below] ?? value) - value)
}

/** The mean size of errors as a rising straight line. */
function scaleOf(errors: readonly UnseenError[], level: number): HalfWidth {
  if (errors.length < 8) {
    const flat = Math.max(level, errors.length ? mean(errors.map(({ error }) => Math.abs(error))) : level)
    return () => flat
  }
  const x = errors.map(({ at }) => at)
  const y = errors.map(({ error }) => Math.abs(error))
  const [mx, my] = [mean(x), mean(y)]
  const spread = sum(x.map((value) => (value - mx) ** 2))
  const slope = spread > 0 ? Math.max(0, sum(x.map((value, i) => (value - mx) * (y[i]! - my))) / spread) : 0
  const floor = Math.max(0.3 * my, level / 10)
  return (at) => Math.max(my + slope * (at - mx), floor)
}
