import type { BlockId, DescendantId } from '../base/index.ts'
import type { Choices } from '../zoo/index.ts'

/** A prediction with the interval that holds nine of ten times. */
export interface Estimate {
  readonly value: number
  readonly low: number
  readonly high: number
}

/** What is known of one descendant of one block, at one input size. */
export interface DescendantProfile {
  readonly block: BlockId
  readonly descendant: DescendantId
  readonly divergence: number
  /** quality lost when it alone stands in, where that was measured */
  readonly qualityLoss?: number | undefined
  readonly latencyMs: number
  readonly memoryBytes: number
  readonly loadMs: number
}

/** A measured whole. */
export interface MeasuredCombination {
  readonly choices: Choices
  readonly quality?: number | undefined
  readonly latencyMs?: number | undefined
  readonly memoryBytes?: number | undefined
}

export interface PredictorInput {
  /** quality of the original model; `divergence` is that of the originals at this input size from the original at its own size */
  readonly original: { readonly quality: number; readonly divergence?: number | undefined }
  readonly descendants: readonly DescendantProfile[]
  readonly combinations: readonly MeasuredCombination[]
}

export interface Predictor {
  quality(choices: Choices): Estimate
  latency(choices: Choices): Estimate
  memory(choices: Choices): Estimate
}

/** Structurally the optimizer's `ProblemModel`; this room does not know the optimizer. */
export interface ModelProblem {
  readonly id: string
  readonly quality: number
  readonly weight?: number | undefined
  readonly maxLatencyMs?: number | undefined
  readonly rate?: number | undefined
  readonly minQuality?: number | undefined
  readonly blocks?: readonly BlockProblem[] | undefined
  readonly variants?: readonly { readonly id: string; readonly blocks: readonly BlockProblem[] }[] | undefined
}

export interface BlockProblem {
  readonly id: string
  readonly current?: string | undefined
  readonly choices: readonly {
    readonly id: string
    readonly loss: number
    readonly latencyMs: number
    readonly memoryBytes: number
    readonly swapMs: number
  }[]
}

export interface ProblemOptions {
  readonly weight?: number | undefined
  readonly maxLatencyMs?: number | undefined
  readonly rate?: number | undefined
  /** in the task's own scale; it is carried into the scale of the losses */
  readonly minQuality?: number | undefined
  readonly current?: Choices | undefined
  /** where plans are expected to land, for the slope of the linear losses */
  readonly around?: Choices | undefined
}

export declare function fitPredictor(input: PredictorInput): Predictor

/** One model of a problem from its predictors, one for each input size (`id` such as `224`). */
export declare function problemModel(
  id: string,
  sizes: readonly { readonly id: string; readonly predictor: Predictor }[],
  options?: ProblemOptions,
): ModelProblem
