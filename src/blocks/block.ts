import type { BlockId, DescendantId } from '../base/index.ts'
import type { BlockGraph, Model } from '../onnx/index.ts'
import type { Tensor } from '../tensor/index.ts'

/** A block as it was cut from the normalised model. */
export type Block = BlockGraph

export type Tensors = Readonly<Record<string, Tensor>>

/**
 * Recorded inputs of a block, one entry for each calibration picture (batch 1), as the original model delivers them.
 * 64 pictures are enough for 3×3 convolutions, wide 1×1 layers profit from more.
 */
export type Samples = readonly Tensors[]

/** A block that can stand in for the original: same inputs, same outputs, other insides. */
export interface Descendant {
  readonly block: BlockId
  readonly id: DescendantId
  readonly kind: 'prune' | 'int8' | 'prune-int8' | 'low-rank' | 'merge' | 'drop' | 'l1-distill'
  readonly parameters: Readonly<Record<string, number | string>>
  readonly model: Model
  /** recorded shapes of values that the block does not have */
  readonly added?: ReadonlyMap<string, readonly number[]> | undefined
}
