import type { Size } from '../profiles/index.ts'
import { firstInput, type ModelCard, type TaskName } from '../tasks/index.ts'

/** Shares of the card's input size that are tried as smaller variants; sides are rounded to what strides divide. */
const SHARES = [6 / 7, 4 / 5, 5 / 7] as const
const STRIDE = 32
const LEAST_SIDE = 96
/** Of these the answer is about the picture, at whatever size it was seen. */
const SCALABLE: readonly TaskName[] = ['classification', 'detection', 'face-detection', 'segmentation']

/**
 * The input sizes at which a model is profiled, the card's own first.
 *
 * Smaller ones are offered where the graph runs at them and the answer does not hang on the size: the tiles of
 * super-resolution are no smaller picture, the priors of SSD belong to one size, and what a generic model says is not known.
 */
export function inputSizes(card: ModelCard, freeSize: boolean): readonly Size[] {
  const { size, resize } = firstInput(card)
  const isScalable = SCALABLE.includes(card.task) && card.output.decoder !== 'ssd'
  if (!freeSize || !isScalable || resize === 'none' || Array.isArray(card.input)) return [size]
  const smaller = SHARES.map((share): Size => [side(size[0], share), side(size[1], share)])
  const known = new Set([size.join()])
  return [
    size,
    ...smaller.filter((each) => {
      const fits = Math.min(...each) >= LEAST_SIDE && !known.has(each.join())
      known.add(each.join())
      return fits
    }),
  ]
}

/** A side of one more than strides divide stays so: such networks (DeepLab's) count corners, not cells. */
function side(length: number, share: number): number {
  const over = length % STRIDE === 1 ? 1 : 0
  return Math.round(((length - over) * share) / STRIDE) * STRIDE + over
}
