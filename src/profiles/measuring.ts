import { type ChildProcess, fork } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { BlockscaleError } from '../base/index.ts'
import type { LatencyResult, MeasuringAnswer, MeasuringCall, MemoryResult } from './measuring-process.ts'

/** A running measuring process. One call at a time. */
export interface Measuring {
  compile(from: string | Uint8Array, to: string): Promise<void>
  memory(call: Omit<MeasuringCall & { kind: 'memory' }, 'kind'>): Promise<MemoryResult>
  latency(call: Omit<MeasuringCall & { kind: 'latency' }, 'kind'>): Promise<LatencyResult[]>
  close(): Promise<void>
}

/**
 * glibc keeps freed memory for later, so that a network that is loaded after another seems to take nothing: 0.0 to 25 MB
 * were read for the same 14 MB model. Told to give memory back at once, readings repeat within about 1 %.
 */
const GIVE_BACK = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_TRIM_THRESHOLD_: '0',
  MALLOC_TOP_PAD_: '0',
  MALLOC_MMAP_THRESHOLD_: '65536',
}

/**
 * Starts a measuring process.
 *
 * @param purpose `memory` gives freed memory back at once, which would slow down runs
 */
export function startMeasuring(purpose: 'memory' | 'latency' | 'compile', signal?: AbortSignal): Measuring {
  const url = new URL('./measuring-process.ts', import.meta.url)
  const fromSources = import.meta.url.endsWith('.ts')
  const child = fork(fileURLToPath(fromSources ? url : url.href.replace(/\.ts$/, '.js')), [], {
    serialization: 'advanced',
    execArgv: ['--expose-gc', ...(fromSources ? ['--import', tsx()] : [])],
    env: { ...process.env, ...(purpose === 'memory' ? GIVE_BACK : {}) },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const ended = new Promise<never>((_, reject) => {
    child.once('error', (cause) => reject(lost(cause.message)))
    child.once('exit', (code, by) => reject(lost(by ?? `exit code ${code}`)))
  })
  ended.catch(() => {}) // each call hears of it; without a call nobody need
  const stop = () => void child.kill('SIGKILL')
  signal?.addEventListener('abort', stop, { once: true })

  const ask = async (call: MeasuringCall): Promise<MeasuringAnswer & { result: unknown }> => {
    signal?.throwIfAborted()
    try {
      const answer = await Promise.race([askOnce(child, call), ended])
      if ('error' in answer) throw new BlockscaleError('ENGINE_FAILED', answer.error)
      return answer
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    }
  }
  return {
    compile: async (from, to) => void (await ask({ kind: 'compile', from, to })),
    memory: async (call) => (await ask({ kind: 'memory', ...call })).result as MemoryResult,
    latency: async (call) => (await ask({ kind: 'latency', ...call })).result as LatencyResult[],
    async close() {
      signal?.removeEventListener('abort', stop)
      if (child.connected) child.disconnect()
      await ended.catch(() => {})
    },
  }
}

function askOnce(child: ChildProcess, call: MeasuringCall): Promise<MeasuringAnswer> {
  return new Promise((resolve, reject) => {
    child.once('message', (answer) => resolve(answer as MeasuringAnswer))
    child.send(call, (error) => {
      if (error) reject(lost(error.message))
    })
  })
}

const lost = (why: string): BlockscaleError =>
  new BlockscaleError('ENGINE_FAILED', `the measuring process ended (${why})`)

/** When the sources themselves run, the process needs what translates TypeScript. */
const tsx = (): string => pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
