import type { Scale } from './exact.ts'
import type { Problem } from './problem.ts'

/** What is minimised. `latencyOf` and `lossOf` look at one model: they find what a limit would have to be. */
export type Goal =
  | { readonly kind: 'quality' | 'latency' | 'memory' | 'cpu' }
  | { readonly kind: 'latencyOf' | 'lossOf'; readonly model: string }

/**
 * A problem as numbers: integers where a limit looks at them, models, variants, blocks and choices in the order of their ids
 * (so that permuting the problem changes nothing), and without choices that another choice beats in every respect.
 */
export interface Program {
  readonly problem: Problem
  readonly goal: Goal
  readonly latency: Scale
  readonly memory: Scale
  readonly loss: Scale
  /** costs differ by at least this when they differ; 0 when nothing is known */
  readonly costStep: number
  readonly memoryLimit: number
  /** room of each core in load steps; undefined when the problem names no cores */
  readonly coreLimits: readonly number[] | undefined
  /** load steps of one whole core */
  readonly loadOfCore: number
  readonly models: readonly ModelProgram[]
}

export interface ModelProgram {
  readonly id: string
  /** position in the problem */
  readonly index: number
  /** load steps for each latency step; 0 when the model has no rate or the problem no cores */
  readonly loadRate: number
  readonly latencyLimit: number
  /** the latency at which the model alone fills the largest core */
  readonly coreLatencyLimit: number
  readonly lossLimit: number
  readonly variants: readonly VariantProgram[]
}

/** The blocks of a variant and their choices, column by column: block `b` owns positions `start[b]` to `start[b + 1] - 1`. */
export interface VariantProgram {
  readonly index: number
  readonly id: string
  readonly start: Int32Array
  /** position of each block in the problem */
  readonly block: Int32Array
  /** position of each choice in the problem's block */
  readonly choice: Int32Array
  readonly cost: Float64Array
  readonly latency: Float64Array
  readonly memory: Float64Array
  readonly loss: Float64Array
}

/** What a limit looks at; the rest need not be compared. */
export interface Matters {
  readonly latency: boolean
  readonly memory: boolean
  readonly loss: boolean
}
