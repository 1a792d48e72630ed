import { type ModelCard, readCard } from '../../src/tasks/index.ts'

/** A small valid card with some fields replaced. */
export const card = (change: Record<string, unknown> = {}): ModelCard => readCard(json(change))

export const json = (change: Record<string, unknown> = {}): Record<string, unknown> => ({
  id: 'sample',
  task: 'classification',
  file: 'model.onnx',
  input: { name: 'input', size: [32, 32] },
  output: { decoder: 'softmax', labels: ['cat', 'dog', 'cow'] },
  ...change,
})
