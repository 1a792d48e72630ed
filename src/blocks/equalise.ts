import { type Graph, intAttribute, isOp, type Model, type Node, wiring } from '../onnx/index.ts'
import { floats, isFloat, numbersOf, type Tensor } from '../tensor/index.ts'
import type { Samples } from './block.ts'
import { record } from './record.ts'

/** Pictures that show how large each channel grows. */
const PICTURES = 48
/** A channel is never made larger by more than this: what is nearly always zero says little about its range. */
const MOST = 32

/**
 * Scales channels between two convolutions so that all of them fill the 8-bit range of their tensor; the second convolution
 * takes the factors back. In float nothing changes but for values beyond those that were seen, where a Clip lies between.
 *
 * Before a depthwise convolution, whose weights have a scale for each channel, this costs nothing; before a dense one the
 * factor is shared between activations and weights.
 *
 * @see Nagel et al., arXiv 1906.04721, §4.1 (cross-layer equalisation); SmoothQuant, arXiv 2211.10438 (sharing with weights)
 */
export async function equalise(model: Model, samples: Samples): Promise<Model> {
  const pairs = pairsOf(model.graph)
  if (pairs.length === 0) return model
  const largest = await channelMaxima(
    model,
    samples.slice(0, PICTURES),
    pairs.map(({ value }) => value),
  )
  const initializers = new Map(model.graph.initializers)
  const replaced = new Map<Node, Node>()
  const current = (node: Node) => replaced.get(node) ?? node
  const put = (node: Node, position: number, tensor: Tensor, tag: string) => {
    const name = `${node.outputs[0]}/equalised${tag}`
    initializers.set(name, tensor)
    replaced.set(node, {
      ...current(node),
      inputs: current(node).inputs.map((input, i) => (i === position ? name : input)),
    })
  }
  for (const { maker, reader, value, limit } of pairs) {
    const maxima = largest.get(value)!
    const weights = initializers.get(current(reader).inputs[1]!) as Tensor<'float32'>
    const factors = factorsOf(maxima, weights, intAttribute(reader, 'group', 1) > 1, limit)
    const made = initializers.get(current(maker).inputs[1]!) as Tensor<'float32'>
    put(maker, 1, scaled(made, 0, factors), '')
    const bias = initializers.get(current(maker).inputs[2] ?? '')
    if (bias) put(maker, 2, scaled(bias as Tensor<'float32'>, 0, factors), '/bias')
    const inverse = factors.map((factor) => 1 / factor)
    put(reader, 1, scaled(weights, intAttribute(reader, 'group', 1) > 1 ? 0 : 1, inverse), '')
  }
  const nodes = model.graph.nodes.map(current)
  const read = new Set(nodes.flatMap((node) => node.inputs))
  for (const name of [...initializers.keys()]) if (!read.has(name)) initializers.delete(name)
  return { ...model, graph: { ...model.graph, nodes, initializers } }
}

interface Pair {
  readonly maker: Node
  readonly reader: Node
  /** what the reader takes, behind the activation */
  readonly value: string
  /** where the activation cuts off */
  readonly limit: number
}

/** Convolution, at most one Relu or Clip from zero, convolution; nobody else reads what lies between. */
function pairsOf(graph: Graph): Pair[] {
  const { consumers } = wiring(graph)
  const outputs = new Set(graph.outputs.map(({ name }) => name))
  const weighted = (node: Node) =>
    isOp(node, 'Conv') &&
    isFloat(graph.initializers.get(node.inputs[1] ?? '') ?? { type: 'bool', dims: [], data: new Uint8Array() }) &&
    (!node.inputs[2] || graph.initializers.has(node.inputs[2]))
  const onlyReader = (value: string): Node | undefined => {
    const readers = consumers.get(value) ?? []
    return readers.length === 1 && !outputs.has(value) ? graph.nodes[readers[0]!] : undefined
  }
  const pairs: Pair[] = []
  for (const maker of graph.nodes) {
    if (!weighted(maker)) continue
    let value = maker.outputs[0]!
    let limit = Number.POSITIVE_INFINITY
    let next = onlyReader(value)
    if (next && isOp(next, 'Relu', 'Clip')) {
      if (isOp(next, 'Clip')) {
        const [least = Number.NaN, most = Number.NaN] = [1, 2].map((i) => {
          const bound = graph.initializers.get(next?.inputs[i] ?? '')
          return bound ? numbersOf(bound)[0] : undefined
        })
        if (least !== 0 || !(most > 0)) continue
        limit = most
      }
      value = next.outputs[0]!
      next = onlyReader(value)
    }
    if (!next || !weighted(next) || next.inputs[0] !== value) continue
    const dims = graph.initializers.get(next.inputs[1]!)!.dims
    const depthwise = dims[1] === 1 && intAttribute(next, 'group', 1) === dims[0]
    if (depthwise || intAttribute(next, 'group', 1) === 1) pairs.push({ maker, reader: next, value, limit })
  }
  return pairs
}

function factorsOf(
  maxima: Float64Array,
  weights: Tensor<'float32'>,
  depthwise: boolean,
  limit: number,
): readonly number[] {
  const range = maxima.reduce((a, b) => Math.max(a, b), 0)
  const columns = depthwise ? undefined : columnMaxima(weights)
  const widest = columns?.reduce((a, b) => Math.max(a, b), 0) ?? 1
  return Array.from(maxima, (most, channel) => {
    if (most <= 0 || range <= 0) return 1
    const full = Math.min(range, limit) / most
    const wished = columns ? Math.sqrt((full * columns[channel]!) / Math.max(widest, 1e-12)) : full
    return Math.max(1, Math.min(wished, full, MOST))
  })
}

function columnMaxima({ data, dims }: Tensor<'float32'>): Float64Array {
  const [outputs = 0, inputs = 0] = dims
  const area = data.length / outputs / inputs
  const result = new Float64Array(inputs)
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < inputs; i++)
      for (let k = 0; k < area; k++) result[i] = Math.max(result[i]!, Math.abs(data[(o * inputs + i) * area + k]!))
  return result
}

function scaled({ data, dims }: Tensor<'float32'>, axis: number, factors: readonly number[]): Tensor<'float32'> {
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  return floats(
    dims,
    data.map((value, index) => value * factors[Math.floor(index / inner) % factors.length]!),
  )
}

async function channelMaxima(
  model: Model,
  samples: Samples,
  values: readonly string[],
): Promise<ReadonlyMap<string, Float64Array>> {
  const maxima = new Map<string, Float64Array>()
  await record(model, samples, values, (tensors) => {
    for (const value of values) {
      const { data, dims } = tensors[value]!
      const channels = dims[1] ?? 1
      const most = maxima.get(value) ?? new Float64Array(channels)
      const plane = data.length / channels
      for (let c = 0; c < channels; c++) {
        let peak = most[c]!
        for (let i = c * plane; i < (c + 1) * plane; i++) peak = Math.max(peak, Math.abs(data[i] as number))
        most[c] = peak
      }
      maxima.set(value, most)
    }
  })
  return maxima
}
