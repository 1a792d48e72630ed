import { type Graph, isOp, type Model, type Node, node } from '../onnx/index.ts'
import { floats, isFloat, type Tensor } from '../tensor/index.ts'
import { fourBitsOf } from './four-bit-weights.ts'
import { dequantised, outputAxis, readLayer, writeLayer } from './layer-weights.ts'

/**
 * The same network in float, for training: 8-bit weights as the numbers that they stand for, and in the place of rounding the
 * limits of what 8 bits can hold. Names of values stay. Weights in 4 bits are no parameters: they stay as they are.
 */
export function shadowOf(model: Model): Model {
  const { graph } = model
  const initializers = new Map(graph.initializers)
  const nodes = graph.nodes.flatMap((each): Node[] => {
    const [input = '', scaleName = '', zeroName = ''] = each.inputs
    const output = each.outputs[0]!
    if (isOp(each, 'DequantizeLinear')) {
      if (!graph.initializers.has(input)) return [{ ...each, op: 'Identity', inputs: [input], attributes: {} }]
      const readers = graph.nodes.filter((reader) => reader.inputs.includes(output))
      const isWeight = readers.some((reader) => reader.inputs[1] === output)
      const value = dequantised(graph, each, isWeight ? outputAxis(readers[0]!) : 0)
      if (!value) return [each]
      initializers.set(output, value)
      return []
    }
    if (each.op === 'MatMulNBits') {
      const weights = fourBitsOf(graph, each)
      if (!weights) return [each]
      const names = [`${output}/weights`, `${output}/fixed`] as const
      initializers.set(names[0], weights)
      const bias = each.inputs[5] ?? ''
      const product = bias === '' ? output : `${output}/product`
      // behind an operator they are no constants of a layer, which training would change
      return [
        node('Identity', [names[0]], [names[1]]),
        node('MatMul', [input, names[1]], [product]),
        ...(bias === '' ? [] : [node('Add', [product, bias], [output])]),
      ]
    }
    if (!isOp(each, 'QuantizeLinear')) return [each]
    const limits = limitsOf(graph, scaleName, zeroName)
    if (!limits) return [each]
    const names = limits.map((limit, i) => {
      const name = `${output}/${i === 0 ? 'least' : 'most'}`
      initializers.set(name, floats([], [limit]))
      return name
    })
    return [{ ...node('Clip', [input, ...names], [output]), name: each.name }]
  })
  const read = new Set(nodes.flatMap((each) => each.inputs))
  for (const name of initializers.keys()) if (!read.has(name)) initializers.delete(name)
  return { ...model, graph: { ...graph, nodes, initializers, facts: new Map() } }
}

/** The least and the greatest number that a quantised value can be. */
function limitsOf(graph: Graph, scaleName: string, zeroName: string): [number, number] | undefined {
  const scale = graph.initializers.get(scaleName)
  const zero = graph.initializers.get(zeroName)
  if (!scale || !isFloat(scale) || scale.data.length !== 1 || zero?.type !== 'uint8') return undefined
  const point = Number(zero.data[0])
  return [-point * scale.data[0]!, (255 - point) * scale.data[0]!]
}

/** The weights and biases of a network's layers, by the names that they have in its shadow. */
export function layerParameters({ graph }: Model): string[] {
  const names = graph.nodes.flatMap((layer) => {
    const own = readLayer(graph, layer)
    return own ? layer.inputs.slice(1).filter((name) => name !== '') : []
  })
  return [...new Set(names)]
}

/** The network with the weights and biases that its shadow was given by training, in the form in which it stores them. */
export function withShadowWeights(model: Model, trained: ReadonlyMap<string, Tensor>): Model {
  let result = model
  for (const { outputs } of model.graph.nodes) {
    const layer = result.graph.nodes.find((each) => each.outputs[0] === outputs[0])!
    const own = readLayer(result.graph, layer)
    if (!own) continue
    const weights = trained.get(layer.inputs[1]!)
    const bias = trained.get(layer.inputs[2] ?? '')
    if (!weights || !isFloat(weights)) continue
    const same =
      sameNumbers(weights.data, own.weights.data) && (!bias || sameNumbers(bias.data as Float32Array, own.bias))
    if (same) continue
    const given =
      bias && isFloat(bias)
        ? Float32Array.from(own.bias, (_, c) => bias.data[bias.data.length === 1 ? 0 : c]!)
        : own.bias
    result = writeLayer(result, layer, weights, given)
  }
  return result
}

const sameNumbers = (a: Float32Array, b: Float32Array): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i])
