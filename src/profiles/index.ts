export * from './device.ts'
export {
  type Costs,
  type MeasureJob,
  type MeasureOptions,
  measureDescendants,
  timeDescendants,
  weighDescendants,
} from './measure.ts'
export { measureWholes, measureWholesAtSizes, type Whole } from './measure-wholes.ts'
export type { Effort } from './measuring-process.ts'
export * from './predict.ts'
export * from './problem-model.ts'
export * from './rows.ts'
export * from './store.ts'
export { correctionsBy, costsOf, predictors, type SizedPredictor, sizeId } from './stored-predictors.ts'
