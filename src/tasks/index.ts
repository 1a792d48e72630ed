export * from './card.ts'
export * from './decoders.ts'
export * from './task.ts'
export * from './task-name.ts'
