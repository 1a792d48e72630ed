import type { Model } from './graph.ts'

/** A model in the form on which everything else works; see `normalise`. */
export interface Normalised {
  readonly model: Model
  /** recorded shape of every value (graph inputs and outputs too) at batch 1 and the nominal input size */
  readonly nominal: ReadonlyMap<string, readonly number[]>
  /** the graph runs at any batch size: its inputs have the symbolic dim `N` */
  readonly freeBatch: boolean
  /** the graph runs at other input sizes: its inputs have the symbolic dims `H` and `W` */
  readonly freeSize: boolean
  /** what was left as it is, and why */
  readonly notes: readonly string[]
  /** the file is already int8, and its operators are left as they are */
  readonly quantised: boolean
}
