import { type Graph, isOp, valuesRead } from '../graph.ts'

const RANDOM = new Set([
  'RandomNormal',
  'RandomUniform',
  'RandomNormalLike',
  'RandomUniformLike',
  'Multinomial',
  'Bernoulli',
])

/** Values that depend on the shapes of the inputs at most, never on their contents. */
export function shapeOnlyValues(graph: Graph): ReadonlySet<string> {
  const bySize = new Set(graph.initializers.keys())
  const found = new Set<string>()
  for (const node of graph.nodes) {
    const known =
      !RANDOM.has(node.op) && (isOp(node, 'Shape', 'Size') || valuesRead(node).every((value) => bySize.has(value)))
    // DequantizeLinear of a weight: stays, or the weight would be stored as floats.
    if (!known || node.op === 'DequantizeLinear') continue
    for (const output of node.outputs) {
      bySize.add(output)
      found.add(output)
    }
  }
  found.delete('')
  return found
}
