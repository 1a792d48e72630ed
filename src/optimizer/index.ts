export { MAX_CHOICES, parseProblem } from './parse.ts'
export * from './problem.ts'
export { createSolver, type SolveOptions, type Solver, solve } from './solve.ts'
export { type SolverThread, startSolver } from './solver.ts'
