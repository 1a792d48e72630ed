export * from './engine.ts'
export { type PortFact, type Streaming, sharedNow } from './messages.ts'
export { openParking, type Parking, parkOn } from './parking.ts'
export * from './session.ts'
