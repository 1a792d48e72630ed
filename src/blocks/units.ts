import { type Graph, isOp, type Model, type Node, wiring } from '../onnx/index.ts'
import type { Block } from './block.ts'
import { type LayerShape, layerShape } from './columns.ts'
import { readLayer } from './layer-weights.ts'
import { LONGEST_COLUMN, shortcutOf } from './reference.ts'

/** The last layer of a unit: where a changed block gives again what the original gives at that place. */
export interface UnitEnd {
  /** the layer's output in the original */
  readonly output: string
  readonly shape: LayerShape
  readonly outputWidth: number
  readonly positions: number
  /** in the original: what the layer's output is added to */
  readonly shortcut: string | undefined
}

/**
 * The layers of a block that end a unit: those whose output no activation follows (a projection, the end of a residual branch),
 * or, where there is none, the last layer. Only those are named whose output has all its channels in the student too.
 */
export function unitEnds(block: Block, student: Model): UnitEnd[] {
  const { graph } = block.model
  const { consumers } = wiring(graph)
  const ends: (UnitEnd & { readonly isLinear: boolean })[] = []
  for (const layer of graph.nodes) {
    const output = layer.outputs[0] ?? ''
    const shape = readLayer(graph, layer) && layerShape(layer, graph, block.nominal)
    const dims = block.nominal.get(output)
    if (!shape || !dims || isGrouped(layer, shape, block) || shape.columnLength > LONGEST_COLUMN) continue
    const twin = layerOf(student.graph, output)
    const own = twin && readLayer(student.graph, twin)
    if (!own || own.bias.length !== shape.outputChannels) continue
    const readers = (consumers.get(output) ?? []).map((index) => graph.nodes[index]!)
    ends.push({
      output,
      shape,
      outputWidth: dims[3] ?? 1,
      positions: dims.slice(2).reduce((product, size) => product * size, 1),
      shortcut: shortcutOf(output, graph, block.nominal),
      isLinear: !readers.some((reader) => isOp(reader, ...ACTIVATIONS)),
    })
  }
  const linear = ends.filter(({ isLinear }) => isLinear)
  return linear.length > 0 ? linear : ends.slice(-1)
}

const ACTIVATIONS = ['Relu', 'Clip', 'LeakyRelu', 'PRelu', 'Sigmoid', 'HardSigmoid', 'HardSwish', 'Tanh', 'Elu', 'Mul']

const isGrouped = (layer: Node, shape: LayerShape, { nominal }: Block): boolean =>
  isOp(layer, 'Conv') && nominal.get(layer.inputs[0] ?? '')?.[1] !== shape.inputChannels

/** The layer that makes a value, looked for behind the rounding to 8 bits that a border value has. */
export function layerOf(graph: Graph, value: string): Node | undefined {
  const node = makerOf(graph, unrounded(graph, value))
  return node && isOp(node, 'Conv', 'Gemm', 'MatMul') ? node : undefined
}

/** What a layer's output is added to, as the student reads it. */
export function addedTo(graph: Graph, layer: Node): string | undefined {
  const add = graph.nodes.find(
    (each) => isOp(each, 'Add') && each.inputs.some((input) => unrounded(graph, input) === layer.outputs[0]),
  )
  return add?.inputs.find((input) => unrounded(graph, input) !== layer.outputs[0])
}

/** The value before it was rounded to 8 bits, where it was. */
function unrounded(graph: Graph, value: string): string {
  const dequantise = makerOf(graph, value)
  if (!dequantise || !isOp(dequantise, 'DequantizeLinear')) return value
  const quantise = makerOf(graph, dequantise.inputs[0]!)
  return quantise && isOp(quantise, 'QuantizeLinear') ? quantise.inputs[0]! : value
}

const makerOf = (graph: Graph, value: string): Node | undefined =>
  graph.nodes.find((each) => each.outputs.includes(value))
