export * from './graph.ts'
export { readModel } from './read.ts'
export { writeModel } from './write.ts'
