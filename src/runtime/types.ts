import type { Clock, ErrorCode, Log } from '../base/index.ts'
import type { Figures, Plan, Problem } from '../optimizer/index.ts'
import type { Answer, TaskName, Tensors } from '../tasks/index.ts'
import type { Picture } from '../tensor/index.ts'
import type { BorderValue } from '../zoo/index.ts'
import type { Frontier } from './frontier.ts'

/** An application's standing wish. */
export interface Workload {
  readonly model: string
  readonly maxLatencyMs?: number | undefined
  /** pictures per second */
  readonly rate?: number | undefined
  readonly weight?: number | undefined
  readonly minQuality?: number | undefined
}

/** What all models together may use; a field that is absent is no limit (cores: all workers). */
export interface Budget {
  readonly memoryBytes?: number | undefined
  readonly cores?: number | undefined
}

export interface ModelSwap {
  readonly model: string
  /** `from` is null for a block that was not loaded before, `to` for one that is given up */
  readonly changed: readonly { readonly block: string; readonly from: string | null; readonly to: string | null }[]
}

/** What one change of deployment did. */
export interface SwapReport {
  /** plan ids; null when nothing was live before */
  readonly from: string | null
  readonly to: string
  readonly models: readonly ModelSwap[]
  /** bytes of the block files that had to be loaded */
  readonly bytes: number
  /** from the decision to the flip */
  readonly ms: number
  readonly why: string
}

/** What a change of workloads or budget led to; `swap` is null when the plan in force stays. */
export interface Change {
  readonly plan: Plan
  readonly swap: SwapReport | null
}

/** 'chain' right after a swap, 'fused' when the same choice runs as one graph. */
export type Gear = 'chain' | 'fused'

export interface LiveBlock {
  readonly id: string
  readonly descendant: string
  readonly kind: string
  /** bytes of the descendant's file in the zoo */
  readonly bytes: number
  /** mapped for each picture in place of staying loaded */
  readonly streamed?: true
}

export interface LiveModel {
  readonly model: string
  readonly inputSize: readonly [number, number]
  readonly blocks: readonly LiveBlock[]
  readonly gear: Gear
  /** the engine that runs it, from 0 */
  readonly core: number
  /** further engines that run it while they have nothing of their own to do */
  readonly replicas: readonly number[]
  /** waiting frames that may run at once; 1 where batches bring nothing */
  readonly batch: number
  readonly predicted: Figures
  /** of the most recent requests on this deployment; latencies are null before the first */
  readonly measured: {
    readonly latencyMs: number | null
    readonly p95: number | null
    readonly count: number
    /** planned bytes of what this model keeps loaded now, both gears counted */
    readonly memoryBytes: number
  }
  readonly state: ModelState
}

/** 'swapping' while blocks are exchanged one by one: requests wait then and do not fail. 'failed' while its engine has no thread. */
export type ModelState = 'ready' | 'swapping' | 'failed'

export interface Live {
  /** the id of the plan in force; '' when nothing is loaded */
  readonly id: string
  readonly plan: Plan
  readonly models: readonly LiveModel[]
  /** workloads that cannot be served since the start: their model is damaged or gone, or it does not fit; tried again with every change */
  readonly unserved: readonly { readonly id: string; readonly model: string; readonly why: string }[]
  readonly memory: {
    readonly limitBytes?: number | undefined
    /** sum of the measured needs of everything that is loaded now */
    readonly plannedBytes: number
    /** what the system says: growth of this process (anonymous) plus mapped model files, since the runtime was opened */
    readonly measuredBytes: number
  }
}

/** A model that is built in the zoo. */
export interface ModelSummary {
  readonly model: string
  readonly task: TaskName
  /** whether a workload asks for it, so that requests are answered */
  readonly loaded: boolean
  /** why a model that is asked for cannot answer */
  readonly reason?: string | undefined
  /** input sizes `[height, width]` that have profiles; the first is the card's */
  readonly sizes: readonly (readonly [number, number])[]
  readonly inputs: readonly BorderValue[]
  readonly outputs: readonly BorderValue[]
  readonly blocks: readonly {
    readonly id: string
    readonly descendants: readonly { readonly id: string; readonly kind: string; readonly bytes: number }[]
  }[]
  /** number of models that the blocks can be combined to */
  readonly options: number
  readonly labels?: readonly string[] | undefined
}

export interface RequestOptions {
  /** milliseconds from now within which the answer must be there; checked in the queue and at block borders */
  readonly deadlineMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

interface Served {
  /** id of the plan whose blocks answered; one request is answered by one deployment */
  readonly plan: string
  /** time of the network itself */
  readonly latencyMs: number
  readonly queueMs: number
  /** expected quality of that plan for this model */
  readonly quality: number
  /** block → descendant that answered */
  readonly choices: Readonly<Record<string, string>>
  readonly gear: Gear
}

export interface Prediction extends Served {
  readonly answer: Answer
  /** size of the picture, in which boxes and masks are given */
  readonly picture: { readonly width: number; readonly height: number }
  /** `[height, width]` at which the network ran */
  readonly inputSize: readonly [number, number]
}

export interface Inference extends Served {
  readonly outputs: Tensors
}

/** Counts and sums, in the words of the Open Inference Protocol's statistics. */
export interface Tally {
  readonly count: number
  readonly ns: number
}

export interface ModelStatistics {
  readonly model: string
  /** milliseconds since the epoch; 0 when there was none */
  readonly lastInference: number
  readonly inferenceCount: number
  readonly executionCount: number
  readonly success: Tally
  readonly fail: Tally
  readonly queue: Tally
  /** pre-processing */
  readonly input: Tally
  readonly infer: Tally
  /** decoding of the answer */
  readonly output: Tally
  readonly queueLength: number
}

export interface Statistics {
  readonly models: readonly ModelStatistics[]
  readonly swaps: { readonly count: number; readonly failed: number; readonly ms: number; readonly bytes: number }
  /** what engines did beside requests: files mapped and tried, for swaps and for fused graphs */
  readonly loads: { readonly count: number; readonly ms: number; readonly bytes: number }
  readonly engines: readonly { readonly core: number; readonly queueLength: number; readonly replaced: number }[]
}

type Happening =
  | { readonly kind: 'plan'; readonly id: string; readonly plan: Plan; readonly why: string }
  | { readonly kind: 'infeasible'; readonly plan: Plan; readonly why: string }
  | { readonly kind: 'swap'; readonly swap: SwapReport }
  | { readonly kind: 'swap-failed'; readonly to: string; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'gear'; readonly model: string; readonly gear: Gear; readonly why: string }
  | {
      /** a model that cannot keep up is helped, or needs no help any more */
      readonly kind: 'throughput'
      readonly model: string
      readonly engines: number
      readonly batch: number
      readonly why: string
    }
  | {
      /** a model does not fit as a whole: some of its blocks are mapped for each picture */
      readonly kind: 'streaming'
      readonly model: string
      readonly blocks: readonly string[]
      readonly windowBytes: number
      readonly readBytesPerSecond: number
      readonly why: string
    }
  | {
      readonly kind: 'limit'
      readonly limit: 'memory' | 'cores' | 'latency'
      readonly has: number
      readonly needs: number
      readonly why: string
    }
  | {
      readonly kind: 'workload'
      readonly id: string
      /** null when it was deleted */
      readonly workload: Workload | null
    }
  | { readonly kind: 'budget'; readonly budget: Budget }
  | { readonly kind: 'engine-replaced'; readonly core: number; readonly why: string; readonly requests: number }
  | {
      /** a file of the zoo is not as it was written; plans go without it */
      readonly kind: 'damaged'
      readonly model: string
      readonly block: string
      readonly descendant: string
      readonly why: string
    }
  | { readonly kind: 'decision'; readonly decision: 'replan' | 'hold'; readonly why: string }

/** Something that happened, with its time in milliseconds since the epoch. */
export type RuntimeEvent = Happening & { readonly at: number }
export type RuntimeHappening = Happening

/** A what-if: everything that is absent is as it is now. */
export interface WhatIf {
  /** in place of the workloads in force */
  readonly workloads?: Readonly<Record<string, Workload>> | undefined
  readonly budget?: Budget | undefined
  readonly objective?: Problem['objective']
}

export interface RuntimeOptions {
  /** folder of the built zoo */
  readonly zoo: string
  /** in place of the stored one */
  readonly budget?: Budget | undefined
  /** inference workers; one per core unless given */
  readonly workers?: number | undefined
  /** requests that may wait for one model; beyond it requests are refused at once. 64 unless given */
  readonly queueLimit?: number | undefined
  /** models for which there is to be a workload from the start, as with `load`; 'all' that are built, where nothing was ever asked for */
  readonly models?: readonly string[] | 'all' | undefined
  /**
   * What plans follow beside the wishes: 'device' reads memory, pressure, CPU quota, temperature, battery and measured latencies every
   * second; a trace replays such readings from a file. Nothing unless given.
   */
  readonly control?: 'device' | { readonly trace: string } | undefined
  /** makes better weights for plans that stay, in the background; nothing unless given. The caller closes it. */
  readonly polisher?: Polisher | undefined
  /** milliseconds that reading files would take now, by which a start decides what to load first; asked of the disk unless given */
  readonly readingMs?: ((paths: readonly string[]) => Promise<number>) | undefined
  readonly log?: Log | undefined
  readonly clock?: Clock | undefined
}

/** Makes better weights for exactly one choice, and keeps them in the zoo where pictures held out say that they are better. */
export interface Polisher {
  /** Asked once for each plan that stays. @returns whether the zoo has better weights for the choice now */
  polish?(model: string, choices: Readonly<Record<string, string>>, size: readonly [number, number]): Promise<boolean>
  /**
   * Asked again and again while a plan stays; decides itself whether enough was seen since the last time.
   *
   * @returns whether the zoo has other weights for the choice now than before
   */
  adapt?(model: string, choices: Readonly<Record<string, string>>, size: readonly [number, number]): Promise<boolean>
}

/** Runs the models of a zoo inside the limits that are set, and changes plans without failing a request. */
export interface Runtime {
  models(): readonly ModelSummary[]
  /** Those that cannot be served at the moment included. */
  workloads(): ReadonlyMap<string, Workload>
  /** @throws BlockscaleError MODEL_UNKNOWN, USAGE; PLAN_INFEASIBLE (then everything stays as it was, and `plan` says by how much) */
  putWorkload(id: string, workload: Workload): Promise<Change>
  /** @throws BlockscaleError NOT_FOUND */
  deleteWorkload(id: string): Promise<Change>
  budget(): Budget & { readonly usedBytes: number }
  /** @throws BlockscaleError USAGE, PLAN_INFEASIBLE */
  setBudget(budget: Budget): Promise<Change>
  live(): Live
  /** The plan that these wishes would get; nothing changes. An infeasible plan is an answer here. */
  whatIf(request: WhatIf): Promise<Plan>
  /** Pictures of one source that are worth being in flight at once: as many as engines run the model. */
  framesAtOnce(model: string): number
  /** To be told of a picture that was given up because a newer one came while the model was busy: that too says that it cannot keep up. */
  missed(model: string): void
  /** Every combination of a model that no other beats, in both quality and what it costs. @throws BlockscaleError MODEL_UNKNOWN, NOT_FOUND */
  frontier(model: string): Promise<Frontier>
  /** @throws BlockscaleError MODEL_UNKNOWN, OVERLOADED, DEADLINE_EXCEEDED, CANCELLED, ENGINE_FAILED, ENGINE_LOST */
  predict(model: string, picture: Picture, options?: RequestOptions): Promise<Prediction>
  /**
   * Tensors in, tensors out, at the input size of the plan in force or another that the model takes.
   *
   * The arrays of `feeds` that own their whole buffer are handed over to the engine and are empty afterwards.
   */
  infer(model: string, feeds: Tensors, outputs?: readonly string[], options?: RequestOptions): Promise<Inference>
  /** A default workload for a model, where none asks for it yet. */
  load(model: string): Promise<Change>
  /** Takes away every workload of a model. */
  unload(model: string): Promise<Change>
  /** @returns the function that ends it */
  events(listener: (event: RuntimeEvent) => void): () => void
  statistics(): Statistics
  /** Finishes what was accepted, refuses what comes after. */
  close(): Promise<void>
}
