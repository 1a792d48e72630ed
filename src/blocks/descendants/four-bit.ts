import { descendantId } from '../../base/index.ts'
import {
  check,
  floatAttribute,
  freshNames,
  type Graph,
  int,
  intAttribute,
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
import { Rows } from '../columns.ts'
import { fourBitWeights, GROUP } from '../four-bit-weights.ts'
import { compensationFor } from '../integer-weights.ts'
import { outputAxis, readLayer } from '../layer-weights.ts'
import type { LinearAlgebra } from '../linear.ts'
import { record } from '../record.ts'
import { centre } from '../reference.ts'
import { transpose } from '../refit.ts'

/** ONNX Runtime's own operators. */
const DOMAIN = 'com.microsoft'
/** Of the weights of a block; below that four bits save too little to be worth a descendant. */
const LEAST_SHARE = 0.2
const LEAST_WEIGHTS = 32_768
/** Longer columns take too long to factor. */
const LONGEST_COLUMN = 2048
/** A layer that sees one position of each picture has fewer rows than inputs: errors are only made up for where that is sure to help. */
const FEW_ROWS_RIDGE = 1

/**
 * Whether a block has a head: a layer with one position for each picture, most of whose work is to read its weights. In many
 * classifiers it holds a third to a half of all weights.
 */
export const hasHead = (model: Model): boolean => headsOf(model).length > 0

/**
 * A descendant's heads with their weights in 4 bits, which ONNX Runtime multiplies as they are (MatMulNBits); what they read and
 * the layers before stay as they are. Their biases make up for the mean of what rounding changes.
 *
 * @returns undefined where heads hold too little
 */
export async function inFourBits(
  from: Descendant,
  samples: Samples,
  algebra: LinearAlgebra,
): Promise<Descendant | undefined> {
  const heads = headsOf(from.model)
  const share = heads.reduce((sum, { bytes }) => sum + bytes, 0) / weightBytes(from.model)
  if (heads.length === 0 || share < LEAST_SHARE) return undefined
  const rowsOf = new Map(heads.map((head) => [head, new Rows(samples.length, head.inputs)]))
  await record(
    from.model,
    samples,
    heads.map(({ layer }) => layer.inputs[0]!),
    (values) => {
      for (const [{ layer, inputs }, rows] of rowsOf) {
        rows.data.set(values[layer.inputs[0]!]!.data as Float32Array, rows.rows * inputs)
        rows.rows++
      }
    },
  )
  let model = from.model
  for (const [head, rows] of rowsOf) {
    const means = centre(rows)
    const moments = await algebra.transposedProduct(rows.filled, rows.filled, rows.rows)
    const { inputs } = head
    const powers = Float64Array.from({ length: inputs }, (_, i) => moments[i * inputs + i]! + 1e-9)
    const compensation = inputs <= LONGEST_COLUMN ? compensationFor(moments, inputs, FEW_ROWS_RIDGE) : undefined
    const rounded = fourBitWeights(head.weights, inputs, powers, compensation)
    const bias = Float32Array.from(head.bias, (value, o) => {
      let missing = 0
      for (let i = o * inputs, j = 0; j < inputs; i++, j++) missing += (head.weights[i]! - rounded.real[i]!) * means[j]!
      return value + missing
    })
    model = replaced(model, head, {
      'weights/u4': rounded.stored,
      scales: rounded.scales,
      bias: floats([bias.length], bias),
    })
  }
  return {
    ...from,
    id: descendantId(`${from.id}-w4`),
    parameters: { ...from.parameters, fourBit: heads.map(({ layer }) => layer.outputs[0]!).join(' ') },
    model,
  }
}

interface Head {
  readonly layer: Node
  readonly inputs: number
  /** `[outputs, inputs]` */
  readonly weights: Float32Array
  readonly bias: Float32Array
  /** of the weights as they are stored */
  readonly bytes: number
}

function headsOf({ graph }: Model): Head[] {
  return graph.nodes.flatMap((layer): Head[] => {
    if (!isHead(graph, layer)) return []
    const known = readLayer(graph, layer)
    if (!known || known.weights.data.length < LEAST_WEIGHTS) return []
    const outputs = known.bias.length
    const inputs = known.weights.data.length / outputs
    const { data } = known.weights
    const weights = outputAxis(layer) === 0 ? data : transpose(data, inputs, outputs)
    return [{ layer, inputs, weights, bias: known.bias, bytes: data.length * (known.stored === 'float' ? 4 : 1) }]
  })
}

function isHead(graph: Graph, layer: Node): boolean {
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

/** The model with MatMulNBits for a head: A, B, scales, no zero points, no order of groups, bias. */
function replaced(model: Model, { layer, inputs, bias }: Head, constants: Readonly<Record<string, Tensor>>): Model {
  const { graph } = model
  const fresh = freshNames(graph)
  const initializers = new Map(graph.initializers)
  const output = layer.outputs[0]!
  const put = (what: string, value: Tensor): string => {
    const name = fresh(`${output}/${what}`)
    initializers.set(name, value)
    return name
  }
  const names = Object.entries(constants).map(([what, value]) => put(what, value))
  const [stored, scales, added] = names as [string, string, string]
  const isConv = isOp(layer, 'Conv')
  const input = isConv ? fresh(`${output}/flat`) : layer.inputs[0]!
  const product = isConv ? fresh(`${output}/product`) : output
  const attributes = { K: int(inputs), N: int(bias.length), bits: int(4), block_size: int(GROUP) }
  const nodes: Node[] = [node('MatMulNBits', [input, stored, scales, '', '', added], [product], attributes, DOMAIN)]
  if (isConv) {
    nodes.unshift(node('Flatten', [layer.inputs[0]!], [input], { axis: int(1) }))
    const axes = put('axes', { type: 'int64', dims: [2], data: BigInt64Array.of(2n, 3n) })
    nodes.push(node('Unsqueeze', [product, axes], [output]))
  }
  const all = graph.nodes.flatMap((each) => (each === layer ? nodes : [each]))
  return check({
    ...model,
    opsets: new Map([...model.opsets, [DOMAIN, 1]]),
    graph: removeDead({ ...graph, nodes: all, initializers, facts: new Map() }),
  })
}
