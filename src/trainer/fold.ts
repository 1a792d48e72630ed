import { floatAttribute, type Graph, isOp, type Model, type Node, wiring } from '../onnx/index.ts'
import { floats, type Tensor } from '../tensor/index.ts'

/**
 * The model with each BatchNormalization that follows a Conv or Gemm taken into its weights: the same answers, and no node
 * left that would be slow when quantised.
 */
export function foldNormalisation(model: Model): Model {
  const { graph } = model
  const { producer, consumers } = wiring(graph)
  const outputs = new Set(graph.outputs.map((output) => output.name))
  const initializers = new Map(graph.initializers)
  const folded = new Map<number, Node>()
  const removed = new Set<number>()
  graph.nodes.forEach((norm, index) => {
    if (!isOp(norm, 'BatchNormalization')) return
    const [x, ...statistics] = norm.inputs as [string, ...string[]]
    const from = producer.get(x)
    const before = from === undefined ? undefined : graph.nodes[from]
    const values = statistics.map((name) => graph.initializers.get(name))
    if (from === undefined || !before || outputs.has(x) || consumers.get(x)?.length !== 1) return
    if (!isOp(before, 'Conv', 'Gemm') || values.some((value) => !value)) return
    const weight = graph.initializers.get(before.inputs[1]!)
    if (!weight || (before.op === 'Gemm' && before.attributes.transB?.value !== 1)) return
    const bias = before.inputs[2] ? graph.initializers.get(before.inputs[2]) : undefined
    const merged = merge(norm, weight, bias, values as Tensor[])
    const names = [`${before.name}.weight`, `${before.name}.bias`].map((name) => freshName(graph, name))
    initializers.set(names[0]!, merged.weight)
    initializers.set(names[1]!, merged.bias)
    folded.set(from, { ...before, inputs: [before.inputs[0]!, ...names], outputs: norm.outputs })
    removed.add(index)
  })
  const nodes = graph.nodes.flatMap((each, index) => (removed.has(index) ? [] : [folded.get(index) ?? each]))
  const read = new Set(nodes.flatMap((each) => each.inputs))
  for (const name of initializers.keys()) if (!read.has(name)) initializers.delete(name)
  return { ...model, graph: { ...graph, nodes, initializers } }
}

const freshName = (graph: Graph, name: string): string =>
  graph.initializers.has(name) ? freshName(graph, `${name}_`) : name

function merge(norm: Node, weight: Tensor, bias: Tensor | undefined, statistics: readonly Tensor[]) {
  const [scale, offset, mean, variance] = statistics.map((value) => value.data as Float32Array)
  const epsilon = floatAttribute(norm, 'epsilon', 1e-5)
  const channels = weight.dims[0]!
  const each = weight.data.length / channels
  const factors = Float64Array.from({ length: channels }, (_, c) => scale![c]! / Math.sqrt(variance![c]! + epsilon))
  const weights = (weight.data as Float32Array).map((value, i) => value * factors[Math.floor(i / each)]!)
  const old = (bias?.data ?? new Float32Array(channels)) as Float32Array
  const offsets = old.map((value, c) => (value - mean![c]!) * factors[c]! + offset![c]!)
  return { weight: floats(weight.dims, weights), bias: floats([channels], offsets) }
}
