export * from './picture.ts'
export * from './placement.ts'
export * from './tensor.ts'
