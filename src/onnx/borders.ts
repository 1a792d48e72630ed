import { bytesPerElement, elementCount, type TensorType } from '../tensor/index.ts'
import type { Border } from './cut.ts'
import { type Graph, valuesRead } from './graph.ts'
import type { Normalised } from './normalised.ts'
import { factOf } from './rewrite.ts'

/**
 * Every place between two nodes, in order, with the values that cross it.
 *
 *     borders(normalised)[0] // → { position: 1, values: ['conv1'], bytes: 1605632 }
 */
export function borders({ model, nominal }: Pick<Normalised, 'model' | 'nominal'>): Border[] {
  const { graph } = model
  const lastRead = new Map<string, number>()
  graph.nodes.forEach((node, index) => {
    for (const value of valuesRead(node)) lastRead.set(value, index)
  })
  const live = new Map<string, number>()
  const found: Border[] = []
  graph.nodes.forEach((node, index) => {
    for (const value of live.keys()) if ((lastRead.get(value) ?? -1) <= index) live.delete(value)
    for (const output of node.outputs) {
      if ((lastRead.get(output) ?? -1) > index) live.set(output, bytesOf(graph, nominal, output))
    }
    if (index + 1 === graph.nodes.length) return
    const bytes = [...live.values()].reduce((sum, size) => sum + size, 0)
    found.push({ position: index + 1, values: [...live.keys()], bytes })
  })
  return found
}

function bytesOf(graph: Graph, nominal: ReadonlyMap<string, readonly number[]>, value: string): number {
  const type: TensorType = factOf(graph, value)?.type ?? 'float32'
  return elementCount(nominal.get(value) ?? []) * (type === 'string' ? 1 : bytesPerElement(type))
}
