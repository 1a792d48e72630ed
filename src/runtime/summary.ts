import type { Manifest } from '../zoo/index.ts'
import type { ModelSummary } from './types.ts'

/** @param reason why the model cannot answer although it is asked for */
export function summaryOf(manifest: Manifest, loaded: boolean, reason?: string): ModelSummary {
  const { card, sizes, inputs, outputs } = manifest
  const blocks = manifest.blocks.map(({ id, descendants }) => ({
    id,
    descendants: descendants.map(({ id: name, kind, file }) => ({ id: name, kind, bytes: file.bytes })),
  }))
  return {
    model: manifest.model,
    task: card.task,
    loaded,
    reason,
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
