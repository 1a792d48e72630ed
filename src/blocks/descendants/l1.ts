import { descendantId } from '../../base/index.ts'
import { openSession } from '../../engine/index.ts'
import { type Graph, isOp, type Model, writeModel } from '../../onnx/index.ts'
import { distill, stacked } from '../../trainer/index.ts'
import type { Block, Descendant, Samples, Tensors } from '../block.ts'
import { analyseChannels, type Channels } from '../channels.ts'
import { removeChannels } from '../remove.ts'
import { candidateWidths } from '../widths.ts'

/** Shares of the filters that LegoDNN takes out of every layer of a block, one for each descendant. */
export const L1_LEVELS = [0.2, 0.4, 0.6, 0.8] as const

/** Steps of distillation that each descendant gets, and the samples of a step. */
const LEARNING = { steps: 60, batch: 16, rate: 1e-3 }

/**
 * LegoDNN's recipe, the baseline that others are measured against: the filters with the least absolute weights are taken out
 * of every layer alike, then the block learns to give what the original gives, on recorded inputs.
 *
 * Widths are rounded to what CPUs like, as for every other kind, and the better of start and learnt is kept.
 *
 * @param share of the filters of each layer that goes, in (0, 1)
 * @returns undefined where nothing can be removed at this level
 * @throws BlockscaleError MODEL_UNSUPPORTED when an operator of the block has no gradient
 * @see LegoDNN (MobiCom '21), section 4: descendant block generation and retraining; filter choice as in arXiv 1608.08710
 */
export async function pruneByL1(block: Block, samples: Samples, share: number): Promise<Descendant | undefined> {
  const channels = analyseChannels(block.model.graph, block.nominal)
  const widths = channels.groups.map(({ classes }) => nearestWidth(classes.length, (1 - share) * classes.length))
  if (widths.every((width, group) => width === channels.groups[group]!.classes.length)) return undefined
  const model = leastWeightsRemoved(block, channels, widths)
  const learnt = await distill(model, await pairsOf(block, samples), LEARNING)
  return {
    block: block.id,
    id: descendantId(`l1-${Math.round(100 * share)}`),
    kind: 'l1-distill',
    parameters: { share, widths: widths.join(' '), steps: learnt.steps },
    model: learnt.model,
  }
}

const nearestWidth = (size: number, wanted: number): number =>
  candidateWidths(size).reduce((best, width) => (Math.abs(width - wanted) < Math.abs(best - wanted) ? width : best))

/** The block with so many channels in each group: those stay whose own filters have the greatest sums of absolute weights. */
export function leastWeightsRemoved({ model, nominal }: Block, channels: Channels, widths: readonly number[]): Model {
  const removed = new Set<number>()
  channels.groups.forEach(({ classes }, group) => {
    const norms = filterNorms(model.graph, channels, new Set(classes))
    const order = [...classes].sort((a, b) => norms.get(a)! - norms.get(b)!)
    for (const gone of order.slice(0, classes.length - widths[group]!)) removed.add(gone)
  })
  return removeChannels(model, channels, nominal, removed)
}

/** Σ|w| of the filters that make each class, over all layers that make it. */
function filterNorms(graph: Graph, channels: Channels, classes: ReadonlySet<number>): ReadonlyMap<number, number> {
  const norms = new Map([...classes].map((each) => [each, 0]))
  for (const node of graph.nodes) {
    const layout = channels.layout.get(node.outputs[0] ?? '')
    const weights = graph.initializers.get(node.inputs[1] ?? '')
    if (!isOp(node, 'Conv') || !layout || !weights) continue
    const each = weights.data.length / layout.length
    layout.forEach((id, channel) => {
      if (!classes.has(id)) return
      const filter = (weights.data as Float32Array).subarray(channel * each, (channel + 1) * each)
      norms.set(id, norms.get(id)! + filter.reduce((sum, weight) => sum + Math.abs(weight), 0))
    })
  }
  return norms
}

/** Inputs of a block with the outputs that the original makes of them, along one axis of samples. */
async function pairsOf(block: Block, samples: Samples) {
  const session = await openSession(writeModel(block.model))
  try {
    const targets: Tensors[] = []
    for (const sample of samples) targets.push(await session.run(sample))
    return { inputs: stacked(samples), targets: stacked(targets) }
  } finally {
    await session.release()
  }
}
