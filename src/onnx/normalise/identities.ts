import type { TensorType } from '../../tensor/index.ts'
import { dataTypes } from '../format.ts'
import { type Graph, isOp, type Node, wiring } from '../graph.ts'
import { readingInstead, replaceValues } from '../rewrite.ts'

/**
 * Removes nodes that hand their input on unchanged: Identity, Dropout outside training, Cast to the type that is there,
 * Transpose, Concat, Sum and the like of one.
 *
 * @param typeOf the element type of a value, where known
 */
export function dropIdentities(graph: Graph, typeOf: (value: string) => TensorType | undefined): Graph {
  let current = graph
  // The last of a chain that ends in a graph output can only go after those before it: repeat until nothing changes.
  for (;;) {
    const next = dropOnce(current, typeOf)
    if (next.nodes.length === current.nodes.length) return next
    current = next
  }
}

function dropOnce(graph: Graph, typeOf: (value: string) => TensorType | undefined): Graph {
  const { producer, consumers } = wiring(graph)
  const ends = new Set(graph.outputs.map(({ name }) => name))
  const replacements = new Map<string, string>()
  const renamed = new Map<string, string>()
  const nodes = graph.nodes.filter((node) => {
    const [from, to] = [node.inputs[0]!, node.outputs[0]!]
    if (!isNoOp(node, typeOf) || node.outputs.slice(1).some((extra) => isUsed(extra, consumers, ends))) return true
    if (!ends.has(to)) {
      replacements.set(to, from)
      return false
    }
    // A graph output keeps its name: whatever makes the input makes the output instead, if that is a node.
    if (!producer.has(from) || ends.has(from) || renamed.has(from) || replacements.has(from)) return true
    renamed.set(from, to)
    return false
  })
  const output = (value: string) => renamed.get(value) ?? value
  const replaced = replaceValues({ ...graph, nodes }, replacements)
  if (renamed.size === 0) return replaced
  return {
    ...replaced,
    nodes: replaced.nodes.map((node) => ({ ...readingInstead(node, output), outputs: node.outputs.map(output) })),
  }
}

const isUsed = (value: string, consumers: ReadonlyMap<string, unknown>, ends: ReadonlySet<string>): boolean =>
  value !== '' && (consumers.has(value) || ends.has(value))

function isNoOp(node: Node, typeOf: (value: string) => TensorType | undefined): boolean {
  // Without a `training_mode` input, and in every version before 12, Dropout of an inference graph does nothing.
  if (isOp(node, 'Identity')) return true
  if (isOp(node, 'Dropout')) return (node.inputs[2] ?? '') === ''
  if (isOp(node, 'Cast')) {
    const type = typeOf(node.inputs[0]!)
    return type !== undefined && node.attributes.to?.kind === 'int' && dataTypes[type] === node.attributes.to.value
  }
  if (isOp(node, 'Concat', 'Sum', 'Max', 'Min', 'Mean')) return node.inputs.length === 1
  if (isOp(node, 'Transpose')) {
    const { perm } = node.attributes
    return perm?.kind === 'ints' && perm.value.every((axis, index) => axis === index)
  }
  return false
}
