import type { Model } from '../onnx/index.ts'
import { isFloat, type Tensor } from '../tensor/index.ts'
import type { Samples } from './block.ts'
import { record } from './record.ts'

/** Parameters of an unsigned 8-bit tensor: real = scale · (stored − zeroPoint). */
export interface QuantisationRange {
  readonly scale: number
  readonly zeroPoint: number
}

/** The least and the greatest of what was seen of one tensor, zero among them. */
export class Observed {
  least = 0
  greatest = 0
  /** numbers of the pictures in which these were seen */
  leastIn = 0
  greatestIn = 0

  add(value: Tensor, picture: number): void {
    if (!isFloat(value)) return
    const { data } = value
    for (let i = 0; i < data.length; i++) {
      const x = data[i]!
      if (x < this.least) {
        this.least = x
        this.leastIn = picture
      } else if (x > this.greatest) {
        this.greatest = x
        this.greatestIn = picture
      }
    }
  }

  /**
   * The range of a share of the extremes, in (0, 1]; what lies beyond is clipped. Zero is always exactly representable, because padding
   * and Relu produce it.
   */
  range(share: number): QuantisationRange {
    const scale = Math.fround(Math.max(share * (this.greatest - this.least), 1e-6) / 255)
    return { scale, zeroPoint: Math.max(0, Math.min(255, Math.round((-share * this.least) / scale))) }
  }
}

/** Observes the wanted values of a graph over all samples. */
export async function observe(
  model: Model,
  samples: Samples,
  wanted: readonly string[],
): Promise<ReadonlyMap<string, Observed>> {
  const observed = new Map(wanted.map((value) => [value, new Observed()]))
  await record(model, samples, wanted, (values, picture) => {
    for (const [name, each] of observed) each.add(values[name]!, picture)
  })
  return observed
}
