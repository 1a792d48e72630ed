import { asBlockscaleError, BlockscaleError } from '../base/index.ts'
import { type Engine, type EngineResult, sharedNow, type Tensors } from '../engine/index.ts'
import { formOf, stacked, unstacked } from './batches.ts'
import type { Deployed } from './deployed.ts'
import type { RequestOptions } from './types.ts'

/** One request. Its feeds are made when its turn comes, for the deployment that is live then. */
export interface Job {
  readonly model: string
  readonly feeds: (on: Deployed) => Tensors
  readonly outputs: readonly string[]
  readonly options: RequestOptions
  /** keeps the deployment for further runs of the same request: `Done.release` has to be called */
  readonly keep?: boolean
}

export interface Done {
  readonly deployed: Deployed
  readonly result: EngineResult
  readonly queueMs: number
  readonly inputMs: number
  /** frames that the run answered, and which of them this is, from 0 */
  readonly frames: number
  readonly frame: number
  readonly release: () => void
}

export interface SchedulerOptions {
  /** what is live for a model; nothing when it is not loaded */
  readonly live: (model: string) => Deployed | undefined
  /** the same on other engines, for when they have nothing of their own to do; none unless given */
  readonly replicas?: (model: string) => readonly Deployed[]
  /** share of a model when several compete for one engine; 1 unless given */
  readonly weight?: (model: string) => number
  /** requests that may wait for one model; 16 unless given */
  readonly queueLimit?: number
}

/** What a model was asked, since it was first. */
export interface Crowd {
  /** milliseconds in which requests waited because others of the same model ran */
  readonly crowdedMs: number
  /** pictures that never were requests, because the model was busy */
  readonly missed: number
  readonly answered: number
}

interface Waiting {
  readonly job: Job
  readonly acceptedAt: number
  readonly deadline: number | undefined
  readonly resolve: (done: Done) => void
  readonly reject: (error: BlockscaleError) => void
  cancel: () => void
}

interface Queue {
  readonly waiting: Waiting[]
  running: number
  paused: number
  /** engine time used so far over the model's weight: who has least is next */
  used: number
  settled: (() => void)[]
  crowdedMs: number
  /** since when requests of the model wait for others of it */
  crowdedSince: number | undefined
  missed: number
  answered: number
}

/** A request whose turn has come, with its feeds. */
interface Ready {
  readonly waiting: Waiting
  readonly feeds: Tensors
  readonly inputMs: number
  readonly giveBack: () => void
}

/** Two at once on an engine: while one runs, the next one's tensors are on their way, so that the thread never waits. */
const DEPTH = 2

/**
 * Hands requests to engines: one queue for each model, a fair share of an engine for each model on it.
 *
 * A full queue refuses at once; a request that is past its deadline or was given up never reaches an engine.
 */
export class Scheduler {
  readonly #engines: readonly Engine[]
  readonly #options: SchedulerOptions
  readonly #queues = new Map<string, Queue>()
  readonly #running: number[]
  #closed = false

  constructor(engines: readonly Engine[], options: SchedulerOptions) {
    this.#engines = engines
    this.#options = options
    this.#running = engines.map(() => 0)
  }

  /**
   * @throws BlockscaleError MODEL_UNKNOWN when the model is not loaded, OVERLOADED when too many wait, DEADLINE_EXCEEDED, CANCELLED,
   *   and what the run throws
   */
  submit(job: Job): Promise<Done> {
    if (this.#closed) return Promise.reject(new BlockscaleError('OVERLOADED', 'the runtime is shutting down'))
    if (!this.#options.live(job.model)) return Promise.reject(notLoaded(job.model))
    const queue = this.#queue(job.model)
    const limit = this.#options.queueLimit ?? 16
    if (queue.waiting.length >= limit) {
      const text = `${queue.waiting.length} requests for ${job.model} are waiting already`
      return Promise.reject(new BlockscaleError('OVERLOADED', text))
    }
    const { deadlineMs, signal } = job.options
    if (signal?.aborted) return Promise.reject(givenUp())
    return new Promise((resolve, reject) => {
      const acceptedAt = sharedNow()
      const deadline = deadlineMs === undefined ? undefined : acceptedAt + deadlineMs
      const waiting: Waiting = { job, acceptedAt, deadline, resolve, reject, cancel: () => {} }
      const withdraw = (error: () => BlockscaleError) => {
        const place = queue.waiting.indexOf(waiting)
        if (place < 0) return
        queue.waiting.splice(place, 1)
        waiting.cancel()
        reject(error())
        this.#clockCrowd(job.model, queue)
        settle(queue)
      }
      const abandon = () => withdraw(givenUp)
      signal?.addEventListener('abort', abandon, { once: true })
      const timer =
        deadlineMs === undefined ? undefined : setTimeout(() => withdraw(() => tooLate(deadlineMs)), deadlineMs)
      waiting.cancel = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abandon)
      }
      // One that was idle does not get back the time it did not use.
      if (queue.waiting.length === 0 && queue.running === 0) queue.used = Math.max(queue.used, this.#leastUsed())
      queue.waiting.push(waiting)
      this.pump()
      this.#clockCrowd(job.model, queue)
    })
  }

  /** A further run of a request that kept its deployment; it does not wait in a queue, also not for a swap, which waits for it. */
  again(on: Deployed, feeds: Tensors, outputs: readonly string[], options: RequestOptions): Promise<EngineResult> {
    const { core, windowBytes } = on.target
    return this.#engines[core]!.run({ chain: on.keys, feeds, outputs, windowBytes, signal: options.signal })
  }

  queueLength(model: string): number {
    return this.#queues.get(model)?.waiting.length ?? 0
  }

  /** How a model keeps up, counted from its first request. */
  crowd(model: string): Crowd {
    const { crowdedMs, crowdedSince, missed, answered } = this.#queue(model)
    const since = crowdedSince === undefined ? 0 : sharedNow() - crowdedSince
    return { crowdedMs: crowdedMs + since, missed, answered }
  }

  /** To be told of a picture that was given up before it was asked about, because a newer one came while the model was busy. */
  missed(model: string): void {
    this.#queue(model).missed++
  }

  /** Requests under way on an engine, and those that wait for it. */
  load(core: number): number {
    let waiting = this.#running[core] ?? 0
    for (const [model, queue] of this.#queues) {
      if (this.#options.live(model)?.target.core === core) waiting += queue.waiting.length
    }
    return waiting
  }

  /** Stops handing out requests of a model; resolves when none of them is under way. Calls nest. */
  async pause(model: string): Promise<void> {
    const queue = this.#queue(model)
    queue.paused++
    while (queue.running > 0) await new Promise<void>((resolve) => queue.settled.push(resolve))
  }

  isPaused(model: string): boolean {
    return (this.#queues.get(model)?.paused ?? 0) > 0
  }

  resume(model: string): void {
    const queue = this.#queue(model)
    queue.paused = Math.max(0, queue.paused - 1)
    this.pump()
  }

  /** Resolves when a model has no request waiting or under way. */
  async drained(model: string): Promise<void> {
    const queue = this.#queues.get(model)
    while (queue && (queue.waiting.length > 0 || queue.running > 0)) {
      await new Promise<void>((resolve) => queue.settled.push(resolve))
    }
  }

  /** Refuses new requests and waits for those that were accepted. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#queues.keys()].map((model) => this.drained(model)))
  }

  /** Gives every engine that has room the request whose model is next. To be called when something changed. */
  pump(): void {
    this.#refuseUnloaded()
    const own = (model: string, core: number) => {
      const deployed = this.#options.live(model)
      return deployed?.target.core === core ? deployed : undefined
    }
    const replica = (model: string, core: number) =>
      this.#options.replicas?.(model).find(({ target }) => target.core === core)
    const cores = [...this.#engines.keys()]
    for (const core of cores) this.#fill(core, 1, own)
    // An engine lends itself only while it has nothing of its own to do, and for one run at a time.
    for (const core of cores) this.#fill(core, 1, replica)
    for (const core of cores) this.#fill(core, DEPTH, own)
  }

  #fill(core: number, depth: number, on: (model: string, core: number) => Deployed | undefined): void {
    while (this.#running[core]! < depth) {
      const next = this.#next(core, on)
      if (!next) return
      this.#start(core, ...next)
    }
  }

  #next(core: number, on: (model: string, core: number) => Deployed | undefined): [Queue, Deployed] | undefined {
    let best: [Queue, Deployed] | undefined
    for (const [model, queue] of this.#queues) {
      if (queue.waiting.length === 0 || queue.paused > 0 || (best && queue.used >= best[0].used)) continue
      const deployed = on(model, core)
      if (deployed) best = [queue, deployed]
    }
    return best
  }

  #refuseUnloaded(): void {
    for (const [model, queue] of this.#queues) {
      if (queue.waiting.length === 0 || queue.paused > 0 || this.#options.live(model)) continue
      for (const { cancel, reject } of queue.waiting.splice(0)) {
        cancel()
        reject(notLoaded(model))
      }
      this.#clockCrowd(model, queue)
      settle(queue)
    }
  }

  /** The requests of a queue that run next: as many as make a batch, unless that keeps another model waiting or breaks a deadline. */
  #take(core: number, queue: Queue, deployed: Deployed): Waiting[] {
    const first = queue.waiting.shift()!
    const taken = [first]
    const frameMs = deployed.latencies.latest(1) ?? deployed.target.predicted.latencyMs
    const others = [...this.#queues].some(
      ([model, other]) =>
        other !== queue && other.waiting.length > 0 && this.#options.live(model)?.target.core === core,
    )
    const goesWith = ({ job }: Waiting) => !job.keep && job.outputs.join() === first.job.outputs.join()
    while (!others && taken.length < deployed.batch && queue.waiting[0] && goesWith(first)) {
      const next = queue.waiting[0]
      const doneAt = sharedNow() + (taken.length + 1) * frameMs
      if (!goesWith(next) || [...taken, next].some(({ deadline }) => deadline !== undefined && deadline < doneAt)) break
      taken.push(queue.waiting.shift()!)
    }
    return taken
  }

  #start(core: number, queue: Queue, deployed: Deployed): void {
    const { model } = deployed.target
    const taken = this.#take(core, queue, deployed)
    const ready: Ready[] = []
    this.#running[core]!++
    queue.running++
    const startedAt = sharedNow()
    for (const waiting of taken) {
      waiting.cancel()
      const giveBack = deployed.lease()
      try {
        const before = sharedNow()
        const feeds = waiting.job.feeds(deployed)
        ready.push({ waiting, feeds, inputMs: sharedNow() - before, giveBack })
      } catch (error) {
        giveBack()
        waiting.reject(asBlockscaleError(error))
      }
    }
    const runs = together(ready).map((frames) => this.#answer(core, frames, deployed))
    Promise.all(runs).finally(() => {
      queue.used += (sharedNow() - startedAt) / (this.#options.weight?.(taken[0]!.job.model) ?? 1)
      queue.answered += taken.length
      this.#running[core]!--
      queue.running--
      this.#clockCrowd(model, queue)
      settle(queue)
      this.pump()
    })
  }

  /** Answers requests by one run. Never fails: each request gets its answer or the reason why there is none. */
  async #answer(core: number, frames: readonly Ready[], deployed: Deployed): Promise<void> {
    const kept = new Set<Ready>()
    try {
      const { result, outputs } = await this.#run(core, frames, deployed)
      for (const [frame, ready] of frames.entries()) {
        const { waiting, inputMs, giveBack } = ready
        const late = frames.length > 1 && goneMeanwhile(waiting)
        if (late) {
          waiting.reject(late)
          continue
        }
        if (waiting.job.keep) kept.add(ready)
        waiting.resolve({
          deployed,
          result: { ...result, outputs: outputs[frame]! },
          inputMs,
          queueMs: Math.max(0, result.startedAt - waiting.acceptedAt - inputMs),
          frames: frames.length,
          frame,
          release: giveBack,
        })
      }
    } catch (error) {
      for (const { waiting } of frames) waiting.reject(asBlockscaleError(error))
    } finally {
      for (const ready of frames) if (!kept.has(ready)) ready.giveBack()
    }
  }

  async #run(core: number, frames: readonly Ready[], deployed: Deployed) {
    const { job, deadline } = frames[0]!.waiting
    const run = {
      chain: deployed.keys,
      outputs: job.outputs,
      windowBytes: deployed.target.windowBytes,
    }
    if (frames.length === 1) {
      const { feeds } = frames[0]!
      const result = await this.#engines[core]!.run({ ...run, feeds, deadline, signal: job.options.signal })
      return { result, outputs: [result.outputs] }
    }
    const result = await this.#engines[core]!.run({ ...run, feeds: stacked(frames.map(({ feeds }) => feeds)) })
    const outputs = unstacked(result.outputs, frames.length)
    if (!outputs) throw new BlockscaleError('INTERNAL', `${job.model} does not answer each frame of a batch by itself`)
    return { result, outputs }
  }

  /** Starts and stops the clock that says how long requests of a model have waited for others of it. */
  #clockCrowd(model: string, queue: Queue): void {
    const atOnce = 1 + (this.#options.replicas?.(model).length ?? 0)
    const isCrowded = queue.waiting.length + queue.running > atOnce
    if (isCrowded) queue.crowdedSince ??= sharedNow()
    else if (queue.crowdedSince !== undefined) {
      queue.crowdedMs += sharedNow() - queue.crowdedSince
      queue.crowdedSince = undefined
    }
  }

  #queue(model: string): Queue {
    let queue = this.#queues.get(model)
    if (!queue) {
      queue = {
        ...{ waiting: [], running: 0, paused: 0, used: this.#leastUsed(), settled: [] },
        ...{ crowdedMs: 0, crowdedSince: undefined, missed: 0, answered: 0 },
      }
      this.#queues.set(model, queue)
    }
    return queue
  }

  #leastUsed(): number {
    const busy = [...this.#queues.values()].filter(({ waiting, running }) => waiting.length + running > 0)
    return busy.length === 0 ? 0 : Math.min(...busy.map(({ used }) => used))
  }
}

/** Frames of one form as one run; all others alone. */
function together(frames: readonly Ready[]): Ready[][] {
  const runs = new Map<string, Ready[]>()
  const alone: Ready[][] = []
  for (const frame of frames) {
    const form = frames.length > 1 ? formOf(frame.feeds) : undefined
    if (form === undefined) alone.push([frame])
    else runs.set(form, [...(runs.get(form) ?? []), frame])
  }
  return [...runs.values(), ...alone]
}

function settle(queue: Queue): void {
  for (const tell of queue.settled.splice(0)) tell()
}

/** What runs together is not stopped for one of them: it is told afterwards. */
function goneMeanwhile({ job, deadline }: Waiting): BlockscaleError | undefined {
  if (job.options.signal?.aborted) return givenUp()
  return deadline !== undefined && sharedNow() > deadline ? tooLate(job.options.deadlineMs!) : undefined
}

const givenUp = () => new BlockscaleError('CANCELLED', 'the request was given up')

const tooLate = (deadlineMs: number) =>
  new BlockscaleError('DEADLINE_EXCEEDED', `the request did not get its turn within ${deadlineMs} ms`)

const notLoaded = (model: string) =>
  new BlockscaleError('MODEL_UNKNOWN', `${model} is not loaded`, 'Ask for it with a workload, or load it.')
