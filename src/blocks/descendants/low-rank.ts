import { descendantId } from '../../base/index.ts'
import { check, freshNames, type Graph, isOp, type Model, type Node, node } from '../../onnx/index.ts'
import { floats } from '../../tensor/index.ts'
import type { Block, Descendant, Samples } from '../block.ts'
import { isConsumer } from '../channels.ts'
import { scaledBy } from '../importance.ts'
import type { LinearAlgebra } from '../linear.ts'
import { PROBED, scalesByBlock } from '../probe.ts'
import { channelSplit, type Pair, type Split, spatialSplit } from '../rank-splits.ts'

import { recordReference, recordTargets, type WantedLayer } from '../reference.ts'
import { refit, weightsOf } from '../refit.ts'
import { chooseWidths } from '../widths.ts'

/** Fractions of the operations of the layers that can be split which are kept. */
export const RANK_LEVELS = [0.65, 0.4, 0.25] as const
/** Narrower layers gain nothing from a second one; wider ones take minutes to analyse. */
const LEAST_CHANNELS = 32
const MOST_CHANNELS = 1024

/** Looks once at how each dense layer can be split: one or two ways for each. */
export async function analyseRanks(
  block: Block,
  samples: Samples,
  algebra: LinearAlgebra,
): Promise<readonly (readonly Split[])[]> {
  const { graph } = block.model
  const layers = graph.nodes.filter((each) => isConsumer(each, graph) && isSplittable(each, graph))
  const references = await recordReference(
    block,
    samples,
    layers.map((each) => each.outputs[0]!),
    algebra,
  )
  const found: Split[][] = []
  for (const layer of layers) {
    const reference = references.get(layer.outputs[0]!)
    if (!reference) continue
    const { columnLength, outputChannels } = reference.shape
    const weights = weightsOf(layer, graph, outputChannels, columnLength)
    const dims = (name: string) => block.nominal.get(name) ?? []
    const seen = { layer, reference, weights, from: dims(layer.inputs[0]!), to: dims(layer.outputs[0]!) }
    const spatial = await spatialSplit(seen, algebra)
    found.push([await channelSplit(seen, algebra), ...(spatial ? [spatial] : [])])
  }
  const probed = found.map((ways) => betterAt(PROBED, ways))
  const scales = await scalesByBlock(
    block,
    samples,
    probed.map(({ cost }) => cost),
    async (i, rank, seen) => (await splitTo(block, seen, [{ split: probed[i]!, rank }], algebra)).model,
  )
  const scaled = (split: Split, i: number): Split => {
    const { cost } = split
    return { ...split, cost: { ...cost, ranking: scaledBy(cost.ranking, scales[i]!) } }
  }
  return found.map((ways, i) => ways.map((way) => scaled(way, i)))
}

const isSplittable = (layer: Node, graph: Graph): boolean => {
  const { dims } = graph.initializers.get(layer.inputs[1]!)!
  const [a = 0, b = 0] = dims
  return (
    Math.min(a, b) >= LEAST_CHANNELS &&
    Math.max(a, b) <= (isOp(layer, 'Conv') ? MOST_CHANNELS : 2 * MOST_CHANNELS) &&
    outputsOf(layer, a, b) <= MOST_CHANNELS
  )
}

const outputsOf = (layer: Node, a: number, b: number): number =>
  isOp(layer, 'Conv') || (layer.attributes.transB?.kind === 'int' && layer.attributes.transB.value === 1) ? a : b

/** The way that loses less where the layer keeps this share of its operations. */
const betterAt = (keep: number, ways: readonly Split[]): Split => {
  const loss = ({ cost: { size, ranking } }: Split) => ranking.loss[size - Math.floor(keep * size)]!
  return ways.reduce((best, each) => (loss(each) < loss(best) ? each : best))
}

/**
 * Splits dense layers in two, by the channels of their outputs or by the axes of their windows, whichever loses less: the first gives the
 * strongest directions on real inputs, the second brings them back and is solved by least squares on what the changed block delivers.
 *
 * @param layers the ways of each, as `analyseRanks` gives them
 * @param keep fraction of the operations of the layers that can be split, in (0, 1); each layer takes its share by sensitivity
 * @returns undefined where no layer gains from it
 */
export async function lowRank(
  block: Block,
  samples: Samples,
  layers: readonly (readonly Split[])[],
  keep: number,
  algebra: LinearAlgebra,
): Promise<Descendant | undefined> {
  const splits = layers.map((ways) => betterAt(keep, ways))
  const ranks = chooseWidths(
    splits.map(({ cost }) => cost),
    keep,
  )
  const taken = splits.flatMap((split, i) => (ranks[i]! < split.cost.size ? [{ split, rank: ranks[i]! }] : []))
  if (taken.length === 0) return undefined
  const { model, added } = await splitTo(block, samples, taken, algebra)
  return {
    block: block.id,
    id: descendantId(`rank${Math.round(100 * keep)}`),
    kind: 'low-rank',
    parameters: {
      keep,
      layers: taken.map(({ split }) => split.reference.output).join(' '),
      ways: taken.map(({ split }) => split.way).join(' '),
      ranks: taken.map(({ rank }) => rank).join(' '),
    },
    model,
    added,
  }
}

/** The block with layers split at these ranks, solved again; and the shapes of what is between the two halves. */
async function splitTo(
  block: Block,
  samples: Samples,
  taken: readonly { readonly split: Split; readonly rank: number }[],
  algebra: LinearAlgebra,
): Promise<Required<Pick<Descendant, 'model' | 'added'>>> {
  let { model } = block
  const wanted: WantedLayer[] = []
  const added = new Map<string, readonly number[]>()
  for (const { split, rank } of taken) {
    const { output } = split.reference
    const made = await split.pair(rank)
    model = splitLayer(model, split.layer, made)
    wanted.push({ output, input: directionsOf(output), shape: made.shape })
    const [batch = 1] = block.nominal.get(output) ?? []
    added.set(directionsOf(output), [batch, rank, ...made.plane])
  }
  const targets = await recordTargets(block, samples, wanted)
  return { model: await refit(model, samples, targets, () => undefined, algebra), added }
}

/** What makes two of them the same. */
export const ranksOf = ({ parameters: { layers, ways, ranks } }: Pick<Descendant, 'parameters'>): string =>
  `${layers}: ${ways}: ${ranks}`

const directionsOf = (output: string): string => `${output}/directions`

function splitLayer(model: Model, layer: Node, { first, second }: Pair): Model {
  const output = layer.outputs[0]!
  const initializers = new Map(model.graph.initializers)
  const fresh = freshNames(model.graph)
  const constant = (wish: string, { dims, data }: Pair['first']) => {
    const name = fresh(wish)
    initializers.set(name, floats(dims, data))
    return name
  }
  const middle = directionsOf(output)
  const bias = layer.inputs[2] ? [layer.inputs[2]] : []
  const op = isOp(layer, 'Conv') ? 'Conv' : 'Gemm'
  const pair = [
    node(op, [layer.inputs[0]!, constant(`${output}/down`, first)], [middle], first.attributes),
    node(op, [middle, constant(`${output}/up`, second), ...bias], [output], second.attributes),
  ]
  const nodes = model.graph.nodes.flatMap((each) => (each.outputs[0] === output ? pair : [each]))
  const read = new Set(nodes.flatMap((each) => each.inputs))
  for (const name of [...initializers.keys()]) if (!read.has(name)) initializers.delete(name)
  return check({ ...model, graph: { ...model.graph, nodes, initializers, facts: new Map() } })
}
