import type { BlockId, DescendantId, ModelId } from '../base/index.ts'
import type { Fact } from '../onnx/index.ts'
import type { ModelCard } from '../tasks/index.ts'

/** A file of the zoo, by its path relative to the model's folder. */
export interface ZooFile {
  readonly path: string
  readonly bytes: number
  readonly sha256: string
}

export interface BorderValue {
  readonly name: string
  readonly fact: Fact
}

/** How a descendant was made; `recipe` is what `--recipes` takes. */
export type DescendantKind = 'original' | 'prune' | 'int8' | 'prune-int8' | 'low-rank' | 'merge' | 'drop' | 'l1-distill'

export interface ManifestDescendant {
  readonly id: DescendantId
  readonly kind: DescendantKind
  readonly parameters: Readonly<Record<string, number | string>>
  readonly file: ZooFile
  /** bytes of the weights inside, as they are stored */
  readonly weightBytes: number
  /** multiply–accumulate operations for one picture */
  readonly macs: number
}

export interface ManifestBlock {
  readonly id: BlockId
  readonly inputs: readonly BorderValue[]
  readonly outputs: readonly BorderValue[]
  /** the first is always `original` */
  readonly descendants: readonly ManifestDescendant[]
}

/** A descendant that was tried and is not offered, with the reason. */
export interface Dropped {
  readonly block: BlockId
  readonly descendant: DescendantId
  readonly why: string
}

/** `zoo/<model>/manifest.json`: all that is needed to run any combination of a model's descendants. */
export interface Manifest {
  readonly format: 1
  readonly model: ModelId
  readonly card: ModelCard
  /** sha256 of the file that came in */
  readonly source: string
  /** the normalised model, uncut */
  readonly original: ZooFile
  readonly inputs: readonly BorderValue[]
  readonly outputs: readonly BorderValue[]
  /** in the order in which they run; a block may read values of any block before it */
  readonly blocks: readonly ManifestBlock[]
  /** input sizes `[height, width]` for which there are profiles; the first is the card's */
  readonly sizes: readonly (readonly [number, number])[]
  readonly dropped: readonly Dropped[]
  /** greatest difference between the stitched originals and the file that came in, over the outputs */
  readonly stitchedError: number
  readonly builtWith: string
}

/** One descendant for each block of a model. */
export type Choices = Readonly<Record<BlockId, DescendantId>>
