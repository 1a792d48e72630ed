/** A problem file, as `plan --problem` reads it. Units: bytes, milliseconds, pictures per second. */
export interface Problem {
  readonly memoryBytes?: number | undefined
  readonly cores?: number | undefined
  /** share of the cores that may be planned, in (0, 1]; 0.9 unless given */
  readonly utilisation?: number | undefined
  /**
   * 'pinned' (unless given): each model runs on one core, no core is filled beyond `utilisation`, and the plan names the core.
   * 'shared': any core may run any model, so only the sum is limited.
   */
  readonly placement?: 'pinned' | 'shared' | undefined
  readonly models: readonly ProblemModel[]
  readonly objective?: 'quality' | 'latency' | 'memory' | 'cpu' | undefined
  readonly timeLimitMs?: number | undefined
  /**
   * What one millisecond of swapping is worth, in units of the objective; used for blocks whose choice differs from their
   * `current`. Unless given: 1e-4 (loss) for the objective 'quality', 0 for the others.
   */
  readonly swapWeight?: number | undefined
  /** The same for each megabyte (10^6 bytes) of the blocks that would be loaded; 0 unless given. */
  readonly swapWeightPerMB?: number | undefined
}

export interface ProblemModel {
  readonly id: string
  /** quality of the original; a choice's loss is taken off it */
  readonly quality: number
  readonly weight?: number | undefined
  readonly maxLatencyMs?: number | undefined
  /** pictures per second */
  readonly rate?: number | undefined
  readonly minQuality?: number | undefined
  readonly blocks?: readonly ProblemBlock[] | undefined
  /** alternatives of the whole model (input sizes), in place of `blocks` */
  readonly variants?: readonly { readonly id: string; readonly blocks: readonly ProblemBlock[] }[] | undefined
}

export interface ProblemBlock {
  readonly id: string
  /**
   * The descendant in place now, for the swap term. Where one variant of a model has blocks in place, another one, of which
   * none is, would be loaded whole.
   */
  readonly current?: string | undefined
  readonly choices: readonly ProblemChoice[]
}

export interface ProblemChoice {
  readonly id: string
  readonly loss: number
  readonly latencyMs: number
  readonly memoryBytes: number
  readonly swapMs?: number | undefined
}

/** The answer, in the form that `plan --json` prints. */
export interface Plan {
  readonly status: 'optimal' | 'feasible' | 'infeasible'
  /** Σ weight·loss, plus the swap term where `current` is given (quality); Σ latency, memory or CPU for the other objectives */
  readonly objective?: number | undefined
  readonly bound?: number | undefined
  readonly gap?: number | undefined
  readonly solveMs: number
  readonly models: readonly PlannedModel[]
  readonly totals?: Totals | undefined
  /** limits that hold with (almost) no room left: 'memory', 'cores', 'latency:<model>', 'quality:<model>' */
  readonly binding: readonly string[]
  readonly infeasible?: Infeasible | undefined
}

export interface Totals {
  readonly memoryBytes: number
  /** Σ rate · latency: cores that are busy */
  readonly cores: number
  /** time to load the blocks that differ from `current`, and their bytes; only where the problem names a `current` */
  readonly swapMs?: number | undefined
  readonly swapBytes?: number | undefined
}

/** Which limit cannot be kept, and the least value with which it could (in the limit's own unit). */
export interface Infeasible {
  readonly constraint: string
  readonly model?: string | undefined
  readonly needs: number
  readonly has: number
  /** false when a plan within the limit was neither found nor ruled out in time; `needs` is then what is known to do */
  readonly proven?: boolean | undefined
  /** the highest rate at which the model alone fits one core; given when it is the rate of one model that is too high */
  readonly maxRate?: number | undefined
  /** further limits that must be relaxed as well, when relaxing one does not do */
  readonly also?: readonly Infeasible[] | undefined
}

export interface PlannedModel {
  readonly model: string
  /** the variant that was chosen, where the problem has variants */
  readonly variant?: string | undefined
  readonly inputSize?: readonly [number, number] | undefined
  readonly choices: readonly {
    readonly block: string
    readonly descendant: string
    /** mapped for each picture in place of staying loaded; where blocks are streamed, see `streaming` */
    readonly streamed?: true | undefined
  }[]
  /** where blocks are streamed: the memory that they share, and the speed of the disk that the latency is reckoned with */
  readonly streaming?: { readonly windowBytes: number; readonly readBytesPerSecond: number } | undefined
  readonly predicted: Figures & { readonly qualityLow?: number | undefined }
  readonly verified?: Figures | undefined
  /** better weights that were made for exactly these choices, with what pictures held out of it say */
  readonly polished?: Polished | undefined
  /** the core on which the model is to run, from 0 */
  readonly core?: number | undefined
}

/** What a polish of a model's choices does: mean divergence from the original, and agreement with it. */
export interface Polished {
  readonly how: readonly string[]
  readonly heldOut: number
  readonly before: { readonly divergence: number; readonly agreement: number }
  readonly after: { readonly divergence: number; readonly agreement: number }
}

export interface Figures {
  readonly quality: number
  readonly latencyMs: number
  readonly memoryBytes: number
}
