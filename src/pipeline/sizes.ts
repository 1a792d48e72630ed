import type { Size } from '../profiles/index.ts'
import { firstInput, type ModelCard } from '../tasks/index.ts'

/** Shares of the card's input size that are tried as smaller variants; sides are rounded to what strides divide. */
const SHARES = [6 / 7, 5 / 7] as const
const STRIDE = 32
const LEAST_SIDE = 96

/**
 * The input sizes at which a model is profiled, the card's own first.
 *
 * Smaller ones are offered for classification only: the answers of other tasks have their own geometry for each size, so
 * that agreement with the original at another size means nothing without labels.
 */
export function inputSizes(card: ModelCard, freeSize: boolean): readonly Size[] {
  const { size, resize } = firstInput(card)
  if (!freeSize || card.task !== 'classification' || resize === 'none' || Array.isArray(card.input)) return [size]
  const smaller = SHARES.map((share): Size => [side(size[0] * share), side(size[1] * share)])
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

const side = (length: number): number => Math.round(length / STRIDE) * STRIDE
