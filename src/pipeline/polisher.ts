import { type ChildProcess, fork } from 'node:child_process'
import { createRequire } from 'node:module'
import { setPriority } from 'node:os'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { BlockscaleError } from '../base/index.ts'
import type { PolisherAnswer, PolisherRequest } from './polisher-process.ts'

/** What nobody waits for. */
const NICENESS = 15

/** Polishes choices in a process of their own, one after another. */
export interface BackgroundPolisher {
  /** @returns whether the zoo has better weights for the choice now. @throws BlockscaleError ENGINE_FAILED with the reason */
  polish(request: PolisherRequest): Promise<boolean>
  /** Ends what is under way; what is not finished is made again when it is wanted. */
  close(): void
}

export function startPolisher(): BackgroundPolisher {
  let turn: Promise<unknown> = Promise.resolve()
  let child: ChildProcess | undefined
  let closed = false
  return {
    polish(request) {
      const result = turn.then(async () => {
        if (closed) return false
        child = startProcess()
        try {
          return await ask(child, request)
        } finally {
          child.kill('SIGTERM')
          child = undefined
        }
      })
      turn = result.catch(() => {})
      return result
    },
    close() {
      closed = true
      child?.kill('SIGTERM')
    },
  }
}

function startProcess(): ChildProcess {
  const url = new URL('./polisher-process.ts', import.meta.url)
  const fromSources = import.meta.url.endsWith('.ts')
  const child = fork(fileURLToPath(fromSources ? url : url.href.replace(/\.ts$/, '.js')), [], {
    execArgv: fromSources ? ['--import', tsx()] : [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  try {
    if (child.pid) setPriority(child.pid, NICENESS)
  } catch {
    // Not allowed everywhere; then it runs as others do.
  }
  return child
}

function ask(child: ChildProcess, request: PolisherRequest): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const lost = (why: string) => reject(new BlockscaleError('ENGINE_FAILED', `the polish failed: ${why}`))
    child.once('message', (answer: PolisherAnswer) => {
      if ('error' in answer) lost(answer.error)
      else resolve(answer.kept)
    })
    child.once('error', (cause) => lost(cause.message))
    child.once('exit', (code, by) => lost(`its process ended with ${by ?? `code ${code}`}`))
    child.send(request, (error) => {
      if (error) lost(error.message)
    })
  })
}

/** When the sources themselves run, the process needs what translates TypeScript. */
const tsx = (): string => pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
