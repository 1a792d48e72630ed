export { PlanInfeasible } from './infeasible.ts'
export { openRuntime } from './runtime.ts'
export * from './types.ts'
