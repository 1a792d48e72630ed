export * from './device.ts'
export {
  type Costs,
  type Effort,
  type MeasureJob,
  type MeasureOptions,
  measureDescendants,
  measureWholes,
} from './measure.ts'
export * from './predict.ts'
export * from './rows.ts'
export * from './store.ts'
