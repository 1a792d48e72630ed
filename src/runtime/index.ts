export { PlanInfeasible } from './infeasible.ts'
export { predictors, type SizedPredictor, sizeId } from './predictors.ts'
export { openRuntime } from './runtime.ts'
export * from './types.ts'
