export * from './engine.ts'
export { type PortFact, sharedNow } from './messages.ts'
export { openParking, type Parking, parkOn } from './parking.ts'
export * from './session.ts'
