export type { Journal } from './journal.ts'
export type { ZooLock } from './lock.ts'
export * from './manifest.ts'
export * from './zoo.ts'
