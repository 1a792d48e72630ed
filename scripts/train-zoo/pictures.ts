import { floats, type Tensor } from '../../src/tensor/index.ts'
import type { Samples } from '../../src/trainer/index.ts'
import type { Raster } from './scene.ts'

/** Pictures with their class index. */
export interface Labelled {
  readonly picture: Raster
  readonly label: number
}

/** pixel 0…255 → value, the same numbers as in the model card */
export const SCALE = 1 / 255
export const MEAN = 0.5
export const STD = 0.25
const normalised = (pixel: number): number => (pixel * SCALE - MEAN) / STD

export interface Augmentation {
  /** pixels in each direction */
  readonly shift: number
  /** largest change of contrast and brightness, as a share */
  readonly light: number
}

/** Labelled pictures as a data source for cross-entropy; `augment` shifts and re-lights them anew each time. */
export function labelledSamples(items: readonly Labelled[], output: string, augment?: Augmentation): Samples {
  const { width, height, channels } = items[0]!.picture
  const each = width * height * channels
  return {
    count: items.length,
    batch(indices, random) {
      const data = new Float32Array(indices.length * each)
      indices.forEach((index, i) => {
        const between = (range: number) => (random() * 2 - 1) * range
        const shift = augment ? [Math.round(between(augment.shift)), Math.round(between(augment.shift))] : [0, 0]
        const gain = augment ? 1 + between(augment.light) : 1
        const offset = augment ? between(augment.light) : 0
        toPlanes(
          items[index]!.picture,
          data.subarray(i * each, (i + 1) * each),
          shift as [number, number],
          gain,
          offset,
        )
      })
      const labels: Tensor = {
        type: 'int64',
        dims: [indices.length],
        data: BigInt64Array.from(indices, (index) => BigInt(items[index]!.label)),
      }
      return { input: floats([indices.length, channels, height, width], data), [`target:${output}`]: labels }
    },
  }
}

/** Interleaved bytes to normalised planes; what a shift leaves free repeats the border. */
function toPlanes(picture: Raster, into: Float32Array, [dx, dy]: [number, number], gain: number, offset: number): void {
  const { width, height, channels, data } = picture
  for (let y = 0; y < height; y++) {
    const fromY = Math.max(0, Math.min(height - 1, y + dy))
    for (let x = 0; x < width; x++) {
      const from = (fromY * width + Math.max(0, Math.min(width - 1, x + dx))) * channels
      for (let c = 0; c < channels; c++) {
        into[(c * height + y) * width + x] = normalised(data[from + c]!) * gain + offset
      }
    }
  }
}

/** Share of the samples whose largest logit is at their class. */
export function top1(output: string) {
  return (outputs: Readonly<Record<string, Tensor>>, feeds: Readonly<Record<string, Tensor>>): number => {
    const logits = outputs[output]!
    const labels = feeds[`target:${output}`]!.data as BigInt64Array
    const classes = logits.dims[1]!
    let hits = 0
    labels.forEach((label, i) => {
      const row = (logits.data as Float32Array).subarray(i * classes, (i + 1) * classes)
      if (row.indexOf(row.reduce((a, b) => Math.max(a, b))) === Number(label)) hits++
    })
    return hits / labels.length
  }
}
