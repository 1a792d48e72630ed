export * from './manifest.ts'
export * from './zoo.ts'
