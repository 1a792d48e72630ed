import type { Worker } from 'node:worker_threads'
import { BlockscaleError, startWorker } from '../base/index.ts'
import { openParking } from '../engine/index.ts'
import type { CrewJob, CrewPart, CrewResults, CrewSetup, CrewWorkerData, FromCrew } from './crew-messages.ts'

/** A job, or (where it carries a whole model) how it is made when its turn comes, so that few are in memory at once. */
type Order<Job> = Job | (() => Promise<Job>)

interface Waiting {
  readonly order: Order<CrewJob>
  readonly onPart: (part: CrewPart) => void
  readonly resolve: (result: never) => void
  readonly reject: (error: Error) => void
}

/**
 * Worker threads that share the work of a build. Each takes the next job when it has done one; a job may hand over parts
 * before its result. Runs block their thread, so the thread that leads stays free to write what comes.
 */
export class Crew {
  readonly #queue: Waiting[] = []
  readonly #idle: Worker[] = []
  readonly #busy = new Map<Worker, Waiting>()
  readonly #parking = openParking()
  readonly #park = () => this.#parking.park()
  #next = 0

  constructor(size: number, setup: CrewSetup) {
    process.on('exit', this.#park) // also when it is interrupted: see `Parking`
    for (let i = 0; i < size; i++) this.#hire(setup)
  }

  run<Kind extends CrewJob['kind']>(
    order: Order<CrewJob & { readonly kind: Kind }>,
    onPart: (part: CrewPart) => void = () => {},
  ): Promise<CrewResults[Kind]> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ order, onPart, resolve: resolve as (result: never) => void, reject })
      this.#dispatch()
    })
  }

  /** Lets the workers finish what they are at: a thread that is stopped inside a run takes the process with it. */
  async close(): Promise<void> {
    for (const { reject } of this.#queue.splice(0)) reject(new BlockscaleError('CANCELLED', 'the build was ended'))
    while (this.#busy.size > 0) await new Promise((wait) => setTimeout(wait, 20))
    await Promise.all(this.#idle.splice(0).map((worker) => worker.terminate()))
    process.off('exit', this.#park)
  }

  #hire(setup: CrewSetup): void {
    const workerData: CrewWorkerData = { ...setup, parking: this.#parking.cells }
    const worker = startWorker(new URL('./crew-worker.ts', import.meta.url), { workerData })
    worker.on('message', (message: FromCrew) => {
      const waiting = this.#busy.get(worker)
      if (!waiting) return
      if ('part' in message) {
        waiting.onPart(message.part)
        return
      }
      this.#busy.delete(worker)
      this.#idle.push(worker)
      if ('error' in message) {
        waiting.reject(new BlockscaleError(message.error.code, message.error.message, message.error.hint))
      } else waiting.resolve(message.result as never)
      this.#dispatch()
    })
    worker.on('error', (cause) => {
      const failure = new BlockscaleError('ENGINE_FAILED', `a build worker failed: ${cause.message}`, undefined, {
        cause,
      })
      this.#busy.get(worker)?.reject(failure)
      this.#busy.delete(worker)
      const rest = this.#idle.indexOf(worker)
      if (rest >= 0) this.#idle.splice(rest, 1)
      if (this.#busy.size + this.#idle.length === 0) for (const { reject } of this.#queue.splice(0)) reject(failure)
    })
    this.#idle.push(worker)
  }

  #dispatch(): void {
    while (this.#idle.length > 0 && this.#queue.length > 0) {
      const worker = this.#idle.shift()!
      const waiting = this.#queue.shift()!
      this.#busy.set(worker, waiting)
      this.#hand(worker, waiting)
    }
  }

  async #hand(worker: Worker, { order, reject }: Waiting): Promise<void> {
    try {
      const job = typeof order === 'function' ? await order() : order
      worker.postMessage({ id: this.#next++, job })
    } catch (error) {
      this.#busy.delete(worker)
      this.#idle.push(worker)
      reject(error as Error)
      this.#dispatch()
    }
  }
}
