import { binding, planOf } from './answer.ts'
import { compile, type Program } from './compile.ts'
import { explain } from './infeasible.ts'
import { parseProblem } from './parse.ts'
import type { Plan, Problem } from './problem.ts'
import { search } from './search.ts'
import { keepWarm, type WarmStart, warmPool } from './warm.ts'

export interface SolveOptions {
  /** for an infeasible problem: the best plan among those that break the named limit by the least and keep the others */
  readonly nearest?: boolean | undefined
  /** what an earlier solve left, see `createSolver` */
  readonly warm?: WarmStart | undefined
}

/** Solves one problem after the other; each solve starts from what the last one learnt. */
export interface Solver {
  /** @throws BlockscaleError PROBLEM_INVALID when the problem makes no sense */
  solve(problem: Problem, options?: Pick<SolveOptions, 'nearest'>): Plan
}

/** Time after which the best plan so far is the answer, unless the problem says otherwise. */
const TIME_LIMIT_MS = 5000
/** What each search for a limit that would do gets at least, when that time is over. */
const LEAST_MS = 50

/**
 * The best plan of a problem.
 *
 *     solve({ memoryBytes: 64e6, models }).status // → 'optimal'
 *
 * No plan of status 'optimal' or 'feasible' breaks a limit; an infeasible problem is an answer, not an error.
 *
 * @throws BlockscaleError PROBLEM_INVALID when the problem makes no sense
 */
export const solve = (problem: Problem, options: SolveOptions = {}): Plan => solveWarm(problem, options).plan

export function createSolver(): Solver {
  let warm: WarmStart | undefined
  return {
    solve(problem, options) {
      const solved = solveWarm(problem, { ...options, warm })
      warm = solved.warm ?? warm
      return solved.plan
    },
  }
}

function solveWarm(json: Problem, { nearest, warm }: SolveOptions): { plan: Plan; warm: WarmStart | undefined } {
  const start = performance.now()
  const elapsed = () => performance.now() - start
  const problem = parseProblem(json)
  const deadline = start + (problem.timeLimitMs ?? TIME_LIMIT_MS)
  const program = compile(problem)
  const { found, outcome, proven } = search(program, { deadline, pool: warm && warmPool(program, warm) })
  if (found) {
    const next = keepWarm(program, { ...outcome.pool, plan: found.configs })
    return { plan: planOf(program, found, outcome.duals, elapsed()), warm: next }
  }
  const until = performance.now() + TIME_LIMIT_MS
  const any = (other: Program, target?: number) =>
    search(other, { target, deadline: Math.max(until, performance.now() + LEAST_MS) })
  const { infeasible, relaxed } = explain(problem, any)
  const answer: Plan = {
    status: 'infeasible',
    solveMs: elapsed(),
    models: [],
    binding: binding(infeasible),
    infeasible: proven ? infeasible : { ...infeasible, proven: false },
  }
  if (!nearest) return { plan: answer, warm: undefined }
  const nearby = compile(relaxed)
  const near = search(nearby, { deadline: Math.max(until, performance.now() + TIME_LIMIT_MS / 5) })
  if (!near.found) return { plan: answer, warm: undefined }
  const { status: _, bound: __, gap: ___, ...plan } = planOf(nearby, near.found, near.outcome.duals, elapsed())
  return { plan: { ...plan, ...answer, models: plan.models, solveMs: elapsed() }, warm: undefined }
}
