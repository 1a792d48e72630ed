import type { Model } from '../onnx/index.ts'
import type { Block, Samples } from './block.ts'
import { outputError } from './verify.ts'
import { candidateWidths, type GroupCost } from './widths.ts'

/** Share of the pictures that something is tried out on; it is judged on the others. */
const FITTED = 0.75
/** How far a group alone is narrowed to see what that means to the block. */
export const PROBED = 0.5

/**
 * By how much each group's losses are to be multiplied so that they can be compared: not what the next layer loses, but what reaches
 * the outputs of the block, as seen where one group alone is narrowed.
 *
 * @param narrowed the block with one group, by its number, at a width, made on the pictures that are given; undefined where that
 *   changes nothing
 */
export async function scalesByBlock(
  block: Block,
  samples: Samples,
  groups: readonly Pick<GroupCost, 'size' | 'ranking'>[],
  narrowed: (group: number, width: number, seen: Samples) => Promise<Model | undefined>,
): Promise<readonly number[]> {
  const fitted = Math.ceil(FITTED * samples.length)
  const [seen, held] = [samples.slice(0, fitted), samples.slice(fitted)]
  const scales: number[] = []
  for (const [g, { size, ranking }] of groups.entries()) {
    const width = candidateWidths(size).find((each) => each <= PROBED * size)
    const model =
      groups.length < 2 || held.length === 0 || width === undefined ? undefined : await narrowed(g, width, seen)
    const error = model ? await outputError(block.model, model, held) : 0
    const said = ranking.loss[size - (width ?? size)] ?? 0
    scales.push(error > 0 && error < 1 && said > 0 && Number.isFinite(said) ? error / (1 - error) / said : 1)
  }
  return scales
}
