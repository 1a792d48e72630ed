import type { Worker } from 'node:worker_threads'
import { BlockscaleError, type Log, silentLog, startWorker } from '../base/index.ts'
import { type EngineAnswer, type EngineCall, type PortFact, transferable, type Windowed } from './messages.ts'
import type { Tensors } from './session.ts'

export interface EngineOptions {
  readonly log?: Log
  /** told after a thread was lost and another one holds the same sessions (`requests` of them got an error) */
  readonly onReplaced?: (why: string, requests: number) => void
  /** told when files of held sessions were gone by the time a new thread was to load them; to `hold` them again loads them */
  readonly onMissing?: (keys: readonly string[]) => void
  /** starts the thread; replaced in tests that have to kill it */
  readonly start?: () => Worker
}

/** A hold on a loaded session; the session goes when nobody holds it any more. */
export interface SessionHold {
  readonly key: string
  /** 0 when it was loaded already */
  readonly loadMs: number
  release(): Promise<void>
}

/** Shapes of values by their names. */
export type Shapes = Readonly<Record<string, readonly number[]>>

export interface EngineRun {
  readonly chain: readonly string[]
  readonly feeds: Tensors
  readonly outputs: readonly string[]
  /** what the sessions may take while they run, together with what is read ahead of them; nothing is read ahead unless given */
  readonly windowBytes?: number | undefined
  readonly deadline?: number | undefined
  readonly signal?: AbortSignal | undefined
}

export interface EngineResult {
  readonly outputs: Tensors
  readonly startedAt: number
  readonly ms: number
  readonly stepMs: readonly number[]
}

/** The thread ended while it ran the request. The same request may succeed on the thread that takes its place. */
export class EngineLost extends BlockscaleError {
  constructor(why: string) {
    super('ENGINE_LOST', `the inference thread ended during the run: ${why}`)
    this.name = 'EngineLost'
  }
}

interface Pending {
  readonly message: EngineCall & { call: number }
  resolve(answer: EngineAnswer): void
  reject(error: BlockscaleError): void
}

interface Held {
  readonly path: string
  readonly windowed: Windowed | undefined
  holders: number
  loaded: Promise<number>
  /** a thread that took the place of another one could not load it */
  isMissing: boolean
}

const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 5_000
/** After so many threads in a row that ended before their first answer, callers are told instead of kept waiting. */
const HOPELESS = 3

/**
 * One inference thread and the sessions in it.
 *
 * A thread that ends by itself is replaced by one with the same sessions. Calls that carry nothing but names are repeated there; a run
 * that was under way gets ENGINE_LOST, because its tensors went with the thread. After repeated ends there is a pause before
 * each new start.
 */
export class Engine {
  readonly #options: EngineOptions
  readonly #log: Log
  readonly #pending = new Map<number, Pending>()
  readonly #held = new Map<string, Held>()
  #worker: Worker | undefined
  #nextCall = 1
  #closing: Promise<void> | undefined
  #startedAt = 0
  #pauseMs = 0
  #failedStarts = 0
  replaced = 0

  constructor(options: EngineOptions = {}) {
    this.#options = options
    this.#log = options.log ?? silentLog
    this.#start()
  }

  /** Keys of the sessions that are loaded or being loaded. */
  get sessions(): readonly string[] {
    return [...this.#held.keys()]
  }

  /** false from the end of a thread until the next one has started */
  get isRunning(): boolean {
    return this.#worker !== undefined
  }

  /** Resolves when the thread runs and has done what it was asked before. */
  async ready(): Promise<void> {
    await this.#call({ kind: 'release', call: 0, key: '' })
  }

  /**
   * Loads a file, or shares it when `key` is loaded already. `.ort` files are mapped.
   *
   * @param windowed for a session of a chain that shares a window of memory
   */
  async hold(key: string, path: string, windowed?: Windowed): Promise<SessionHold> {
    this.#refuseWhenClosed()
    let held = this.#held.get(key)
    const shared = held !== undefined && !held.isMissing
    if (!held || held.isMissing) {
      const loaded = this.#call({ kind: 'load', call: 0, key, path, windowed }).then((answer) =>
        answer.kind === 'loaded' ? answer.ms : 0,
      )
      // Others may hold it as well.
      if (held) Object.assign(held, { loaded, isMissing: false })
      else {
        held = { path, windowed, holders: 0, loaded, isMissing: false }
        this.#held.set(key, held)
      }
    }
    held.holders++
    let loadMs: number
    try {
      loadMs = await held.loaded
    } catch (error) {
      held.isMissing = true
      if (--held.holders === 0 && this.#held.get(key) === held) this.#held.delete(key)
      throw error
    }
    let released = false
    const mine = held
    return {
      key,
      loadMs: shared ? 0 : loadMs,
      release: async () => {
        if (released) return
        released = true
        if (--mine.holders > 0) return
        this.#held.delete(key)
        if (!this.#closing) await this.#call({ kind: 'release', call: 0, key })
      },
    }
  }

  /**
   * Runs a chain of held sessions on zeros of the given shapes and compares what it gives with what it should.
   *
   * @returns the shapes of all values at the borders of the sessions, and the milliseconds that it took
   */
  async check(
    chain: readonly string[],
    inputs: readonly PortFact[],
    outputs: readonly PortFact[],
  ): Promise<{ readonly shapes: Shapes; readonly ms: number }> {
    const answer = await this.#call({ kind: 'check', call: 0, chain, inputs, outputs })
    return answer.kind === 'checked' ? answer : { shapes: {}, ms: 0 }
  }

  /**
   * Runs a chain of held sessions.
   *
   * Arrays of `feeds` that own their whole buffer are moved to the thread and are empty afterwards.
   *
   * @throws BlockscaleError TENSOR_INVALID, DEADLINE_EXCEEDED, CANCELLED, ENGINE_FAILED, ENGINE_LOST
   */
  async run({ signal, ...run }: EngineRun): Promise<EngineResult> {
    this.#refuseWhenClosed()
    if (signal?.aborted) throw new BlockscaleError('CANCELLED', 'the request was given up')
    const call = this.#nextCall
    const giveUp = () => this.#worker?.postMessage({ kind: 'cancel', call } satisfies EngineCall)
    signal?.addEventListener('abort', giveUp, { once: true })
    try {
      const answer = await this.#call({ kind: 'run', call: 0, ...run, cancellable: signal !== undefined })
      if (answer.kind !== 'outputs') throw new BlockscaleError('INTERNAL', `an engine answered ${answer.kind} to a run`)
      return answer
    } finally {
      signal?.removeEventListener('abort', giveUp)
    }
  }

  /** Lets the thread finish what it was given, then ends it. It is never terminated: that would abort the process. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      const worker = this.#worker
      if (!worker) {
        this.#reject('the engine was closed')
        return resolve()
      }
      worker.once('exit', () => resolve())
      worker.postMessage({ kind: 'stop' } satisfies EngineCall)
    })
    return this.#closing
  }

  #refuseWhenClosed(): void {
    if (this.#closing) throw new BlockscaleError('ENGINE_FAILED', 'the engine is closed')
  }

  #call(message: EngineCall & { call: number }): Promise<EngineAnswer> {
    const call = this.#nextCall++
    const numbered = { ...message, call }
    return new Promise((resolve, reject) => {
      this.#pending.set(call, { message: numbered, resolve, reject })
      this.#post(numbered)
    })
  }

  #post(message: EngineCall & { call: number }): void {
    // Without a thread (it is being replaced) calls wait among the pending ones, and the new thread gets them.
    try {
      this.#worker?.postMessage(message, message.kind === 'run' ? transferable(message.feeds) : [])
    } catch (cause) {
      const text = `the tensors cannot be handed to the engine: ${cause instanceof Error ? cause.message : cause}`
      this.#settle(message.call)?.reject(new BlockscaleError('TENSOR_INVALID', text, undefined, { cause }))
    }
  }

  #settle(call: number): Pending | undefined {
    const pending = this.#pending.get(call)
    this.#pending.delete(call)
    return pending
  }

  #start(): void {
    const worker = this.#options.start?.() ?? startWorker(new URL('./engine-worker.ts', import.meta.url))
    this.#worker = worker
    this.#startedAt = performance.now()
    let why = ''
    worker.on('message', (answer: EngineAnswer) => {
      this.#failedStarts = 0
      const pending = this.#settle(answer.call)
      if (answer.kind !== 'failed') pending?.resolve(answer)
      else pending?.reject(new BlockscaleError(answer.code, answer.message, answer.hint))
    })
    worker.on('error', (error) => {
      why = error.message
    })
    worker.on('exit', (code) => this.#ended(why || `it exited with code ${code}`))
  }

  #ended(why: string): void {
    this.#worker = undefined
    const lost = [...this.#pending.values()].filter(({ message }) => message.kind === 'run')
    for (const { message, reject } of lost) {
      this.#pending.delete(message.call)
      reject(new EngineLost(why))
    }
    if (this.#closing) {
      this.#reject('the engine was closed')
      return
    }
    if (++this.#failedStarts >= HOPELESS) this.#reject(`the inference thread ends again and again: ${why}`)
    const longLived = performance.now() - this.#startedAt > LONGEST_PAUSE_MS
    this.#pauseMs = longLived ? 0 : Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, this.#pauseMs * 2))
    this.replaced++
    this.#log.warn({ why, requests: lost.length, pauseMs: this.#pauseMs }, 'an inference thread ended and is replaced')
    setTimeout(() => {
      if (this.#closing) return
      this.#start()
      this.#restore()
      this.#options.onReplaced?.(why, lost.length)
    }, this.#pauseMs)
  }

  #reject(message: string): void {
    for (const [call, { reject }] of this.#pending) {
      this.#pending.delete(call)
      reject(new BlockscaleError('ENGINE_FAILED', message))
    }
  }

  /** Gives a new thread the sessions of the old one, then the calls that wait. */
  #restore(): void {
    const waiting = [...this.#pending.values()]
    const beingLoaded = new Set(waiting.flatMap(({ message }) => (message.kind === 'load' ? [message.key] : [])))
    const missing: string[] = []
    const loads = [...this.#held].map(([key, held]) => {
      if (beingLoaded.has(key)) return undefined
      const { path, windowed } = held
      return this.#call({ kind: 'load', call: 0, key, path, windowed }).catch((error: BlockscaleError) => {
        this.#log.error({ key, message: error.message }, 'a block could not be loaded again')
        held.isMissing = true
        missing.push(key)
      })
    })
    for (const { message } of waiting) this.#post(message)
    Promise.all(loads).then(() => {
      if (missing.length > 0 && !this.#closing) this.#options.onMissing?.(missing)
    })
  }
}
