import type { Manifest } from '../zoo/index.ts'
import type { ModelSummary } from './types.ts'

export function summaryOf(manifest: Manifest, loaded: boolean): ModelSummary {
  const { card, sizes, inputs, outputs } = manifest
  const blocks = manifest.blocks.map(({ id, descendants }) => ({
    id,
    descendants: descendants.map(({ id: name, kind, file }) => ({ id: name, kind, bytes: file.bytes })),
  }))
  return {
    model: manifest.model,
    task: card.task,
    loaded,
    sizes,
    inputs,
    outputs,
    blocks,
    options: blocks.reduce((product, { descendants }) => product * descendants.length, 1),
    labels: labelsOf(card),
  }
}

function labelsOf({ output }: Manifest['card']): readonly string[] | undefined {
  return 'labels' in output && Array.isArray(output.labels) ? output.labels : undefined
}
