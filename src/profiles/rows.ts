import type { BlockId, DescendantId, ModelId } from '../base/index.ts'
import type { Choices } from '../zoo/index.ts'

/** Height and width of the model's input. */
export type Size = readonly [number, number]

/** A machine as far as it decides what runs and how fast. */
export interface Device {
  /** changes with the ONNX Runtime version and the CPU features; safe as a folder name */
  readonly key: string
  readonly cpu: string
  /** instruction sets that matter for inference, such as `avx512_vnni` */
  readonly features: string
  readonly cores: number
  readonly memoryBytes: number
  readonly platform: string
  readonly runtimeVersion: string
}

/** How memory was read: from /proc, or (elsewhere) as the growth of the resident set, which is coarse. */
export type MemoryMethod = 'smaps' | 'rss'

/** Costs of one descendant on one device. */
export interface Measurement {
  readonly model: ModelId
  readonly block: BlockId
  readonly descendant: DescendantId
  readonly device: string
  readonly size: Size
  readonly latencyP50Ms: number
  readonly latencyP95Ms: number
  readonly anonymousBytes: number
  readonly mappedBytes: number
  /** from the file in the system's cache until it runs as fast as ever */
  readonly loadMs: number
  readonly samples: number
  readonly memoryMethod: MemoryMethod
  /** milliseconds since the epoch */
  readonly measuredAt: number
}

/** What one descendant loses when it alone stands in for its block, on the profile pictures. */
export interface Loss {
  readonly model: ModelId
  readonly block: BlockId
  readonly descendant: DescendantId
  readonly size: Size
  /** quality lost against the original: as expected by how sure that is of its answers, else as counted */
  readonly qualityLoss: number
  /** the task's divergence of the model's outputs, about additive over blocks */
  readonly divergence: number
  /** relative squared error of the block's own outputs */
  readonly outputError: number
  readonly pictures: number
}

/** Which pictures: to profile single descendants, to fit the prediction, to report; no picture is in two of them. */
export type Split = 'profile' | 'refit' | 'report'

export interface CombinationFigures {
  readonly quality?: number | undefined
  readonly qualityLow?: number | undefined
  readonly qualityHigh?: number | undefined
  readonly fidelity?: number | undefined
  /** quality lost against the original at the model's own input size, by how sure that is of its answers */
  readonly expectedLoss?: number | undefined
  readonly divergence?: number | undefined
  readonly latencyMs?: number | undefined
  readonly memoryBytes?: number | undefined
}

/** One choice for every block, predicted and measured as a fused whole. */
export interface Combination {
  readonly model: ModelId
  readonly size: Size
  readonly device: string
  readonly split: Split
  /** name of the quality metric, such as `top1` */
  readonly metric: string
  readonly choices: Choices
  readonly predicted: CombinationFigures
  readonly measured: CombinationFigures
  readonly pictures: number
  /** why it was measured: 'original' (all blocks as they came; never forgotten), 'random', 'plan', 'verify', … */
  readonly why: string
  readonly measuredAt: number
}

export interface PlanRecord {
  readonly at: number
  readonly objective: string
  readonly status: string
  readonly memoryLimitBytes?: number | undefined
  readonly coresLimit?: number | undefined
  readonly memoryBytes?: number | undefined
  readonly cores?: number | undefined
  readonly gap?: number | undefined
  readonly solveMs: number
  readonly why: string
  readonly models: readonly {
    readonly model: ModelId
    readonly size: Size
    readonly choices: Choices
    readonly predicted: CombinationFigures
    readonly verified?: CombinationFigures | undefined
  }[]
}

export interface SwapRecord {
  readonly at: number
  readonly model: ModelId
  /** plans as `savePlan` numbered them */
  readonly from?: number | undefined
  readonly to?: number | undefined
  readonly blocks: readonly {
    readonly block: BlockId
    readonly from?: DescendantId | undefined
    readonly to: DescendantId
  }[]
  readonly bytes: number
  readonly ms: number
  readonly why: string
}

/** What the controller decided and what it saw. */
export interface DecisionRecord {
  readonly at: number
  /** 'keep', 'swap', 'refuse', … */
  readonly action: string
  readonly why: string
  readonly plan?: number | undefined
  /** readings by name with their unit, such as `memory_available_bytes` */
  readonly readings: Readonly<Record<string, number>>
}

export interface CombinationFilter {
  readonly model: ModelId
  readonly device?: string | undefined
  readonly size?: Size | undefined
  readonly split?: Split | undefined
}

/** How many rows of the tables that grow are kept. */
export interface Retention {
  readonly plans?: number
  readonly swaps?: number
  readonly decisions?: number
  /** for each model, beside those of the original, which predictions start from */
  readonly combinations?: number
}

/** A row of a view or of a query, with its columns in their order. */
export type Row = Readonly<Record<string, string | number | null>>
