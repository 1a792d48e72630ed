import type { Worker } from 'node:worker_threads'
import { BlockscaleError, startWorker } from '../base/index.ts'
import type { FrontierAxis, OptimizerFrontier } from './frontier.ts'
import type { Plan, Problem } from './problem.ts'
import type { SolveOptions } from './solve.ts'

/** A solver in a thread of its own: the caller's thread stays free, and each solve starts from what the last one learnt. */
export interface SolverThread {
  /** @throws BlockscaleError PROBLEM_INVALID when the problem makes no sense */
  solve(problem: Problem, options?: SolveOptions): Promise<Plan>
  /** @throws BlockscaleError PROBLEM_INVALID when the problem makes no sense */
  frontier(problem: Problem, axis: FrontierAxis): Promise<OptimizerFrontier>
  close(): Promise<void>
}

export type SolverTask =
  | { readonly problem: Problem; readonly options: SolveOptions | undefined }
  | { readonly problem: Problem; readonly axis: FrontierAxis }
export type SolverRequest = SolverTask & { readonly id: number }

export type SolverReply =
  | { readonly id: number; readonly answer: Plan | OptimizerFrontier }
  | {
      readonly id: number
      readonly error: { readonly code: BlockscaleError['code']; readonly message: string; readonly hint: string }
    }

interface Waiting {
  readonly resolve: (answer: Plan | OptimizerFrontier) => void
  readonly reject: (error: BlockscaleError) => void
}

/** Starts a solver in a worker thread; requests are answered in their order. */
export function startSolver(): SolverThread {
  const waiting = new Map<number, Waiting>()
  let worker: Worker | undefined
  let closed = false
  let next = 0

  const drop = (error: BlockscaleError) => {
    worker = undefined
    for (const { reject } of waiting.values()) reject(error)
    waiting.clear()
  }
  const start = (): Worker => {
    const started = startWorker(new URL('./solver-worker.ts', import.meta.url))
    started.unref()
    started.on('message', (reply: SolverReply) => {
      const caller = waiting.get(reply.id)
      waiting.delete(reply.id)
      if (waiting.size === 0) started.unref()
      if ('answer' in reply) caller?.resolve(reply.answer)
      else caller?.reject(new BlockscaleError(reply.error.code, reply.error.message, reply.error.hint))
    })
    started.on('error', (cause) =>
      drop(new BlockscaleError('INTERNAL', 'the solver thread failed', undefined, { cause })),
    )
    started.on('exit', () => {
      if (worker === started) drop(new BlockscaleError('INTERNAL', 'the solver thread ended'))
    })
    return started
  }

  const ask = (task: SolverTask): Promise<Plan | OptimizerFrontier> => {
    if (closed) return Promise.reject(new BlockscaleError('INTERNAL', 'the solver is closed'))
    worker ??= start()
    const running = worker
    running.ref()
    return new Promise((resolve, reject) => {
      const request: SolverRequest = { ...task, id: next++ }
      waiting.set(request.id, { resolve, reject })
      running.postMessage(request)
    })
  }

  return {
    solve: (problem, options) => ask({ problem, options }) as Promise<Plan>,
    frontier: (problem, axis) => ask({ problem, axis }) as Promise<OptimizerFrontier>,
    async close() {
      closed = true
      const running = worker
      drop(new BlockscaleError('INTERNAL', 'the solver was closed'))
      await running?.terminate()
    },
  }
}
