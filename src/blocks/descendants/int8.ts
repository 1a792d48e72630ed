import { type DescendantId, descendantId } from '../../base/index.ts'
import {
  check,
  freshNames,
  type Graph,
  int,
  intAttribute,
  isOp,
  type Model,
  type Node,
  node,
  removeDead,
  wiring,
} from '../../onnx/index.ts'
import { floats, isFloat, type Tensor } from '../../tensor/index.ts'
import type { Block, Descendant, Samples } from '../block.ts'
import { quantiseBias, quantiseWeights } from '../quantised.ts'
import { observe, type QuantisationRange } from '../ranges.ts'
import { record } from '../record.ts'

export interface Int8Options {
  /** ranges of the border values, shared by all int8 descendants on both sides of a border */
  readonly borders: ReadonlyMap<string, QuantisationRange>
  /** layers (by their first output) that stay in float */
  readonly keepFloat?: ReadonlySet<string>
  /** values of the model's own outputs: they leave in float */
  readonly finalOutputs: ReadonlySet<string>
  /** 8, or 7 where the CPU adds pairs of 8-bit products in 16 bits and could saturate */
  readonly weightBits?: 7 | 8
}

/** Layers with weights; they are why one quantises. */
const isWeighted = (each: Node, graph: Graph): boolean =>
  isOp(each, 'Conv', 'Gemm', 'MatMul') &&
  isFloat(graph.initializers.get(each.inputs[1] ?? '') ?? { type: 'bool', dims: [], data: new Uint8Array() })

/** Operators that move 8-bit values without changing them: input and output share their range. */
const MOVING = [
  'MaxPool',
  'Reshape',
  'Transpose',
  'Flatten',
  'Squeeze',
  'Unsqueeze',
  'Split',
  'Slice',
  'Gather',
  'Resize',
]
/** Operators that ONNX Runtime computes in 8 bits between quantised neighbours. */
const COMPUTING = ['Add', 'Mul', 'Concat', 'AveragePool', 'GlobalAveragePool', 'LeakyRelu', 'Sigmoid']

/**
 * Makes a statically quantised `block`: unsigned 8-bit activations, signed 8-bit weights with one scale for each output
 * channel, written as QuantizeLinear/DequantizeLinear pairs, which ONNX Runtime fuses into integer kernels.
 *
 * Every layer keeps 8-bit neighbours where it can: a depthwise convolution alone is slower in int8, among int8 layers it pays.
 * The bias of each layer is then corrected by the mean error that quantisation causes on the samples.
 *
 * @returns undefined when no layer of the block can be quantised
 * @see Nagel et al., arXiv 1906.04721 (bias correction); ONNX Runtime, "Quantize ONNX models", QDQ format
 */
export async function quantise(
  block: Block,
  from: Pick<Descendant, 'model' | 'parameters'> & { readonly id?: DescendantId },
  samples: Samples,
  options: Int8Options,
): Promise<Descendant | undefined> {
  const { graph } = from.model
  const chosen = chooseNodes(graph, options)
  if (!graph.nodes.some((each) => chosen.has(each) && isWeighted(each, graph))) return undefined
  const values = quantisedValues(graph, chosen, options)
  const ranges = await chooseRanges(from.model, samples, values, options)
  const corrections = new Map<string, Float32Array>()
  const build = () => insertPairs(from.model, chosen, values, ranges, corrections, options.weightBits ?? 8)
  await correctBiases(from.model, build, chosen, samples, corrections)
  const pruned = from.id !== undefined
  return {
    block: block.id,
    id: descendantId(pruned ? `${from.id}-int8` : 'int8'),
    kind: pruned ? 'prune-int8' : 'int8',
    parameters: { ...from.parameters, ...(options.keepFloat?.size ? { float: [...options.keepFloat].join(' ') } : {}) },
    model: build(),
  }
}

/** The nodes that are to run in 8 bits. */
function chooseNodes(graph: Graph, { keepFloat, finalOutputs }: Int8Options): ReadonlySet<Node> {
  const { producer, consumers } = wiring(graph)
  const chosen = new Set<Node>(
    graph.nodes.filter((each) => isWeighted(each, graph) && !keepFloat?.has(each.outputs[0]!)),
  )
  const borderOutputs = new Set(graph.outputs.map((output) => output.name).filter((name) => !finalOutputs.has(name)))
  // Other operators only serve layers: they are quantised where an 8-bit layer, or another block, reads on from them.
  const serves = new Map<string, boolean>()
  const leadsToLayer = (value: string): boolean => {
    const known = serves.get(value)
    if (known !== undefined) return known
    serves.set(value, false)
    const result =
      borderOutputs.has(value) ||
      (consumers.get(value) ?? []).some((index) => {
        const reader = graph.nodes[index]!
        return chosen.has(reader) || (isCandidate(reader, graph) && leadsToLayer(reader.outputs[0]!))
      })
    serves.set(value, result)
    return result
  }
  const isQuantisedSource = (value: string): boolean => {
    const index = producer.get(value)
    if (index === undefined) return graph.inputs.some((input) => input.name === value)
    const maker = graph.nodes[index]!
    return chosen.has(maker) || (isActivation(maker) && isQuantisedSource(maker.inputs[0]!))
  }
  for (const each of graph.nodes) {
    if (!isCandidate(each, graph) || !each.outputs.some(leadsToLayer)) continue
    const data = dataInputs(each, graph)
    if (data.length > 0 && data.every(isQuantisedSource)) chosen.add(each)
  }
  return chosen
}

const isCandidate = (each: Node, graph: Graph): boolean => {
  if (isOp(each, ...MOVING)) {
    return !isOp(each, 'Resize') || (each.attributes.mode?.kind ?? 'string') === 'string'
  }
  if (!isOp(each, ...COMPUTING)) return isActivation(each)
  return each.inputs.every((input) => input === '' || !graph.initializers.has(input))
}

/** Relu and Clip vanish into the range of what follows them. */
const isActivation = (each: Node): boolean => isOp(each, 'Relu', 'Clip')

const dataInputs = (each: Node, graph: Graph): string[] => {
  const inputs =
    isWeighted(each, graph) || isOp(each, ...MOVING) || isActivation(each) ? each.inputs.slice(0, 1) : each.inputs
  return inputs.filter((input) => input !== '' && !graph.initializers.has(input))
}

/** The values that get a pair: what 8-bit nodes read and write, but not what an activation takes straight from its layer. */
function quantisedValues(graph: Graph, chosen: ReadonlySet<Node>, { finalOutputs }: Int8Options): ReadonlySet<string> {
  const { consumers } = wiring(graph)
  const outputs = new Set(graph.outputs.map((output) => output.name))
  const values = new Set<string>()
  for (const each of graph.nodes) {
    if (!chosen.has(each)) continue
    if (!isActivation(each)) for (const input of dataInputs(each, graph)) values.add(input)
    for (const output of each.outputs) {
      if (output === '') continue
      const readers = (consumers.get(output) ?? []).map((index) => graph.nodes[index]!)
      const absorbed = readers.length === 1 && isActivation(readers[0]!) && !outputs.has(output)
      // A last Gemm or MatMul writes float: its kernel can, and the answer is not rounded.
      const last = isOp(each, 'Gemm', 'MatMul') && readers.length === 0 && finalOutputs.has(output)
      if (!absorbed && !last) values.add(output)
      if (absorbed) values.add(readers[0]!.outputs[0]!)
    }
  }
  return values
}

async function chooseRanges(
  model: Model,
  samples: Samples,
  values: ReadonlySet<string>,
  { borders }: Int8Options,
): Promise<ReadonlyMap<string, QuantisationRange>> {
  const { graph } = model
  const shared = new Map<string, string>()
  const root = (value: string): string => {
    const next = shared.get(value)
    return next === undefined ? value : root(next)
  }
  for (const each of graph.nodes) {
    if (!isOp(each, ...MOVING)) continue
    for (const output of each.outputs) {
      if (values.has(output) && values.has(each.inputs[0]!) && !borders.has(output)) shared.set(output, each.inputs[0]!)
    }
  }
  const own = [...values].filter((value) => root(value) === value && !borders.has(value))
  const observed = await observe(model, samples, own)
  const ranges = new Map<string, QuantisationRange>()
  for (const value of values) {
    const range = borders.get(root(value)) ?? observed.get(root(value))?.range()
    if (range) ranges.set(value, range)
  }
  return ranges
}

const scalar = (type: 'float32' | 'uint8', value: number): Tensor =>
  type === 'float32' ? { type, dims: [], data: Float32Array.of(value) } : { type, dims: [], data: Uint8Array.of(value) }

/** The graph with its pairs in place. Layers with a correction get it added to their bias. */
function insertPairs(
  model: Model,
  chosen: ReadonlySet<Node>,
  values: ReadonlySet<string>,
  ranges: ReadonlyMap<string, QuantisationRange>,
  corrections: ReadonlyMap<string, Float32Array>,
  weightBits: 7 | 8,
): Model {
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
  const pair = (value: string) => {
    const range = ranges.get(value)
    if (!range) return
    const raw = outputs.has(value) ? rawName(value) : value
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
        ? quantisedLayer(each, graph, range, corrections.get(each.outputs[0]!), weightBits, constant, fresh)
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
    for (const output of each.outputs) if (values.has(output)) pair(output)
  }
  return check({ ...model, graph: removeDead({ ...graph, nodes, initializers, facts: new Map() }) })
}

/** The dequantised 8-bit weights and 32-bit bias of a layer, in the form that the integer kernels are recognised by. */
function quantisedLayer(
  each: Node,
  graph: Graph,
  input: QuantisationRange,
  correction: Float32Array | undefined,
  weightBits: 7 | 8,
  constant: (wish: string, value: Tensor) => string,
  fresh: (wish: string) => string,
): { before: Node[]; inputs: string[]; layer: Partial<Node> } | undefined {
  const weights = graph.initializers.get(each.inputs[1]!)!
  if (!isFloat(weights)) return undefined
  const axis = isOp(each, 'Conv') || intAttribute(each, 'transB', 0) === 1 ? 0 : weights.dims.length - 1
  const output = each.outputs[0]!
  const { stored, scales } = quantiseWeights(weights, axis, weightBits)
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

/** Pictures that are enough for the mean error of a channel. */
const CORRECTION_PICTURES = 48

/**
 * Finds, layer by layer in graph order, the mean difference of each output channel between float and int8 and takes it off
 * the bias. Layers behind see inputs that are corrected already.
 */
async function correctBiases(
  model: Model,
  build: () => Model,
  chosen: ReadonlySet<Node>,
  samples: Samples,
  corrections: Map<string, Float32Array>,
): Promise<void> {
  const { graph } = model
  const some = samples.slice(0, CORRECTION_PICTURES)
  const layers = graph.nodes.filter((each) => chosen.has(each) && isOp(each, 'Conv', 'Gemm') && isWeighted(each, graph))
  const names = layers.map((each) => each.outputs[0]!)
  const wanted = await channelMeans(model, some, names)
  for (const name of names) {
    const target = wanted.get(name)!
    const actual = (await channelMeans(build(), some, [name])).get(name)!
    corrections.set(
      name,
      Float32Array.from(target, (mean, c) => mean - actual[c]!),
    )
  }
}

async function channelMeans(
  model: Model,
  samples: Samples,
  values: readonly string[],
): Promise<ReadonlyMap<string, Float64Array>> {
  const sums = new Map<string, Float64Array>()
  await record(model, samples, values, (tensors) => {
    for (const value of values) {
      const { data, dims } = tensors[value]!
      const channels = dims[1] ?? 1
      const sum = sums.get(value) ?? new Float64Array(channels)
      const plane = data.length / channels
      for (let c = 0; c < channels; c++) {
        let total = 0
        for (let i = c * plane; i < (c + 1) * plane; i++) total += data[i] as number
        sum[c]! += total / plane / samples.length
      }
      sums.set(value, sum)
    }
  })
  return sums
}
