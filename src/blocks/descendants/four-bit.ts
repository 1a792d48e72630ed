import { descendantId } from '../../base/index.ts'
import {
  check,
  floatAttribute,
  freshNames,
  type Graph,
  int,
  intAttribute,
  ints,
  intsAttribute,
  isOp,
  type Model,
  type Node,
  node,
  removeDead,
  weightBytes,
  wiring,
} from '../../onnx/index.ts'
import { floats, type Tensor } from '../../tensor/index.ts'
import type { Descendant, Samples } from '../block.ts'
import { gatherPixels, Rows } from '../columns.ts'
import { FEWEST_ROWS, ROWS } from '../compensate.ts'
import { type FourBitWeights, fourBitWeights } from '../four-bit-weights.ts'
import { compensationFor } from '../integer-weights.ts'
import { outputAxis, readLayer } from '../layer-weights.ts'
import type { LinearAlgebra } from '../linear.ts'
import { nominalOf, record } from '../record.ts'
import { centre, pickPositions, rowCount } from '../reference.ts'
import { transpose } from '../refit.ts'

/** ONNX Runtime's own operators. */
const DOMAIN = 'com.microsoft'
/** Of the weights of a block; below that four bits save too little to be worth a descendant. */
const LEAST_SHARE = 0.2
/** Smaller layers save nothing that counts. */
const LEAST_WEIGHTS = { heads: 32_768, pointwise: 4096 }
/** Longer columns take too long to factor. */
const LONGEST_COLUMN = 2048
/** Where rows are fewer than moments need, as where a layer sees one position of each picture, errors are only made up for where that is sure to help. */
const FEW_ROWS_RIDGE = 1

/**
 * Which layers take their weights in 4 bits: `heads` have one position for each picture, so that most of their work is to read
 * weights, of which they hold a third to a half in many classifiers; `pointwise` are these and the 1×1 convolutions of maps, which
 * hold most of the others in mobile networks.
 */
export type FourBitLayers = 'heads' | 'pointwise'

/** What their descendants' names end in. */
export const FOUR_BIT_SUFFIX: Readonly<Record<FourBitLayers, string>> = { heads: '-w4', pointwise: '-w4p' }

/** Whether a block has such layers, and for `pointwise` others than heads. */
export function hasFourBitLayers(model: Model, which: FourBitLayers): boolean {
  const found = layersOf(model, which)
  return found.some(({ isHead }) => isHead === (which === 'heads'))
}

/**
 * A descendant with the weights of some layers in 4 bits, which ONNX Runtime multiplies as they are (MatMulNBits); what they read
 * and the layers before stay as they are. Their biases make up for the mean of what rounding changes.
 *
 * @returns undefined where these layers hold too little
 */
export async function inFourBits(
  from: Descendant,
  samples: Samples,
  algebra: LinearAlgebra,
  which: FourBitLayers,
): Promise<Descendant | undefined> {
  const layers = layersOf(from.model, which)
  const share = layers.reduce((sum, { bytes }) => sum + bytes, 0) / weightBytes(from.model)
  if (layers.length === 0 || share < LEAST_SHARE) return undefined
  let model = from.model
  for (const [layer, rows] of await rowsOf(from.model, layers, samples)) {
    const { inputs } = layer
    const means = centre(rows)
    const moments = await algebra.transposedProduct(rows.filled, rows.filled, rows.rows)
    const powers = Float64Array.from({ length: inputs }, (_, i) => moments[i * inputs + i]! + 1e-9)
    const ridge = rows.rows < FEWEST_ROWS * inputs ? FEW_ROWS_RIDGE : undefined
    const compensation = inputs <= LONGEST_COLUMN ? compensationFor(moments, inputs, ridge) : undefined
    const rounded = fourBitWeights(layer.weights, inputs, powers, compensation)
    const bias = Float32Array.from(layer.bias, (value, o) => {
      let missing = 0
      for (let i = o * inputs, j = 0; j < inputs; i++, j++)
        missing += (layer.weights[i]! - rounded.real[i]!) * means[j]!
      return value + missing
    })
    model = replaced(model, layer, rounded, bias)
  }
  return {
    ...from,
    id: descendantId(`${from.id}${FOUR_BIT_SUFFIX[which]}`),
    parameters: { ...from.parameters, fourBit: layers.map(({ node }) => node.outputs[0]!).join(' ') },
    model,
  }
}

interface Layer {
  readonly node: Node
  readonly isHead: boolean
  readonly inputs: number
  /** `[outputs, inputs]` */
  readonly weights: Float32Array
  readonly bias: Float32Array
  /** of the weights as they are stored */
  readonly bytes: number
}

function layersOf({ graph }: Model, which: FourBitLayers): Layer[] {
  return graph.nodes.flatMap((each): Layer[] => {
    const isHead = isHeadLayer(graph, each)
    if (!isHead && (which === 'heads' || !isOp(each, 'Conv') || intAttribute(each, 'group', 1) !== 1)) return []
    const known = readLayer(graph, each)
    if (!known || known.weights.data.length < LEAST_WEIGHTS[isHead ? 'heads' : 'pointwise']) return []
    if (!isHead && !isPointwise(each, known.weights.dims)) return []
    const outputs = known.bias.length
    const inputs = known.weights.data.length / outputs
    const { data } = known.weights
    const weights = outputAxis(each) === 0 ? data : transpose(data, inputs, outputs)
    const bytes = data.length * (known.stored === 'float' ? 4 : 1)
    return [{ node: each, isHead, inputs, weights, bias: known.bias, bytes }]
  })
}

/** Whether each position of a convolution's output is made of the same position of its input, and of no other. */
function isPointwise(conv: Node, [, , ...kernel]: readonly number[]): boolean {
  const is = (name: string, value: number) => (intsAttribute(conv, name) ?? []).every((each) => each === value)
  return kernel.length === 2 && kernel.every((size) => size === 1) && is('strides', 1) && is('pads', 0)
}

function isHeadLayer(graph: Graph, layer: Node): boolean {
  if (isOp(layer, 'Gemm')) {
    const isPlain = floatAttribute(layer, 'alpha', 1) === 1 && floatAttribute(layer, 'beta', 1) === 1
    return isPlain && intAttribute(layer, 'transA', 0) === 0
  }
  if (!isOp(layer, 'Conv') || intAttribute(layer, 'group', 1) !== 1) return false
  const { producer } = wiring(graph)
  let value = layer.inputs[0]!
  for (;;) {
    const index = producer.get(value)
    if (index === undefined) return false
    const maker = graph.nodes[index]!
    if (isOp(maker, 'GlobalAveragePool')) return true
    if (!isOp(maker, 'QuantizeLinear', 'DequantizeLinear')) return false
    value = maker.inputs[0]!
  }
}

/** What layers read, at some positions of each picture. */
async function rowsOf(model: Model, layers: readonly Layer[], samples: Samples): Promise<ReadonlyMap<Layer, Rows>> {
  const pictures = samples.length
  const shapes = await nominalOf(model, samples[0]!)
  const looked = layers.map((layer) => {
    const { inputs, node } = layer
    const [input = '', output = ''] = [node.inputs[0], node.outputs[0]]
    const plane = (shapes.get(input) ?? []).slice(2).reduce((product, size) => product * size, 1)
    const positions = pickPositions({ output, plane, columns: inputs, width: inputs, pictures }, ROWS)
    return { layer, input, positions, rows: new Rows(rowCount(positions), inputs) }
  })
  await record(
    model,
    samples,
    looked.map(({ input }) => input),
    (values, index) => {
      for (const { input, positions, rows } of looked) gatherPixels(rows, values[input]!, positions[index]!)
    },
  )
  return new Map(looked.map(({ layer, rows }) => [layer, rows]))
}

/** The model with MatMulNBits for a layer: A, B, scales, no zero points, no order of groups, bias. */
function replaced(
  model: Model,
  { node: layer, isHead, inputs: width }: Layer,
  { stored, scales }: FourBitWeights,
  bias: Float32Array,
): Model {
  const { graph } = model
  const fresh = freshNames(graph)
  const initializers = new Map(graph.initializers)
  const output = layer.outputs[0]!
  const put = (what: string, value: Tensor): string => {
    const name = fresh(`${output}/${what}`)
    initializers.set(name, value)
    return name
  }
  const inputs = [put('weights/u4', stored), put('scales', scales), '', '', put('bias', floats([bias.length], bias))]
  const isConv = isOp(layer, 'Conv')
  const input = isConv ? fresh(`${output}/flat`) : layer.inputs[0]!
  const product = isConv ? fresh(`${output}/product`) : output
  const attributes = { K: int(width), N: int(bias.length), bits: int(4), block_size: int(2 * stored.dims[2]!) }
  const nodes: Node[] = [node('MatMulNBits', [input, ...inputs], [product], attributes, DOMAIN)]
  if (isConv && isHead) {
    nodes.unshift(node('Flatten', [layer.inputs[0]!], [input], { axis: int(1) }))
    const axes = put('axes', { type: 'int64', dims: [2], data: BigInt64Array.of(2n, 3n) })
    nodes.push(node('Unsqueeze', [product, axes], [output]))
  } else if (isConv) {
    // channels last, as 8-bit convolutions are computed too: between them ONNX Runtime drops both
    nodes.unshift(node('Transpose', [layer.inputs[0]!], [input], { perm: ints([0, 2, 3, 1]) }))
    nodes.push(node('Transpose', [product], [output], { perm: ints([0, 3, 1, 2]) }))
  }
  const all = graph.nodes.flatMap((each) => (each === layer ? nodes : [each]))
  return check({
    ...model,
    opsets: new Map([...model.opsets, [DOMAIN, 1]]),
    graph: removeDead({ ...graph, nodes: all, initializers, facts: new Map() }),
  })
}
