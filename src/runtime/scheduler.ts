import { asBlockscaleError, BlockscaleError } from '../base/index.ts'
import { type Engine, type EngineResult, sharedNow, type Tensors } from '../engine/index.ts'
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
  readonly release: () => void
}

export interface SchedulerOptions {
  /** what is live for a model; nothing when it is not loaded */
  readonly live: (model: string) => Deployed | undefined
  /** share of a model when several compete for one engine; 1 unless given */
  readonly weight?: (model: string) => number
  /** requests that may wait for one model; 16 unless given */
  readonly queueLimit?: number
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
    for (let core = 0; core < this.#engines.length; core++) {
      while (this.#running[core]! < DEPTH) {
        const next = this.#next(core)
        if (!next) break
        this.#start(core, ...next)
      }
    }
  }

  #next(core: number): [Queue, Waiting, Deployed] | undefined {
    let best: [Queue, Deployed] | undefined
    for (const [model, queue] of this.#queues) {
      if (queue.waiting.length === 0 || queue.paused > 0) continue
      const deployed = this.#options.live(model)
      if (!deployed) {
        for (const { cancel, reject } of queue.waiting.splice(0)) {
          cancel()
          reject(notLoaded(model))
        }
        settle(queue)
        continue
      }
      if (deployed.target.core === core && (!best || queue.used < best[0].used)) best = [queue, deployed]
    }
    return best && [best[0], best[0].waiting.shift()!, best[1]]
  }

  #start(core: number, queue: Queue, waiting: Waiting, deployed: Deployed): void {
    const { job } = waiting
    waiting.cancel()
    const giveBack = deployed.lease()
    let kept = false
    this.#running[core]!++
    queue.running++
    const startedAt = sharedNow()
    this.#run(core, waiting, deployed, startedAt)
      .then(
        (done) => {
          kept = job.keep ?? false
          waiting.resolve({ ...done, release: giveBack })
        },
        (error) => waiting.reject(asBlockscaleError(error)),
      )
      .finally(() => {
        queue.used += (sharedNow() - startedAt) / (this.#options.weight?.(job.model) ?? 1)
        if (!kept) giveBack()
        this.#running[core]!--
        queue.running--
        settle(queue)
        this.pump()
      })
  }

  async #run(core: number, waiting: Waiting, deployed: Deployed, startedAt: number) {
    const { job, deadline, acceptedAt } = waiting
    const feeds = job.feeds(deployed)
    const inputMs = sharedNow() - startedAt
    const { signal } = job.options
    const result = await this.#engines[core]!.run({
      chain: deployed.keys,
      feeds,
      outputs: job.outputs,
      windowBytes: deployed.target.windowBytes,
      deadline,
      signal,
    })
    return { deployed, result, inputMs, queueMs: Math.max(0, result.startedAt - acceptedAt - inputMs) }
  }

  #queue(model: string): Queue {
    let queue = this.#queues.get(model)
    if (!queue) {
      queue = { waiting: [], running: 0, paused: 0, used: this.#leastUsed(), settled: [] }
      this.#queues.set(model, queue)
    }
    return queue
  }

  #leastUsed(): number {
    const busy = [...this.#queues.values()].filter(({ waiting, running }) => waiting.length + running > 0)
    return busy.length === 0 ? 0 : Math.min(...busy.map(({ used }) => used))
  }
}

function settle(queue: Queue): void {
  for (const tell of queue.settled.splice(0)) tell()
}

const givenUp = () => new BlockscaleError('CANCELLED', 'the request was given up')

const tooLate = (deadlineMs: number) =>
  new BlockscaleError('DEADLINE_EXCEEDED', `the request did not get its turn within ${deadlineMs} ms`)

const notLoaded = (model: string) =>
  new BlockscaleError('MODEL_UNKNOWN', `${model} is not loaded`, 'Ask for it with a workload, or load it.')
