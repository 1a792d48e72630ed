import type { ErrorCode } from '../base/index.ts'
import type { KnownDescendant, QuantisationRange, Recipe } from '../blocks/index.ts'
import type { BlockGraph, Model } from '../onnx/index.ts'
import type { Size } from '../profiles/index.ts'
import type { ModelCard, Skipped, Tensors } from '../tasks/index.ts'
import type { DescendantKind } from '../zoo/index.ts'
import type { Evaluation } from './evaluate.ts'
import type { PictureSource, SplitName } from './splits.ts'
import type { StandIn } from './stand-in.ts'

/** What every worker of a crew is told at its start. */
export interface CrewSetup {
  readonly card: ModelCard
  readonly source: PictureSource
  /** the uncut normalised model */
  readonly model: Model
  readonly blocks: readonly BlockGraph[]
}

/** The setup, and where the worker stops when the process ends. */
export interface CrewWorkerData extends CrewSetup {
  readonly parking: Int32Array
}

export type CrewJob =
  /** ranges of the border values, from the calibration pictures */
  | { readonly kind: 'ranges' }
  | {
      readonly kind: 'descend'
      readonly block: number
      readonly recipes: readonly Recipe[]
      readonly borders: readonly (readonly [string, QuantisationRange])[]
      readonly known: readonly KnownDescendant[]
      /** milliseconds since the epoch */
      readonly until?: number | undefined
    }
  | {
      readonly kind: 'evaluate'
      readonly model: Uint8Array
      readonly split: SplitName
      readonly size: Size
      /** the first so many pictures of the split; all unless given */
      readonly pictures?: number | undefined
    }
  /** the original itself */
  | { readonly kind: 'original'; readonly split: SplitName; readonly size: Size }
  /** descendants of one block, each alone in the original, on the profile pictures; told part by part */
  | {
      readonly kind: 'stand-ins'
      readonly block: number
      readonly standIns: readonly StandIn[]
      readonly size: Size
    }
  /** recorded inputs of every block for a few pictures, for measuring */
  | { readonly kind: 'feeds'; readonly pictures: number; readonly size: Size }

export interface CrewResults {
  readonly ranges: readonly (readonly [string, QuantisationRange])[]
  readonly descend: undefined
  readonly evaluate: Evaluation
  readonly original: Evaluation
  readonly 'stand-ins': undefined
  readonly feeds: {
    readonly blocks: readonly (readonly Tensors[])[]
    readonly whole: readonly Tensors[]
  }
}

/** A descendant as a worker hands it over, or one that was tried in vain. */
export type CrewPart =
  | {
      readonly kind: 'made'
      readonly block: number
      readonly id: string
      readonly descendantKind: DescendantKind
      readonly parameters: Readonly<Record<string, number | string>>
      readonly bytes: Uint8Array
      readonly weightBytes: number
      readonly macs: number
      readonly outputError: number
      readonly latencyShare: number
      readonly integerLayers: number
    }
  | { readonly kind: 'dropped'; readonly block: number; readonly id: string; readonly why: string }
  | { readonly kind: 'evaluated'; readonly id: string; readonly evaluation: Evaluation }
  | { readonly kind: 'skipped'; readonly skipped: Skipped }

export type FromCrew =
  | { readonly job: number; readonly part: CrewPart }
  | { readonly job: number; readonly result: unknown }
  | {
      readonly job: number
      readonly error: { readonly code: ErrorCode; readonly message: string; readonly hint: string }
    }
