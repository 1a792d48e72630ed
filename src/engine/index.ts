export * from './engine.ts'
export { type PortFact, sharedNow } from './messages.ts'
export * from './session.ts'
