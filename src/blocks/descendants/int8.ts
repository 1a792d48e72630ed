import { descendantId, spread } from '../../base/index.ts'
import { type Graph, isOp, type Model, type Node, wiring } from '../../onnx/index.ts'
import { correctBiases } from '../bias-correction.ts'
import type { Block, Descendant, Samples } from '../block.ts'
import { roundTogether } from '../compensate.ts'
import { equalise } from '../equalise.ts'
import type { IntegerSums } from '../integer-weights.ts'
import type { LinearAlgebra } from '../linear.ts'
import { insertPairs, isWeighted } from '../qdq.ts'
import { type RangeShares, rangesAt, searchRanges } from '../range-search.ts'
import { observe, type QuantisationRange } from '../ranges.ts'
import { outputError } from '../verify.ts'

export interface Int8Options {
  /** ranges of the border values, shared by all int8 descendants on both sides of a border */
  readonly borders: ReadonlyMap<string, QuantisationRange>
  /** layers (by their first output) that stay in float */
  readonly keepFloat?: ReadonlySet<string>
  /** values of the model's own outputs: they leave in float */
  readonly finalOutputs: ReadonlySet<string>
  /** how the CPU adds 8-bit products */
  readonly sums: IntegerSums
  /** what was found best for a relative of this block; tried out unless given */
  readonly manner?: Int8Manner | undefined
}

/** The ranges that were found best, and whether channels are brought to the same range first. */
export interface Int8Manner {
  readonly shares: RangeShares
  readonly equalised: boolean
}

/** The manner in which a descendant was quantised; none for one in float. */
export function mannerIn({ ranges, equalised }: Descendant['parameters']): Int8Manner | undefined {
  const shares = typeof ranges === 'string' ? sharesIn(ranges) : undefined
  return shares && { shares, equalised: equalised === 1 }
}

const written = (shares: RangeShares): string => JSON.stringify(Object.fromEntries(shares))

function sharesIn(text: string): RangeShares | undefined {
  try {
    const entries = Object.entries(JSON.parse(text) as Record<string, unknown>)
    return new Map(entries.flatMap(([value, share]) => (isShare(share) ? [[value, share] as const] : [])))
  } catch {
    return undefined
  }
}

const isShare = (value: unknown): value is number => typeof value === 'number' && value > 0 && value <= 1

/** Pictures on which it is compared whether equalised channels are better. */
const COMPARED_PICTURES = 24

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
  from: Pick<Descendant, 'model' | 'parameters'> & Partial<Pick<Descendant, 'id' | 'kind' | 'added'>>,
  samples: Samples,
  algebra: LinearAlgebra,
  options: Int8Options,
): Promise<Int8Descendant | undefined> {
  const compared = spread(samples, COMPARED_PICTURES)
  let best: { plan: Plan; manner: Int8Manner; error: number } | undefined
  for (const equalised of options.manner ? [options.manner.equalised] : [true, false]) {
    const model = equalised ? await equalise(from.model, samples) : from.model
    if (equalised && model === from.model && !options.manner) continue
    const found = await plan(model, samples, best?.manner.shares, options)
    if (!found) continue
    const candidate = { ...found.plan, model }
    const error = options.manner ? 0 : await outputError(block.model, insertPairs(model, candidate), compared)
    if (!best || error < best.error) best = { plan: candidate, manner: { shares: found.shares, equalised }, error }
  }
  if (!best) return undefined
  const { plan: chosen, manner } = best
  const corrections = new Map<string, Float32Array>()
  const layers = chosen.model.graph.nodes.filter(
    (each) => chosen.chosen.has(each) && isWeighted(each, chosen.model.graph),
  )
  const rounded = await roundTogether(chosen.model, layers, samples, block.nominal, options.sums, algebra)
  const build = () => insertPairs(chosen.model, { ...chosen, corrections, rounded })
  await correctBiases(chosen.model, build, layers, samples, block.nominal, corrections)
  return {
    block: block.id,
    id: descendantId(from.id ? `${from.id}-int8` : 'int8'),
    kind: !from.kind ? 'int8' : from.kind === 'prune' ? 'prune-int8' : from.kind,
    parameters: {
      ...from.parameters,
      ranges: written(manner.shares),
      equalised: manner.equalised ? 1 : 0,
      ...(options.keepFloat?.size ? { float: [...options.keepFloat].join(' ') } : {}),
    },
    model: build(),
    added: from.added,
    manner,
  }
}

export interface Int8Descendant extends Descendant {
  readonly manner: Int8Manner
}

type Plan = Parameters<typeof insertPairs>[1] & { readonly model: Model }

/** What is to be quantised, and with which ranges; undefined where no layer can be. */
async function plan(
  model: Model,
  samples: Samples,
  near: RangeShares | undefined,
  options: Int8Options,
): Promise<{ readonly plan: Parameters<typeof insertPairs>[1]; readonly shares: RangeShares } | undefined> {
  const { graph } = model
  const chosen = chooseNodes(graph, options)
  if (!graph.nodes.some((each) => chosen.has(each) && isWeighted(each, graph))) return undefined
  const values = quantisedValues(graph, chosen, options)
  const { fixed, sharedWith } = rangesToFind(graph, values, options.borders)
  const observed = await observe(model, samples, [...new Set(sharedWith.values())])
  const known = options.manner?.shares
  const search = { sharedWith, observed, fixed, known, near }
  const shares = await searchRanges(model, samples, search)
  const ranges = rangesAt(shares, search)
  return { plan: { chosen, ranges, corrections: new Map(), sums: options.sums }, shares }
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

/** Which values have the range of a border, and which share one that is to be found. */
function rangesToFind(
  graph: Graph,
  values: ReadonlySet<string>,
  borders: Int8Options['borders'],
): { readonly fixed: Map<string, QuantisationRange>; readonly sharedWith: Map<string, string> } {
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
  const fixed = new Map<string, QuantisationRange>()
  const sharedWith = new Map<string, string>()
  for (const value of values) {
    const border = borders.get(root(value))
    if (border) fixed.set(value, border)
    else sharedWith.set(value, root(value))
  }
  return { fixed, sharedWith }
}
