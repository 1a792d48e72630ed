import { BlockscaleError, descendantId } from '../../base/index.ts'
import { type Graph, type Model, macsByNode } from '../../onnx/index.ts'
import type { Block, Descendant, Samples } from '../block.ts'
import { analyseChannels, type ChannelGroup, type Channels } from '../channels.ts'
import { Rows } from '../columns.ts'
import { type ConsumerStatistics, type Ranking, rankClasses, scaledBy } from '../importance.ts'
import { dot, type LinearAlgebra } from '../linear.ts'
import { scalesByBlock } from '../probe.ts'
import { type LayerReference, recordReference, rowCount } from '../reference.ts'
import { refit, weightsOf } from '../refit.ts'
import { removeChannels } from '../remove.ts'
import { chooseWidths } from '../widths.ts'

/** Fractions of the prunable operations that are kept, from light to heavy pruning. */
export const PRUNE_LEVELS = [0.75, 0.5, 0.35, 0.2] as const

/** What is the same for every level: the dependencies, the ranking of channels, what the original layers give. */
export interface PruneAnalysis {
  readonly channels: Channels
  readonly rankings: readonly Ranking[]
  readonly macsPerChannel: readonly number[]
  readonly references: ReadonlyMap<string, LayerReference>
}

/**
 * Looks once at which channels of a block can go, and how little each is missed.
 * A block with nothing to prune gives an analysis without groups.
 */
export async function analysePruning(block: Block, samples: Samples, algebra: LinearAlgebra): Promise<PruneAnalysis> {
  const { graph } = block.model
  const all = analyseChannels(graph, block.nominal)
  const consumers = [...new Set(all.groups.flatMap((group) => group.consumers))]
  const inOrder = graph.nodes.map((node) => node.outputs[0]!).filter((output) => consumers.includes(output))
  const references = await recordReference(block, samples, inOrder, algebra)
  // Channels can only be ranked, and their loss made good, where every layer that reads them was recorded.
  const groups = all.groups.filter((group) => group.consumers.every((output) => references.has(output)))
  const channels = { layout: all.layout, groups }
  const macs = macsByNode(block.model, block.nominal)
  const rankings: Ranking[] = []
  for (const group of channels.groups) {
    rankings.push(await rankClasses(await statistics(group, channels, references, graph, algebra), algebra))
  }
  const analysis = {
    channels,
    references,
    rankings,
    macsPerChannel: channels.groups.map((group) => costPerChannel(group, channels, graph, macs)),
  }
  return { ...analysis, rankings: await inTermsOfTheBlock(block, samples, analysis, algebra) }
}

/** Rankings whose losses can be compared between groups. */
async function inTermsOfTheBlock(
  block: Block,
  samples: Samples,
  analysis: PruneAnalysis,
  algebra: LinearAlgebra,
): Promise<readonly Ranking[]> {
  const { rankings } = analysis
  const sizes = analysis.channels.groups.map(({ classes }) => classes.length)
  const groups = rankings.map((ranking, g) => ({ size: sizes[g]!, ranking }))
  let references: PruneAnalysis['references'] | undefined
  const scales = await scalesByBlock(block, samples, groups, (g, width, seen) => {
    references ??= new Map([...analysis.references].map(([name, all]) => [name, onFirst(all, seen.length)]))
    const widths = sizes.map((size, index) => (index === g ? width : size))
    return pruneTo(block, seen, { ...analysis, references }, widths, algebra)
  })
  return rankings.map((ranking, g) => scaledBy(ranking, scales[g]!))
}

/** The reference of the first pictures. */
function onFirst(all: LayerReference, pictures: number): LayerReference {
  const positions = all.positions.slice(0, pictures)
  const rows = rowCount(positions)
  const targets = new Rows(rows, all.targets.width)
  targets.data.set(all.targets.data.subarray(0, targets.data.length))
  targets.rows = rows
  return { ...all, positions, targets }
}

/**
 * Makes a smaller `block` by removing the channels that are missed least and solving again every layer that read them.
 *
 * @param keep fraction of the prunable operations that is kept, in (0, 1); widths are rounded to what CPUs like
 * @returns undefined where nothing can be removed at this level
 * @see LegoDNN (MobiCom '21), descendant block generation; least-squares refit as in arXiv 1707.06168
 *
 *     (await prune(block, samples, analysis, 0.5, algebra))?.id // → 'prune50'
 */
export async function prune(
  block: Block,
  samples: Samples,
  analysis: PruneAnalysis,
  keep: number,
  algebra: LinearAlgebra,
): Promise<Descendant | undefined> {
  if (!(keep > 0 && keep < 1)) throw new BlockscaleError('USAGE', `a fraction to keep of ${keep} is not in (0, 1)`)
  const groups = analysis.channels.groups.map((group, index) => ({
    size: group.classes.length,
    ranking: analysis.rankings[index]!,
    macsPerChannel: analysis.macsPerChannel[index]!,
  }))
  const widths = chooseWidths(groups, keep)
  const model = await pruneTo(block, samples, analysis, widths, algebra)
  return (
    model && {
      block: block.id,
      id: descendantId(`prune${Math.round(100 * (1 - keep))}`),
      kind: 'prune',
      parameters: { keep, widths: widths.join(' '), of: groups.map(({ size }) => size).join(' ') },
      model,
    }
  )
}

/**
 * The block with so many channels in each group of the analysis, those that are missed least removed, and every layer that
 * read them solved again.
 *
 * @returns undefined where nothing is removed
 */
export async function pruneTo(
  block: Block,
  samples: Samples,
  { channels, rankings, references }: PruneAnalysis,
  widths: readonly number[],
  algebra: LinearAlgebra,
): Promise<Model | undefined> {
  const removed = new Set(
    channels.groups.flatMap((group, index) =>
      rankings[index]!.order.slice(0, group.classes.length - widths[index]!).map((rank) => group.classes[rank]!),
    ),
  )
  if (removed.size === 0) return undefined
  const student = removeChannels(block.model, channels, block.nominal, removed)
  const changed = [...references.values()].filter(({ input }) =>
    channels.layout.get(input)?.some((each) => removed.has(each)),
  )
  const keptOutputs = (value: string) => {
    const classes = channels.layout.get(value)
    return classes?.some((each) => removed.has(each))
      ? classes.flatMap((each, channel) => (removed.has(each) ? [] : [channel]))
      : undefined
  }
  return refit(student, samples, changed, keptOutputs, algebra)
}

/** The signature of what a descendant keeps: two levels with the same one are the same descendant. */
export const widthsOf = ({ parameters }: Pick<Descendant, 'parameters'>): string => String(parameters.widths ?? '')

async function statistics(
  group: ChannelGroup,
  channels: Channels,
  references: ReadonlyMap<string, LayerReference>,
  graph: Graph,
  algebra: LinearAlgebra,
): Promise<ConsumerStatistics[]> {
  const all: ConsumerStatistics[] = []
  for (const output of group.consumers) {
    const reference = references.get(output)
    const layer = graph.nodes.find((node) => node.outputs[0] === output)
    if (!reference || !layer) continue
    const { columnLength, outputChannels, kernel } = reference.shape
    const layout = channels.layout.get(reference.input) ?? []
    const area = kernel[0] * kernel[1]
    const weights = weightsOf(layer, graph, outputChannels, columnLength)
    all.push({
      gram: reference.gram,
      weights,
      outputs: outputChannels,
      columnLength,
      columnsOf: group.classes.map((each) =>
        layout.flatMap((id, channel) =>
          id === each ? Array.from({ length: area }, (_, k) => channel * area + k) : [],
        ),
      ),
      rows: reference.targets.rows,
      power: Math.max(dot(weights, await algebra.product(weights, reference.gram, columnLength)), 1e-12),
    })
  }
  return all
}

/** Operations of every layer that makes or reads the group's channels, for one of them. */
function costPerChannel(
  group: ChannelGroup,
  channels: Channels,
  graph: Graph,
  macs: ReadonlyMap<string, number>,
): number {
  const classes = new Set(group.classes)
  let sum = 0
  for (const node of graph.nodes) {
    const touched = [node.inputs[0] ?? '', node.outputs[0] ?? ''].map((value) => {
      const layout = channels.layout.get(value) ?? []
      return layout.length === 0 ? 0 : layout.filter((id) => classes.has(id)).length / layout.length
    })
    sum += (macs.get(node.name) ?? 0) * Math.max(...touched)
  }
  return sum / group.classes.length
}
