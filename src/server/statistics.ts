import type { ModelStatistics, Runtime, Tally } from '../runtime/index.ts'

const none: Tally = { count: 0, ns: 0 }

/** Of a model that was not asked anything yet. */
export const unused = (model: string): ModelStatistics => ({
  model,
  lastInference: 0,
  inferenceCount: 0,
  executionCount: 0,
  success: none,
  fail: none,
  queue: none,
  input: none,
  infer: none,
  output: none,
  queueLength: 0,
})

/** Of every model that was asked something or waits for it: a counter that first appears with a 1 looks like no increase. */
export function statisticsOf(runtime: Pick<Runtime, 'statistics' | 'live'>): readonly ModelStatistics[] {
  const { models } = runtime.statistics()
  const known = new Set(models.map(({ model }) => model))
  const idle = runtime.live().models.filter(({ model }) => !known.has(model))
  return [...models, ...idle.map(({ model }) => unused(model))]
}
