import { BlockscaleError } from '../base/index.ts'
import { type Graph, isOp, type Model, type Node, node, type ValueInfo } from '../onnx/index.ts'
import { elementCount, floats, type Tensor } from '../tensor/index.ts'
import { differentiate } from './differentiate.ts'
import { Emitter } from './emitter.ts'
import { emitLoss, type Loss, type LossInput, lossInputs } from './losses.ts'
import { type ShapedGraph, shapeIn } from './shapes.ts'
import { emitUpdate, type Method, momentsOf, stepScalars } from './update.ts'

/** Where each tensor lies in the one vector that holds them all. */
export interface Layout {
  readonly entries: readonly { readonly name: string; readonly dims: readonly number[]; readonly offset: number }[]
  readonly length: number
}

export const WEIGHTS = 'train/weights'
export const STATISTICS = 'train/statistics'
export const LOSS = 'train/loss'

/** Graphs for one network: a training step is one run of `train`, a measurement one run of `evaluate`. */
export interface Step {
  /** weights, moments, statistics, scalars and data in; loss and the same vectors out */
  readonly train: Model
  /** weights, statistics and data in; loss and the network's outputs out. Takes any batch that the network takes */
  readonly evaluate: Model
  readonly weights: Layout
  /** running mean and variance of each BatchNormalization, empty where there is none */
  readonly statistics: Layout
  /** outputs of `train` → the inputs of the next step that they become */
  readonly carried: ReadonlyMap<string, string>
}

/**
 * The graphs that train `parameters` of a network on the sum of `losses`.
 *
 * @param model the network, operator set 13 or newer
 * @param shaped its recorded shapes at the batch size of training
 * @param normalise whether BatchNormalization uses the statistics of the batch, and keeps running ones; otherwise those of
 *   the model stay as they are
 * @throws BlockscaleError MODEL_UNSUPPORTED for an older operator set, or an operator without a gradient
 */
export function buildStep(
  model: Model,
  shaped: ShapedGraph,
  losses: readonly Loss[],
  parameters: readonly string[],
  method: Method,
  normalise: boolean,
): Step {
  const opset = model.opsets.get('') ?? 0
  if (opset < 13) {
    throw new BlockscaleError('MODEL_UNSUPPORTED', `training needs operator set 13 or newer, the model has ${opset}`)
  }
  const norms = normalise ? model.graph.nodes.filter((each) => isOp(each, 'BatchNormalization')) : []
  const weights = layout(model.graph.initializers, parameters)
  const statistics = layout(
    model.graph.initializers,
    norms.flatMap((each) => each.inputs.slice(3, 5)),
  )
  const evaluator = new Emitter('evaluate')
  const read = [...unpack(evaluator, WEIGHTS, weights), ...unpack(evaluator, STATISTICS, statistics)]
  const measured = emitLosses(evaluator, losses, shaped)
  const data = [
    ...model.graph.inputs,
    ...losses.flatMap((loss) => lossInputs(loss, shapeIn(shaped, loss.output))).map(freeSizes),
  ]
  const evaluate = assemble(model, [...weights.entries, ...statistics.entries], {
    nodes: [...read, ...model.graph.nodes, ...evaluator.nodes, node('Identity', [measured.value], [LOSS])],
    emit: evaluator,
    inputs: [vector(WEIGHTS, weights), ...(statistics.length ? [vector(STATISTICS, statistics)] : []), ...data],
    outputs: [LOSS, ...model.graph.outputs.map((output) => output.name)],
  })
  return {
    ...trainingGraph(model, shaped, losses, method, norms, weights, statistics, data),
    evaluate,
    weights,
    statistics,
  }
}

function trainingGraph(
  model: Model,
  shaped: ShapedGraph,
  losses: readonly Loss[],
  method: Method,
  norms: readonly Node[],
  weights: Layout,
  statistics: Layout,
  data: readonly ValueInfo[],
): Pick<Step, 'train' | 'carried'> {
  const emit = new Emitter('train')
  const read = unpack(emit, WEIGHTS, weights)
  const { nodes, batch } = withBatchStatistics(emit, shaped, norms)
  const { value, gradients } = emitLosses(emit, losses, shaped)
  const parameters = weights.entries.map((entry) => entry.name)
  const forward = { ...shaped, graph: { ...shaped.graph, nodes } }
  const found = differentiate(emit, forward, gradients, parameters)
  const flat = weights.entries.map(({ name, dims }) => {
    const gradient = found.get(name)
    return gradient ? emit.reshape(gradient, [-1]) : emit.filled([elementCount(dims)], 0)
  })
  const updated = emitUpdate(emit, method, WEIGHTS, emit.concat(flat, 0))
  const carried = new Map<string, string>([
    [updated.weights, WEIGHTS],
    ...updated.moments.map((name, i): [string, string] => [name, momentsOf(method)[i]!]),
  ])
  if (statistics.length) {
    // 0.9 of the running statistics and 0.1 of the batch's
    const old = emit.op('Mul', [STATISTICS, emit.scalar(0.9)])
    const fresh = emit.op('Mul', [emit.concat(batch, 0), emit.scalar(0.1)])
    carried.set(emit.op('Add', [old, fresh]), STATISTICS)
  }
  const scalars = Object.keys(stepScalars(method, 0, 1)).map((name) => floatInput(name, []))
  const train = assemble(model, weights.entries, {
    nodes: [...read, ...nodes, ...emit.nodes, node('Identity', [value], [LOSS])],
    emit,
    inputs: [
      vector(WEIGHTS, weights),
      ...momentsOf(method).map((name) => vector(name, weights)),
      ...(statistics.length ? [vector(STATISTICS, statistics)] : []),
      ...scalars,
      ...data,
    ],
    outputs: [LOSS, ...carried.keys()],
  })
  return { train, carried }
}

/** Sum of the losses, and the gradient with respect to each output. */
function emitLosses(emit: Emitter, losses: readonly Loss[], shaped: ShapedGraph) {
  const gradients = new Map<string, string>()
  const values = losses.map((loss) => {
    const { value, gradient } = emitLoss(emit, loss, shapeIn(shaped, loss.output))
    const other = gradients.get(loss.output)
    gradients.set(loss.output, other ? emit.op('Add', [other, gradient]) : gradient)
    return value
  })
  return { value: values.length === 1 ? values[0]! : emit.op('Sum', values), gradients }
}

/** Has each BatchNormalization use mean and variance of the batch, which are also given as values of their own. */
function withBatchStatistics(
  emit: Emitter,
  shaped: ShapedGraph,
  norms: readonly Node[],
): { nodes: Node[]; batch: string[] } {
  const batch: string[] = []
  const nodes: Node[] = []
  for (const each of shaped.graph.nodes) {
    if (!norms.includes(each)) {
      nodes.push(each)
      continue
    }
    const [x, scale, bias] = each.inputs as [string, string, string]
    const dims = shapeIn(shaped, x)
    const axes = dims.flatMap((_, axis) => (axis === 1 ? [] : [axis]))
    const share = emit.scalar(dims[1]! / elementCount(dims))
    const mean = emit.op('Mul', [emit.sum(x, axes), share])
    const square = emit.op('Mul', [emit.sum(emit.op('Mul', [x, x]), axes), share])
    const variance = emit.op('Relu', [emit.op('Sub', [square, emit.op('Mul', [mean, mean])])])
    nodes.push(...emit.nodes.splice(0), { ...each, inputs: [x, scale, bias, mean, variance] })
    batch.push(mean, variance)
  }
  return { nodes, batch }
}

function layout(initializers: ReadonlyMap<string, Tensor>, names: readonly string[]): Layout {
  let offset = 0
  const entries = [...new Set(names)].map((name) => {
    const value = initializers.get(name)
    if (value?.type !== 'float32') {
      throw new BlockscaleError('GRAPH_INVALID', `${name} is no float32 weight of the network`)
    }
    const entry = { name, dims: value.dims, offset }
    offset += elementCount(value.dims)
    return entry
  })
  return { entries, length: offset }
}

/** Nodes that cut a vector into the tensors it holds, under the names by which the network knows them. */
function unpack(emit: Emitter, from: string, of: Layout): readonly Node[] {
  if (of.entries.length === 0) return []
  const sizes = of.entries.map((entry) => elementCount(entry.dims))
  const parts = emit.ops('Split', [from, emit.longs(...sizes)], sizes.length, { axis: { kind: 'int', value: 0 } })
  const shapes = of.entries.map(({ name, dims }, i) => node('Reshape', [parts[i]!, emit.longs(...dims)], [name]))
  return [...emit.nodes.splice(0), ...shapes]
}

function assemble(
  model: Model,
  computed: Layout['entries'],
  parts: { nodes: readonly Node[]; emit: Emitter; inputs: readonly ValueInfo[]; outputs: readonly string[] },
): Model {
  const initializers = new Map([...model.graph.initializers, ...parts.emit.initializers])
  for (const { name } of computed) initializers.delete(name)
  const graph: Graph = {
    name: model.graph.name,
    nodes: parts.nodes,
    inputs: parts.inputs,
    outputs: parts.outputs.map((name) => ({ name })),
    initializers,
    facts: new Map(),
  }
  return { ...model, graph }
}

const floatInput = (name: string, dims: readonly (number | string)[]): ValueInfo => ({
  name,
  fact: { type: 'float32', dims },
})
const vector = (name: string, of: Layout): ValueInfo => floatInput(name, [of.length])
// Held-out samples may have other sizes than those trained on, where the network allows it.
const freeSizes = ({ name, type, dims }: LossInput): ValueInfo => ({
  name,
  fact: { type, dims: dims.map((_, axis) => (axis === 0 ? 'N' : null)) },
})

/** The tensors of a layout as one vector. */
export function pack(of: Layout, initializers: ReadonlyMap<string, Tensor>): Float32Array {
  const all = new Float32Array(of.length)
  for (const { name, offset } of of.entries) all.set(initializers.get(name)!.data as Float32Array, offset)
  return all
}

/** The model with the tensors of a layout taken from their vector. */
export function withTensors(model: Model, of: Layout, all: Float32Array): Model {
  const initializers = new Map(model.graph.initializers)
  for (const { name, dims, offset } of of.entries) {
    initializers.set(name, floats(dims, all.slice(offset, offset + elementCount(dims))))
  }
  return { ...model, graph: { ...model.graph, initializers } }
}
