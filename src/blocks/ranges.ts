import { seededRandom } from '../base/index.ts'
import type { Model } from '../onnx/index.ts'
import { isFloat, type Tensor } from '../tensor/index.ts'
import type { Samples } from './block.ts'
import { record } from './record.ts'

/** Parameters of an unsigned 8-bit tensor: real = scale · (stored − zeroPoint). */
export interface QuantisationRange {
  readonly scale: number
  readonly zeroPoint: number
}

/** `mse`: least squared error; `extremes`: all that was seen; `percentile`: all but the outermost 0.02 %. */
export const rangeRules = ['mse', 'percentile', 'extremes'] as const
export type RangeRule = (typeof rangeRules)[number]

const CUT_OFF = 2e-4

/** Values of one tensor that are kept for the choice of its range. */
const KEPT = 40_000

/** What was seen of one tensor: its extremes, and a fair sample of its elements. */
export class Observed {
  least = 0
  greatest = 0
  private readonly sample = new Float32Array(KEPT)
  private seen = 0
  private readonly random = seededRandom(7)

  add(value: Tensor): void {
    if (!isFloat(value)) return
    const { data } = value
    for (let i = 0; i < data.length; i++) {
      const x = data[i]!
      if (x < this.least) this.least = x
      else if (x > this.greatest) this.greatest = x
    }
    // A stride with a random start is as fair as a shuffle here and much faster.
    const stride = Math.max(1, Math.floor(data.length / 256))
    for (let i = Math.floor(this.random() * stride); i < data.length; i += stride) {
      const at = this.seen < KEPT ? this.seen : Math.floor(this.random() * (this.seen + 1))
      if (at < KEPT) this.sample[at] = data[i]!
      this.seen++
    }
  }

  /**
   * The range by a rule; the usual one has the least mean squared error of rounding and clipping together, over fractions of
   * the extremes. Zero is always exactly representable, because padding and Relu produce it.
   */
  range(rule: RangeRule = 'mse'): QuantisationRange {
    if (rule === 'extremes') return parameters(this.least, this.greatest)
    const values = this.sample.subarray(0, Math.min(this.seen, KEPT))
    if (rule === 'percentile') {
      const sorted = values.slice().sort()
      const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? 0
      return parameters(Math.min(0, at(CUT_OFF)), Math.max(0, at(1 - CUT_OFF)))
    }
    let best = parameters(this.least, this.greatest)
    let bestError = Number.POSITIVE_INFINITY
    for (let step = 0; step <= 16; step++) {
      const share = 1 - step * 0.04
      const candidate = parameters(this.least * share, this.greatest * share)
      const error = squaredError(values, candidate)
      if (error < bestError) {
        best = candidate
        bestError = error
      }
    }
    return best
  }
}

function parameters(least: number, greatest: number): QuantisationRange {
  const scale = Math.fround(Math.max(greatest - least, 1e-6) / 255)
  return { scale, zeroPoint: Math.max(0, Math.min(255, Math.round(-least / scale))) }
}

function squaredError(values: Float32Array, { scale, zeroPoint }: QuantisationRange): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) {
    const x = values[i]!
    const stored = Math.max(0, Math.min(255, Math.round(x / scale) + zeroPoint))
    const difference = x - scale * (stored - zeroPoint)
    sum += difference * difference
  }
  return sum
}

/** Observes the wanted values of a graph over all samples. */
export async function observe(
  model: Model,
  samples: Samples,
  wanted: readonly string[],
): Promise<ReadonlyMap<string, Observed>> {
  const observed = new Map(wanted.map((value) => [value, new Observed()]))
  await record(model, samples, wanted, (values) => {
    for (const [name, each] of observed) each.add(values[name]!)
  })
  return observed
}
