import { byteLength, elementCount } from '../tensor/index.ts'
import { type Graph, intAttribute, type Model, type Node } from './graph.ts'

type Shapes = ReadonlyMap<string, readonly number[]>

/**
 * Multiply–accumulate operations of a model for one picture.
 *
 * Channels are counted from the weights and only positions from `nominal`, so that the recorded shapes of a block hold for
 * its pruned descendants too, as long as values keep their names.
 */
export const macs = (model: Model, nominal: Shapes): number =>
  [...macsByNode(model, nominal).values()].reduce((sum, count) => sum + count, 0)

/** Multiply–accumulate operations by node name; nodes that multiply nothing have no entry. */
export function macsByNode(model: Model, nominal: Shapes): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  const shapeOf = shapes(model.graph, nominal)
  for (const node of model.graph.nodes) {
    const count = macsOf(node, shapeOf)
    if (count > 0) counts.set(node.name, count)
  }
  return counts
}

/** Bytes of the weights inside a model, as they are stored. */
export const weightBytes = (model: Model): number =>
  [...model.graph.initializers.values()].reduce((sum, value) => sum + byteLength(value), 0)

/**
 * Shapes of values. Weights that are stored quantised have the shape of what DequantizeLinear reads; a value that is rounded to a
 * border value, which keeps its name, has the shape of that; the product of weights in 4 bits holds as many elements as what it is
 * turned into.
 */
function shapes(graph: Graph, nominal: Shapes): (value: string | undefined) => readonly number[] | undefined {
  const dequantised = new Map<string, string>()
  const raws = new Map<string, string>()
  const rounded = new Map<string, string>()
  const products = new Set<string>()
  const turned = new Map<string, string>()
  for (const { op, inputs, outputs } of graph.nodes) {
    if (op === 'MatMulNBits') products.add(outputs[0]!)
    if (products.has(inputs[0]!)) turned.set(inputs[0]!, outputs[0]!)
    if (op === 'QuantizeLinear') raws.set(outputs[0]!, inputs[0]!)
    if (op !== 'DequantizeLinear') continue
    const raw = raws.get(inputs[0]!)
    if (raw !== undefined) rounded.set(raw, outputs[0]!)
    if (graph.initializers.has(inputs[0]!)) dequantised.set(outputs[0]!, inputs[0]!)
  }
  return (value) => {
    if (value === undefined) return undefined
    const stored = graph.initializers.get(value) ?? graph.initializers.get(dequantised.get(value) ?? '')
    if (stored) return stored.dims
    const known = nominal.has(value) ? value : (turned.get(value) ?? value)
    return nominal.get(known) ?? nominal.get(rounded.get(known) ?? '')
  }
}

function macsOf(node: Node, shapeOf: (value: string | undefined) => readonly number[] | undefined): number {
  const weight = (index: number) => shapeOf(node.inputs[index])
  const output = shapeOf(node.outputs[0])
  switch (node.op) {
    case 'Conv':
    case 'FusedConv':
    case 'ConvInteger':
    case 'QLinearConv': {
      const kernel = weight(node.op === 'QLinearConv' ? 3 : 1)
      return kernel && output ? (output[0] ?? 1) * elementCount(output.slice(2)) * elementCount(kernel) : 0
    }
    case 'ConvTranspose': {
      const kernel = weight(1)
      const input = weight(0)
      return kernel && input ? (input[0] ?? 1) * elementCount(input.slice(2)) * elementCount(kernel) : 0
    }
    case 'Gemm': {
      const kernel = weight(1)
      return kernel && output ? (output[0] ?? 1) * elementCount(kernel) : 0
    }
    case 'MatMul':
    case 'MatMulInteger':
    case 'QLinearMatMul': {
      const left = weight(0)
      const right = weight(node.op === 'QLinearMatMul' ? 3 : 1)
      if (!left || !right || !output) return 0
      if (right.length === 2) return elementCount(output.slice(0, -1)) * elementCount(right)
      return elementCount(output) * (left[left.length - 1] ?? 1)
    }
    case 'MatMulNBits':
      return elementCount(output ?? [intAttribute(node, 'N', 0)]) * intAttribute(node, 'K', 0)
    default:
      return 0
  }
}
