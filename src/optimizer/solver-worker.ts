import { parentPort } from 'node:worker_threads'
import { asBlockscaleError } from '../base/index.ts'
import { frontier } from './frontier.ts'
import { createSolver } from './solve.ts'
import type { SolverReply, SolverRequest } from './solver.ts'

const solver = createSolver()
const reply = (message: SolverReply) => parentPort?.postMessage(message)

parentPort?.on('message', ({ id, problem, ...task }: SolverRequest) => {
  try {
    const answer = 'axis' in task ? frontier(problem, task.axis) : solver.solve(problem, task.options)
    reply({ id, answer })
  } catch (thrown) {
    const { code, message, hint } = asBlockscaleError(thrown)
    reply({ id, error: { code, message, hint } })
  }
})
