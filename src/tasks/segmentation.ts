import { BlockscaleError } from '../base/index.ts'
import { type Placement, type Tensor, toNetwork } from '../tensor/index.ts'
import { labelOf, type ModelCard } from './card.ts'
import { IGNORED } from './coco.ts'
import { divergenceOf, mean, noiseOverSignal, softmax } from './numbers.ts'
import { outputOf, preparePicture } from './prepare.ts'
import type { Task, Tensors } from './task.ts'

/** A class for each pixel. Quality is mIoU against the truth, fidelity mIoU against the original's mask. */
export const segmentation: Task = {
  name: 'segmentation',

  prepare: preparePicture,

  answer(outputs, { placement }, card) {
    const mask = maskOf(mapOf(outputs, card), placement)
    const counts = new Uint32Array(256)
    for (const value of mask) counts[value]!++
    const classes = [...counts.entries()]
      .filter(([, count]) => count > 0)
      .map(([index, count]) => ({ index, label: labelOf(card, index), share: count / mask.length }))
      .sort((a, b) => b.share - a.share)
    return { task: 'segmentation', width: placement.width, height: placement.height, mask, classes }
  },

  divergence(original, variant, card) {
    const [a, b] = [mapOf(original, card), mapOf(variant, card)]
    return a.binary ? noiseOverSignal(a.tensor, b.tensor) : pixelDivergence(a, b)
  },

  quality(samples, card) {
    const tally = new Tally()
    for (const { outputs, prepared, truth } of samples) {
      if (truth?.kind !== 'mask') continue
      const { placement } = prepared
      if (truth.width !== placement.width || truth.height !== placement.height) {
        throw new BlockscaleError(
          'TENSOR_INVALID',
          `a mask of ${truth.width} × ${truth.height} does not belong to a picture of ${placement.width} × ${placement.height}`,
        )
      }
      tally.add(maskOf(mapOf(outputs, card), placement), truth.mask)
    }
    return { metric: 'miou', ...tally.result(card) }
  },

  fidelity(samples, card) {
    const tally = new Tally()
    for (const { outputs, original, prepared, originalPlacement = prepared.placement } of samples) {
      // in the original's own pixels: much less work than the picture's
      const at = pixelsOf(originalPlacement, prepared.placement)
      tally.add(maskOf(mapOf(outputs, card), at), maskOf(mapOf(original, card), ownPixels(originalPlacement)))
    }
    return { metric: 'miou-to-original', value: tally.overall() }
  },
}

/** Scores on the network's grid. */
interface ScoreMap {
  readonly tensor: Tensor<'float32'>
  readonly channels: number
  readonly width: number
  readonly height: number
  /** one channel: class 1 where the score is above the threshold */
  readonly binary?: { readonly threshold: number } | undefined
}

function mapOf(outputs: Tensors, card: ModelCard): ScoreMap {
  const how = card.output
  if (how.decoder !== 'argmax' && how.decoder !== 'binary') {
    throw new BlockscaleError('MODEL_CARD_INVALID', `the decoder "${how.decoder}" makes no mask`)
  }
  const tensor = outputOf(outputs, how.output)
  const [height = 1, width = 1] = tensor.dims.slice(-2)
  const channels = tensor.data.length / (width * height)
  if (channels > IGNORED) {
    throw new BlockscaleError('TENSOR_INVALID', `a mask holds at most ${IGNORED} classes; the model gives ${channels}`)
  }
  return { tensor, channels, width, height, binary: how.decoder === 'binary' ? how : undefined }
}

/** The pixels of one network's input in place of the picture's, where another network sees the picture `at`. */
function pixelsOf(of: Placement, at: Placement): Placement {
  const scaleX = at.scaleX / of.scaleX
  const scaleY = at.scaleY / of.scaleY
  return {
    ...at,
    width: of.networkWidth,
    height: of.networkHeight,
    scaleX,
    scaleY,
    offsetX: at.offsetX - of.offsetX * scaleX,
    offsetY: at.offsetY - of.offsetY * scaleY,
  }
}

const ownPixels = (at: Placement): Placement => pixelsOf(at, at)

/**
 * The class of each pixel of the picture. Scores are interpolated between the network's pixels before they are compared,
 * so that outlines have no steps; where the four around agree, which is nearly everywhere, there is nothing to compare.
 */
function maskOf(map: ScoreMap, at: Placement): Uint8Array {
  const classes = classMap(map)
  const { width, height } = map
  const mask = new Uint8Array(at.width * at.height)
  const columns = neighbours(at.width, (x) => (toNetwork(at, x, 0)[0] * width) / at.networkWidth, width)
  const rows = neighbours(at.height, (y) => (toNetwork(at, 0, y)[1] * height) / at.networkHeight, height)
  for (let y = 0; y < at.height; y++) {
    const top = rows.low[y]! * width
    const bottom = rows.high[y]! * width
    for (let x = 0; x < at.width; x++) {
      const left = columns.low[x]!
      const right = columns.high[x]!
      const a = classes[top + left]!
      const b = classes[top + right]!
      const c = classes[bottom + left]!
      const d = classes[bottom + right]!
      mask[y * at.width + x] =
        a === b && a === c && a === d
          ? a
          : strongest(
              map,
              [top + left, top + right, bottom + left, bottom + right],
              [a, b, c, d],
              columns.part[x]!,
              rows.part[y]!,
            )
    }
  }
  return mask
}

function classMap({ tensor: { data }, channels, width, height, binary }: ScoreMap): Uint8Array {
  const pixels = width * height
  if (binary) return Uint8Array.from(data, (score) => (score > binary.threshold ? 1 : 0))
  const classes = new Uint8Array(pixels)
  const best = data.slice(0, pixels)
  for (let c = 1; c < channels; c++) {
    for (let i = 0, from = c * pixels; i < pixels; i++, from++) {
      if (data[from]! > best[i]!) {
        best[i] = data[from]!
        classes[i] = c
      }
    }
  }
  return classes
}

/** For each pixel of the picture the two pixels of the map around it, and how near it is to the second. */
function neighbours(count: number, onMap: (position: number) => number, limit: number) {
  const low = new Int32Array(count)
  const high = new Int32Array(count)
  const part = new Float32Array(count)
  for (let i = 0; i < count; i++) {
    const position = Math.min(Math.max(onMap(i + 0.5) - 0.5, 0), limit - 1)
    low[i] = Math.floor(position)
    high[i] = Math.min(low[i]! + 1, limit - 1)
    part[i] = position - low[i]!
  }
  return { low, high, part }
}

function strongest(
  map: ScoreMap,
  around: readonly number[],
  classes: readonly number[],
  right: number,
  down: number,
): number {
  const { data } = map.tensor
  const pixels = map.width * map.height
  const shares = [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down]
  const scoreOf = (c: number): number =>
    shares.reduce((sum, share, i) => sum + share * data[c * pixels + around[i]!]!, 0)
  if (map.binary) return scoreOf(0) > map.binary.threshold ? 1 : 0
  let best = classes[0]!
  for (const candidate of classes) if (candidate !== best && scoreOf(candidate) > scoreOf(best)) best = candidate
  return best
}

/** The mean divergence over a grid of at most about 4000 pixels: enough for a mean, and a tenth of the time. */
function pixelDivergence(original: ScoreMap, variant: ScoreMap): number {
  const pixels = original.width * original.height
  const step = Math.max(1, Math.floor(pixels / 4000))
  const p = new Float64Array(original.channels)
  const q = new Float64Array(variant.channels)
  let [sum, count] = [0, 0]
  for (let i = 0; i < pixels; i += step, count++) {
    sharesAt(original, i, p)
    sharesAt(variant, i, q)
    sum += divergenceOf(p, q)
  }
  return sum / Math.max(count, 1)
}

/** The classes' shares at a pixel: the scores themselves where they are shares already, else their softmax. */
function sharesAt({ tensor: { data }, channels, width, height }: ScoreMap, pixel: number, shares: Float64Array): void {
  const pixels = width * height
  let [sum, least] = [0, 0]
  for (let c = 0; c < channels; c++) {
    const score = data[c * pixels + pixel]!
    shares[c] = score
    sum += score
    least = Math.min(least, score)
  }
  if (Math.abs(sum - 1) >= 1e-3 || least < 0) softmax(shares, 0, channels, shares)
}

/** Pixels that two masks share and that either has, for each class, over all pictures. */
class Tally {
  readonly #both = new Float64Array(256)
  readonly #given = new Float64Array(256)
  readonly #truth = new Float64Array(256)

  add(given: Uint8Array, truth: Uint8Array): void {
    for (let i = 0; i < truth.length; i++) {
      const is = truth[i]!
      if (is === IGNORED) continue
      const says = given[i]!
      this.#truth[is]!++
      this.#given[says]!++
      if (is === says) this.#both[is]!++
    }
  }

  result(card: ModelCard): {
    value: number
    details: Record<string, number>
    perClass: { label: string; value: number; count: number }[]
  } {
    const background = 'background' in card.output ? card.output.background : undefined
    const present = [...this.#truth.keys()].filter((c) => this.#truth[c]! > 0)
    const perClass = present.map((c) => ({ label: labelOf(card, c), value: this.#iou(c), count: this.#truth[c]! }))
    const total = this.#truth.reduce((a, b) => a + b, 0)
    return {
      value: mean(present.filter((c) => c !== background).map((c) => this.#iou(c))),
      details: {
        'miou-with-background': mean(present.map((c) => this.#iou(c))),
        accuracy: this.#both.reduce((a, b) => a + b, 0) / Math.max(1, total),
      },
      perClass,
    }
  }

  /** Mean over the classes that either side has. */
  overall(): number {
    const any = [...this.#truth.keys()].filter((c) => this.#truth[c]! > 0 || this.#given[c]! > 0)
    return any.length === 0 ? 1 : mean(any.map((c) => this.#iou(c)))
  }

  #iou(c: number): number {
    const union = this.#truth[c]! + this.#given[c]! - this.#both[c]!
    return union === 0 ? 0 : this.#both[c]! / union
  }
}
