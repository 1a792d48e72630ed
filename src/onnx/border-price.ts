import { borders } from './borders.ts'
import type { Border } from './cut.ts'
import { type Graph, type Node, subgraphs, wiring } from './graph.ts'
import type { Normalised } from './normalised.ts'
import { factOf } from './rewrite.ts'

/** All costs are in the same unit: the share of the model's work that a border wastes or freezes. */
export const COST = {
  /** a border at all: one more session call and what ONNX Runtime can no longer fuse across it */
  border: 0.01,
  /** each further tensor at a border */
  tensor: 0.01,
  /** bytes that cross, as a share of the bytes that the whole model's layers write */
  bytes: 1,
  /** channels that could be removed if the border were elsewhere, by the share of MACs that they carry */
  frozen: 0.6,
  /** a block that is larger or smaller than the mean, squared */
  imbalance: 0.32,
  /** each block more or fewer than the usual number */
  count: 0.04,
}

/** A border where a cut is allowed, and what it costs. */
export interface Candidate {
  readonly border: Border
  readonly cost: number
}

/** The borders where a cut is allowed, with what each costs. */
export function pricedBorders(normalised: Normalised, work: ReadonlyMap<string, number>): Candidate[] {
  const { graph } = normalised.model
  const total = Math.max(1, sum(work.values()))
  const frozen = frozenShare(graph, work, total)
  const all = borders(normalised)
  const barred = barredValues(graph)
  const written = Math.max(1, layerBytes(normalised))
  return all
    .filter(({ values }) => values.every((value) => !barred.has(value)))
    .map((border) => ({
      border,
      cost:
        COST.border +
        COST.tensor * Math.max(0, border.values.length - 1) +
        COST.bytes * (border.bytes / written) +
        COST.frozen * sum(border.values.map(frozen)),
    }))
}

export const sum = (numbers: Iterable<number>): number => {
  let total = 0
  for (const each of numbers) total += each
  return total
}

function layerBytes({ model, nominal }: Normalised): number {
  return sum(
    model.graph.nodes.map(({ outputs }) => 4 * (nominal.get(outputs[0] ?? '') ?? [0]).reduce((a, b) => a * b, 1)),
  )
}

const LAYERS = new Set([
  'Conv',
  'ConvTranspose',
  'Gemm',
  'MatMul',
  'QLinearConv',
  'QLinearMatMul',
  'BatchNormalization',
])
const ACTIVATIONS = new Set([
  ...['Relu', 'Clip', 'LeakyRelu', 'PRelu', 'HardSwish', 'HardSigmoid', 'Sigmoid', 'Elu', 'Selu', 'Softplus', 'Tanh'],
  ...['Mish', 'Gelu', 'Erf', 'BatchNormalization', 'Softmax'],
])

/** Values that must stay inside a block. */
function barredValues(graph: Graph): Set<string> {
  const { consumers } = wiring(graph)
  const barred = new Set<string>()
  for (const node of graph.nodes) {
    for (const output of node.outputs) {
      const type = factOf(graph, output)?.type
      const readers = (consumers.get(output) ?? []).map((index) => graph.nodes[index]!)
      const integer = type === undefined || type === 'int64' || type === 'int32' || type === 'bool' || type === 'string'
      const beforeActivation =
        (LAYERS.has(node.op) && readers.some((reader) => actsOn(graph, reader, output))) ||
        (node.op === 'Add' && readers.length === 1 && ACTIVATIONS.has(readers[0]!.op))
      // x · sigmoid(x): both ends of the gate belong to one activation.
      const gate =
        ACTIVATIONS.has(node.op) && readers.some(({ op, inputs }) => op === 'Mul' && inputs.includes(node.inputs[0]!))
      if (integer || beforeActivation || gate || subgraphs(node).length > 0) barred.add(output)
    }
  }
  return barred
}

function actsOn(graph: Graph, reader: Node, value: string): boolean {
  if (ACTIVATIONS.has(reader.op)) return true
  const others = reader.inputs.filter((input) => input !== value)
  return (
    ['Mul', 'Add', 'Sub', 'Div', 'DequantizeLinear'].includes(reader.op) &&
    others.every((each) => graph.initializers.has(each))
  )
}

/**
 * How much of the model's work hangs on the channels of a value, if those channels could be removed.
 *
 * Channels are free when the value comes from a layer and goes to layers, through operators that work channel by channel.
 * Where they meet an addition, a Concat or an end of the graph they are tied to others, and a border freezes nothing more.
 */
function frozenShare(graph: Graph, work: ReadonlyMap<string, number>, total: number): (value: string) => number {
  const { producer, consumers } = wiring(graph)
  const outputs = new Set(graph.outputs.map(({ name }) => name))
  const channelwise = (node: Node) =>
    ACTIVATIONS.has(node.op) ||
    ['MaxPool', 'AveragePool', 'GlobalAveragePool', 'Resize', 'Pad', 'Flatten', 'ReduceMean', 'Identity'].includes(
      node.op,
    ) ||
    isDepthwise(graph, node) ||
    (['Mul', 'Add', 'Sub', 'Div'].includes(node.op) && node.inputs.some((input) => graph.initializers.has(input)))
  const before = (value: string): number | undefined => {
    const index = producer.get(value)
    if (index === undefined) return undefined
    const node = graph.nodes[index]!
    if (channelwise(node)) {
      const rest = before(node.inputs[0]!)
      return rest === undefined ? undefined : rest + (work.get(node.name) ?? 0)
    }
    return LAYERS.has(node.op) ? (work.get(node.name) ?? 0) : undefined
  }
  const after = (value: string): number | undefined => {
    if (outputs.has(value)) return undefined
    let carried = 0
    for (const index of consumers.get(value) ?? []) {
      const node = graph.nodes[index]!
      const rest = channelwise(node) ? after(node.outputs[0]!) : LAYERS.has(node.op) ? 0 : undefined
      if (rest === undefined) return undefined
      carried += rest + (work.get(node.name) ?? 0)
    }
    return carried
  }
  return (value) => {
    const [made, read] = [before(value), after(value)]
    return made === undefined || read === undefined ? 0 : (made + read) / total
  }
}

function isDepthwise(graph: Graph, node: Node): boolean {
  const group = node.attributes.group
  return (
    node.op === 'Conv' &&
    group?.kind === 'int' &&
    group.value > 1 &&
    graph.initializers.get(node.inputs[1]!)?.dims[1] === 1
  )
}
