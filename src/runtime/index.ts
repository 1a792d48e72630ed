export {
  type Frontier,
  type FrontierPart,
  type FrontierPoint,
  frontierOf,
  type Predicted,
  thinnedCurve,
} from './frontier.ts'
export { PlanInfeasible } from './infeasible.ts'
export { openPlanner, type Planned, type Planner } from './planner.ts'
export { openRuntime } from './runtime.ts'
export * from './types.ts'
