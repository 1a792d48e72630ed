import { parentPort } from 'node:worker_threads'
import { asBlockscaleError } from '../base/index.ts'
import { createSolver } from './solve.ts'
import type { SolveReply, SolveRequest } from './solver.ts'

const solver = createSolver()
const reply = (message: SolveReply) => parentPort?.postMessage(message)

parentPort?.on('message', ({ id, problem, options }: SolveRequest) => {
  try {
    reply({ id, plan: solver.solve(problem, options) })
  } catch (thrown) {
    const { code, message, hint } = asBlockscaleError(thrown)
    reply({ id, error: { code, message, hint } })
  }
})
