import { freshNames, type Graph, int, intAttribute, isOp, type Model, type Node, node, wiring } from '../onnx/index.ts'
import { floats, isFloat, type Tensor } from '../tensor/index.ts'
import { type IntegerSums, integerWeights } from './integer-weights.ts'
import { quantiseBias } from './quantised.ts'

/** The numbers of a layer, whether they are stored in float or in 8 bits. */
export interface LayerWeights {
  readonly stored: 'float' | 'int8'
  /** as the graph has them: Conv `[O, I/group, kh, kw]`, Gemm and MatMul as their attributes say */
  readonly weights: Tensor<'float32'>
  /** `[O]` */
  readonly bias: Float32Array
}

/** The axis of a layer's weights that counts its outputs. */
export const outputAxis = (layer: Node): 0 | 1 =>
  isOp(layer, 'Conv') || intAttribute(layer, 'transB', 0) === 1 ? 0 : 1

/** @returns undefined where the node is no layer, or its weights are no constants of a form that we write */
export function readLayer(graph: Graph, layer: Node): LayerWeights | undefined {
  if (!isOp(layer, 'Conv', 'Gemm', 'MatMul')) return undefined
  const makers = wiring(graph).producer
  const maker = (value: string): Node | undefined => {
    const index = makers.get(value)
    return index === undefined ? undefined : graph.nodes[index]
  }
  const weights = constant(graph, layer.inputs[1] ?? '', outputAxis(layer), maker)
  if (!weights || weights.tensor.dims.length < 2) return undefined
  const outputs = weights.tensor.dims[outputAxis(layer)]!
  const given = layer.inputs[2] ? constant(graph, layer.inputs[2], 0, maker) : undefined
  if (layer.inputs[2] && !given) return undefined
  const bias = new Float32Array(outputs)
  if (given) {
    const { data } = given.tensor
    if (data.length !== 1 && data.length !== outputs) return undefined
    for (let c = 0; c < outputs; c++) bias[c] = data.length === 1 ? data[0]! : data[c]!
  }
  return { stored: weights.stored, weights: weights.tensor, bias }
}

function constant(
  graph: Graph,
  value: string,
  axis: number,
  maker: (value: string) => Node | undefined,
): { stored: 'float' | 'int8'; tensor: Tensor<'float32'> } | undefined {
  const known = graph.initializers.get(value)
  if (known) return isFloat(known) ? { stored: 'float', tensor: known } : undefined
  const from = maker(value)
  const tensor = from && isOp(from, 'DequantizeLinear') ? dequantised(graph, from, axis) : undefined
  return tensor && { stored: 'int8', tensor }
}

/** The real values of a DequantizeLinear of a constant. */
export function dequantised(graph: Graph, from: Node, axis: number): Tensor<'float32'> | undefined {
  const [stored, scale, zero] = from.inputs.map((name) => graph.initializers.get(name))
  if (!stored || !scale || !isFloat(scale)) return undefined
  if (stored.type !== 'int8' && stored.type !== 'int32' && stored.type !== 'uint8') return undefined
  const channels = stored.dims[axis] ?? 1
  const inner = stored.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const data = new Float32Array(stored.data.length)
  for (let i = 0; i < data.length; i++) {
    const c = Math.floor(i / inner) % channels
    const offset = zero ? Number(zero.data[zero.data.length === 1 ? 0 : c]) : 0
    data[i] = (Number(stored.data[i]) - offset) * scale.data[scale.data.length === 1 ? 0 : c]!
  }
  return floats(stored.dims, data)
}

/**
 * Puts other numbers into a layer in the form in which it stores them: 8-bit weights get new scales, and a 32-bit bias the scale
 * that follows from them.
 *
 * @param sums how the CPU adds the products of 8-bit layers; what is safe on every CPU unless given
 */
export function writeLayer(
  model: Model,
  layer: Node,
  weights: Tensor<'float32'>,
  bias: Float32Array,
  sums: IntegerSums = 'pairs',
): Model {
  const { graph } = model
  const before = readLayer(graph, layer)
  if (!before) return model
  const initializers = new Map(graph.initializers)
  const fresh = freshNames(graph)
  const put = (wish: string, value: Tensor): string => {
    const name = fresh(wish)
    initializers.set(name, value)
    return name
  }
  const output = layer.outputs[0]!
  const extra: Node[] = []
  const inputs = [layer.inputs[0]!]
  if (before.stored === 'float') {
    inputs.push(put(`${output}/weights`, weights), put(`${output}/bias`, floats([bias.length], bias)))
  } else {
    const axis = outputAxis(layer)
    const { stored, scales } = integerWeights(weights, { axis, sums })
    const zero: Tensor = { type: 'int8', dims: [scales.length], data: new Int8Array(scales.length) }
    const names = [
      put(`${output}/weights/s8`, stored),
      put(`${output}/weights/scale`, floats([scales.length], scales)),
      put(`${output}/weights/zero`, zero),
    ]
    inputs.push(fresh(`${output}/weights`))
    extra.push(node('DequantizeLinear', names, [inputs[1]!], { axis: int(axis) }))
    const inputScale = scaleOf(graph, layer.inputs[0]!)
    // A MatMul has no bias; an 8-bit layer whose input is not quantised could not be one.
    if (!isOp(layer, 'MatMul') && inputScale !== undefined) {
      const { stored: s32, scales: biasScales } = quantiseBias(bias, inputScale, scales)
      inputs.push(fresh(`${output}/bias`))
      const biasNames = [put(`${output}/bias/s32`, s32), put(`${output}/bias/scale`, biasScales)]
      extra.push(node('DequantizeLinear', biasNames, [inputs[2]!], { axis: int(0) }))
    }
  }
  const changed: Node =
    before.stored === 'float' && isOp(layer, 'MatMul') ? { ...layer, op: 'Gemm', inputs } : { ...layer, inputs }
  const nodes = graph.nodes.flatMap((each) => (each === layer ? [...extra, changed] : [each]))
  return withoutUnread({ ...model, graph: { ...graph, nodes, initializers } })
}

/** The scale of an 8-bit value that a layer reads. */
function scaleOf(graph: Graph, value: string): number | undefined {
  const index = wiring(graph).producer.get(value)
  const from = index === undefined ? undefined : graph.nodes[index]
  const scale = from && isOp(from, 'DequantizeLinear') ? graph.initializers.get(from.inputs[1] ?? '') : undefined
  return scale && isFloat(scale) ? scale.data[0] : undefined
}

/** Without the constants, and the nodes that unpack them, that nothing reads any more. */
function withoutUnread(model: Model): Model {
  const { graph } = model
  const ends = new Set(graph.outputs.map(({ name }) => name))
  const first = new Set(graph.nodes.flatMap((each) => each.inputs))
  const nodes = graph.nodes.filter(
    (each) => !isOp(each, 'DequantizeLinear') || each.outputs.some((output) => first.has(output) || ends.has(output)),
  )
  const read = new Set(nodes.flatMap((each) => each.inputs))
  const initializers = new Map([...graph.initializers].filter(([name]) => read.has(name) || ends.has(name)))
  return { ...model, graph: { ...graph, nodes, initializers } }
}
