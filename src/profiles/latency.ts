import { median, quantile, sum } from './statistics.ts'

/** Times of single runs in milliseconds, round by round. */
export type Rounds = readonly (readonly number[])[]

export interface Latency {
  readonly p50Ms: number
  readonly p95Ms: number
  readonly samples: number
}

/**
 * How much slower or faster than a reference, measured in turns with it: the median over rounds of the ratio of the best
 * times in the round.
 *
 * On a machine whose other hyper-threads come and go, times jump between two levels a factor of two apart. Against runs of
 * equal networks at a load of five for each core, this estimate was off by 4 % (40 rounds), the ratio of medians by 10–20 %,
 * the ratio of minima by up to 22 %; on a quiet machine all are off by less than 1 %.
 */
export const ratioOf = (rounds: Rounds, reference: Rounds): number => median(logRatios(rounds, reference).map(Math.exp))

/** Standard error of the logarithm of `ratioOf`, from the spread of the rounds. */
export function ratioError(rounds: Rounds, reference: Rounds): number {
  const logs = logRatios(rounds, reference)
  const middle = median(logs)
  const spread = 1.4826 * median(logs.map((log) => Math.abs(log - middle)))
  return (1.2533 * spread) / Math.sqrt(logs.length)
}

const logRatios = (rounds: Rounds, reference: Rounds): number[] =>
  rounds.map((times, r) => Math.log(Math.min(...times) / Math.min(...reference[r]!)))

/** Median of the runs that nothing else disturbed: those near the fastest ones. On a quiet machine, of nearly all. */
export function undisturbed(rounds: Rounds): number {
  const times = rounds.flat()
  const limit = 1.25 * quantile(times, 0.05)
  return median(times.filter((time) => time <= limit))
}

/**
 * The latency of each of several that are measured in turns: their shares of the time of a round, the median over rounds, of the
 * undisturbed time of all. A single one that was disturbed for some rounds keeps its share.
 */
export function sharedOut(all: readonly Rounds[]): number[] {
  const best = all.map((rounds) => rounds.map((times) => Math.min(...times)))
  const totals = best[0]!.map((_, r) => sum(best.map((times) => times[r]!)))
  const shares = best.map((times) => median(times.map((time, r) => time / totals[r]!)))
  const total = sum(all.map(undisturbed)) / sum(shares)
  return shares.map((share) => share * total)
}

/** The latency of each, in the scale in which the first takes `firstMs`. */
export function latencies(all: readonly Rounds[], firstMs: number): Latency[] {
  return all.map((rounds) => {
    const p50Ms = firstMs * ratioOf(rounds, all[0]!)
    const spread = rounds.flatMap((times) => times.map((time) => time / Math.min(...times)))
    return { p50Ms, p95Ms: p50Ms * quantile(spread, 0.95), samples: spread.length }
  })
}
