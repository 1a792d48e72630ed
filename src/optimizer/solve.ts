import { planOf } from './answer.ts'
import type { Program } from './compile.ts'
import { compile } from './compile.ts'
import { explain } from './infeasible.ts'
import { parseProblem } from './parse.ts'
import type { Plan, Problem } from './problem.ts'
import { type SearchResult, search } from './search.ts'

const minimise = (program: Program): SearchResult => search(program, { deadline: performance.now() + 5000 })

export interface SolveOptions {
  /** for an infeasible problem, give the plan that breaks the named limit by the least and keeps the others */
  readonly nearest?: boolean | undefined
}

/** Solves one problem after the other; each solve starts from what the last one learnt. */
export interface Solver {
  /** @throws BlockscaleError PROBLEM_INVALID when the problem makes no sense */
  solve(problem: Problem, options?: SolveOptions): Plan
}

/**
 * The best plan of a problem.
 *
 *     solve({ memoryBytes: 64e6, models }).status // → 'optimal'
 *
 * No plan that is returned breaks a limit; an infeasible problem is an answer, not an error.
 *
 * @throws BlockscaleError PROBLEM_INVALID when the problem makes no sense
 */
export const solve = (problem: Problem, options?: SolveOptions): Plan => createSolver().solve(problem, options)

export function createSolver(): Solver {
  return {
    solve(json) {
      const start = performance.now()
      const problem = parseProblem(json)
      const program = compile(problem)
      const { found } = minimise(program)
      if (found) return planOf(program, found, new Set(), performance.now() - start)
      const infeasible = explain(problem, minimise)
      const solveMs = performance.now() - start
      return { status: 'infeasible', solveMs, models: [], binding: [infeasible.constraint], infeasible }
    },
  }
}
