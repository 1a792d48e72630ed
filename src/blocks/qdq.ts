import { check, freshNames, type Graph, int, isOp, type Model, type Node, node, removeDead } from '../onnx/index.ts'
import { floats, isFloat, type Tensor } from '../tensor/index.ts'
import { type IntegerSums, type IntegerWeights, integerWeights } from './integer-weights.ts'
import { outputAxis } from './layer-weights.ts'
import { quantiseBias } from './quantised.ts'
import type { QuantisationRange } from './ranges.ts'

const scalar = (type: 'float32' | 'uint8', value: number): Tensor =>
  type === 'float32' ? { type, dims: [], data: Float32Array.of(value) } : { type, dims: [], data: Uint8Array.of(value) }

export interface QdqPlan {
  /** the nodes that are to run in 8 bits */
  readonly chosen: ReadonlySet<Node>
  /** the values that get a pair, with their ranges */
  readonly ranges: ReadonlyMap<string, QuantisationRange>
  /** added to the biases, by a layer's first output */
  readonly corrections: ReadonlyMap<string, Float32Array>
  readonly sums: IntegerSums
  /** weights that are rounded already, by a layer's first output; the others are rounded each by itself */
  readonly rounded?: ReadonlyMap<string, IntegerWeights> | undefined
}

/** Layers with weights; they are why one quantises. */
export const isWeighted = (each: Node, graph: Graph): boolean =>
  isOp(each, 'Conv', 'Gemm', 'MatMul') &&
  isFloat(graph.initializers.get(each.inputs[1] ?? '') ?? { type: 'bool', dims: [], data: new Uint8Array() })

/** The axis of a layer's weights that has a scale for each of its places: that of the outputs, the last one of a stack of matrices. */
export const scaleAxis = (layer: Node, { dims }: Tensor): number => (outputAxis(layer) === 0 ? 0 : dims.length - 1)

/** The model with a QuantizeLinear/DequantizeLinear pair on each value of the plan, and 8-bit weights. */
export function insertPairs(model: Model, { chosen, ranges, corrections, sums, rounded: known }: QdqPlan): Model {
  const values = ranges
  const integers = (layer: Node, weights: Tensor<'float32'>): IntegerWeights =>
    known?.get(layer.outputs[0]!) ?? integerWeights(weights, { axis: scaleAxis(layer, weights), sums })
  const { graph } = model
  const fresh = freshNames(graph)
  const initializers = new Map(graph.initializers)
  const constant = (wish: string, value: Tensor) => {
    const name = fresh(wish)
    initializers.set(name, value)
    return name
  }
  const outputs = new Set(graph.outputs.map((output) => output.name))
  const rounded = new Map<string, string>()
  const nodes: Node[] = []
  /** Rounds a value; `raw` is its name before rounding. A border value keeps its own name behind the pair. */
  const pair = (value: string, maker?: Node) => {
    const range = ranges.get(value)
    if (!range) return
    let raw = outputs.has(value) ? rawName(value) : value
    if (maker && isOp(maker, 'MaxPool') && !chosen.has(maker)) {
      const clipped = fresh(`${value}/clipped`)
      nodes.push(node('Clip', [raw, ...insideOf(range).map((limit) => constant(`${value}/limit`, limit))], [clipped]))
      raw = clipped
    }
    const behind = outputs.has(value) ? value : fresh(`${value}/rounded`)
    const stored = fresh(`${value}/u8`)
    const scale = constant(`${value}/scale`, scalar('float32', range.scale))
    const zero = constant(`${value}/zero`, scalar('uint8', range.zeroPoint))
    nodes.push(
      node('QuantizeLinear', [raw, scale, zero], [stored]),
      // Not named for its output: a layer that wrote a border value keeps that name.
      { ...node('DequantizeLinear', [stored, scale, zero], [behind]), name: `${stored}/dequantized` },
    )
    rounded.set(value, behind)
  }
  const raws = new Map<string, string>()
  const rawName = (value: string) => {
    const known = raws.get(value)
    if (known) return known
    const name = fresh(`${value}/raw`)
    raws.set(value, name)
    return name
  }
  const read = (value: string) => rounded.get(value) ?? value

  for (const input of graph.inputs) if (values.has(input.name)) pair(input.name)
  for (const each of graph.nodes) {
    const inputs = each.inputs.map((input) => (input === '' ? '' : read(input)))
    const written = each.outputs.map((output) =>
      output !== '' && outputs.has(output) && ranges.has(output) ? rawName(output) : output,
    )
    if (chosen.has(each) && isWeighted(each, graph)) {
      const range = ranges.get(each.inputs[0]!)
      const layer = range
        ? quantisedLayer(each, graph, range, corrections.get(each.outputs[0]!), integers, constant, fresh)
        : undefined
      if (layer) {
        nodes.push(...layer.before, {
          ...each,
          ...layer.layer,
          inputs: [inputs[0]!, ...layer.inputs],
          outputs: written,
        })
      } else nodes.push({ ...each, inputs, outputs: written })
    } else nodes.push({ ...each, inputs, outputs: written })
    for (const output of each.outputs) if (values.has(output)) pair(output, each)
  }
  return check({ ...model, graph: removeDead({ ...graph, nodes, initializers, facts: new Map() }) })
}

/**
 * The limits of a range, a little inside: what is clipped at them is rounded to the same.
 *
 * ONNX Runtime moves a QuantizeLinear from behind a MaxPool to before it, where 8-bit pooling of what a float layer gives takes up to
 * twenty times as long; and it drops a Clip that it sees is for nothing. This one it keeps, and the two stay apart.
 */
const insideOf = ({ scale, zeroPoint }: QuantisationRange): [Tensor, Tensor] => [
  scalar('float32', (0.4 - zeroPoint) * scale),
  scalar('float32', (254.6 - zeroPoint) * scale),
]

/** The dequantised 8-bit weights and 32-bit bias of a layer, in the form that the integer kernels are recognised by. */
function quantisedLayer(
  each: Node,
  graph: Graph,
  input: QuantisationRange,
  correction: Float32Array | undefined,
  integers: (layer: Node, weights: Tensor<'float32'>) => IntegerWeights,
  constant: (wish: string, value: Tensor) => string,
  fresh: (wish: string) => string,
): { before: Node[]; inputs: string[]; layer: Partial<Node> } | undefined {
  const weights = graph.initializers.get(each.inputs[1]!)!
  if (!isFloat(weights)) return undefined
  const axis = scaleAxis(each, weights)
  const output = each.outputs[0]!
  const { stored, scales } = integers(each, weights)
  const before: Node[] = []
  const dequantised = fresh(`${output}/weights`)
  const scaleName = constant(`${output}/weights/scale`, floats([scales.length], scales))
  const zeroName = constant(`${output}/weights/zero`, {
    type: 'int8',
    dims: [scales.length],
    data: new Int8Array(scales.length),
  })
  const storedName = constant(`${output}/weights/s8`, stored)
  before.push(node('DequantizeLinear', [storedName, scaleName, zeroName], [dequantised], { axis: int(axis) }))

  const oldBias = graph.initializers.get(each.inputs[2] ?? '')
  if (isOp(each, 'MatMul') || (!oldBias && !correction)) return { before, inputs: [dequantised], layer: {} }
  if (oldBias && !isFloat(oldBias)) return undefined
  const wanted = Float32Array.from(
    scales,
    (_, c) => (oldBias ? oldBias.data[oldBias.data.length === 1 ? 0 : c]! : 0) + (correction?.[c] ?? 0),
  )
  const bias = quantiseBias(wanted, input.scale, scales)
  const biasName = fresh(`${output}/bias`)
  before.push(
    node(
      'DequantizeLinear',
      [constant(`${output}/bias/s32`, bias.stored), constant(`${output}/bias/scale`, bias.scales)],
      [biasName],
      { axis: int(0) },
    ),
  )
  return { before, inputs: [dequantised, biasName], layer: {} }
}
