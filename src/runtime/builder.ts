import { type ChildProcess, fork } from 'node:child_process'
import { createRequire } from 'node:module'
import { getPriority, setPriority } from 'node:os'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { BlockscaleError } from '../base/index.ts'
import type { BuilderJob, BuilderReply, BuilderRequest } from './builder-process.ts'

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: BlockscaleError) => void
}

const IDLE_MS = 10_000

/** Has files compiled by a process of its own, which is started when there is work and ends when there has been none for a while. */
export class Builder {
  readonly #niceness: number
  readonly #waiting = new Map<number, Waiting>()
  #child: ChildProcess | undefined
  #idle: NodeJS.Timeout | undefined
  #next = 1
  #closed = false

  /** @param niceness above that of this process: 0 for what a request waits for, up to 19 for what nobody waits for */
  constructor(niceness: number) {
    this.#niceness = niceness
  }

  /** @throws BlockscaleError with the reason; ENGINE_FAILED when the process crashed on it */
  run(job: BuilderJob): Promise<void> {
    if (this.#closed) return Promise.reject(new BlockscaleError('ENGINE_FAILED', 'the builder is closed'))
    clearTimeout(this.#idle)
    this.#child ??= this.#start()
    const child = this.#child
    child.ref()
    child.channel?.ref()
    return new Promise((resolve, reject) => {
      const id = this.#next++
      this.#waiting.set(id, { resolve, reject })
      child.send({ ...job, id } satisfies BuilderRequest)
    })
  }

  /** Ends the process; what it has not finished is made again when it is wanted. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#idle)
    const child = this.#child
    if (!child) return
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    child.ref()
    child.kill('SIGTERM')
    await exited
  }

  #start(): ChildProcess {
    const child = fork(fileURLToPath(new URL('./builder-process.js', import.meta.url).href.replace(/\.js$/, ending)), {
      execArgv: ending === '.ts' ? ['--import', tsx()] : [],
      serialization: 'advanced',
    })
    try {
      if (child.pid) setPriority(child.pid, Math.min(19, getPriority() + this.#niceness))
    } catch {
      // Not allowed everywhere; then it runs as others do.
    }
    child.on('message', ({ id, error }: BuilderReply) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error) waiting?.reject(new BlockscaleError(error.code, error.message, error.hint))
      else waiting?.resolve()
      if (this.#waiting.size === 0) this.#rest(child)
    })
    child.on('error', () => {})
    child.on('exit', (code, signal) => {
      if (this.#child !== child) return
      this.#child = undefined
      for (const [id, { reject }] of this.#waiting) {
        this.#waiting.delete(id)
        reject(new BlockscaleError('ENGINE_FAILED', `the process that compiles ended with ${signal ?? `code ${code}`}`))
      }
    })
    return child
  }

  #rest(child: ChildProcess): void {
    child.unref()
    child.channel?.unref()
    this.#idle = setTimeout(() => {
      if (this.#child === child && this.#waiting.size === 0) {
        this.#child = undefined
        child.disconnect()
      }
    }, IDLE_MS)
    this.#idle.unref()
  }
}

/** Sources run through tsx, because Node 20 cannot load TypeScript. */
const ending = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const tsx = (): string => pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
