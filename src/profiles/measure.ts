import type { ModelId, Progress } from '../base/index.ts'
import type { Tensors } from '../engine/index.ts'
import type { ManifestBlock, Zoo } from '../zoo/index.ts'
import type { Device, Measurement, Size } from './rows.ts'

/** The descendants of one block, to be measured against each other on recorded inputs. */
export interface MeasureJob {
  readonly model: ModelId
  readonly block: ManifestBlock
  readonly size: Size
  /** a few recorded real inputs of the block (batch of 1) */
  readonly feeds: readonly Tensors[]
}

export interface MeasureOptions {
  readonly zoo: Zoo
  readonly device: Device
  /** rounds over all descendants; 7 unless given */
  readonly rounds?: number
  readonly progress?: Progress
  readonly signal?: AbortSignal
}

export declare function measureDescendants(jobs: readonly MeasureJob[], options: MeasureOptions): Promise<Measurement[]>

/** Costs of whole models (fused combinations), measured in turns with each other. */
export declare function measureWholes(
  wholes: readonly { readonly id: string; readonly model: Uint8Array }[],
  feeds: readonly Tensors[],
  options?: { rounds?: number; signal?: AbortSignal },
): Promise<ReadonlyMap<string, Costs>>

export type Costs = Pick<
  Measurement,
  'latencyP50Ms' | 'latencyP95Ms' | 'anonymousBytes' | 'mappedBytes' | 'loadMs' | 'samples' | 'memoryMethod'
>
