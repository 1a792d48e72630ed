import { type Candidate, COST, pricedBorders, sum } from './border-price.ts'
import type { Cut } from './cut.ts'
import type { Graph } from './graph.ts'
import { macsByNode } from './macs.ts'
import type { Normalised } from './normalised.ts'

export interface CutOptions {
  /** how many blocks; without it, what best trades border cost against choice */
  readonly blocks?: number | undefined
  /** is told when `blocks` could not be met exactly */
  readonly note?: ((text: string) => void) | undefined
}

/**
 * Chooses the borders at which a model is best cut, by dynamic programming over the node order.
 *
 * A border costs what it copies, and the channels that it freezes: inside a unit (expand–depthwise–project, a residual
 * branch) channels could be pruned, on a residual stream they are tied anyway. Blocks should do about equal work. There is
 * no border between a layer and its activation, nor where integers cross.
 *
 *     proposeCuts(normalised, { blocks: 4 }).length // → 3
 */
export function proposeCuts(normalised: Normalised, options: CutOptions = {}): Cut[] {
  const { model, nominal } = normalised
  const { graph } = model
  const work = macsByNode(model, nominal)
  const usual = usualBlocks(work.size)
  const candidates = pricedBorders(normalised, work)
  const wished = options.blocks === undefined ? undefined : Math.max(1, Math.round(options.blocks))
  const limit = Math.min(wished ?? Math.min(usual + 2, 10), candidates.length + 1)
  const least = wished === undefined ? Math.min(Math.max(Math.min(usual, 4), usual - 2), limit) : limit
  let best: { cost: number; cuts: Cut[] } = { cost: Number.POSITIVE_INFINITY, cuts: [] }
  for (let count = least; count <= limit; count++) {
    const found = cheapest(candidates, cumulative(graph, work), count)
    const cost = found.cost + COST.count * Math.abs(count - usual)
    if (cost < best.cost) best = { cost, cuts: found.cuts }
  }
  if (wished !== undefined && best.cuts.length + 1 !== wished) {
    options.note?.(`${wished} blocks were asked for; the graph can be cut into ${best.cuts.length + 1} at most`)
  }
  return best.cuts
}

/** About one block for two or three layers, 8 for the usual mobile network, 10 at most. */
function usualBlocks(layers: number): number {
  if (layers < 8) return Math.max(1, Math.floor(layers / 2))
  return Math.min(Math.max(4, Math.round(layers / 2.4)), layers > 64 ? 10 : 8)
}

/** Work done before each position, with a little for every node, so that blocks without layers do not look empty. */
function cumulative(graph: Graph, work: ReadonlyMap<string, number>): number[] {
  const total = Math.max(1, sum(work.values()))
  const before = [0]
  for (const { name } of graph.nodes)
    before.push(before[before.length - 1]! + (work.get(name) ?? 0) + (total / graph.nodes.length) * 0.1)
  return before
}

/** The `count - 1` cuts of least cost: least[k][i] is the best way to end block k at candidate i. */
function cheapest(
  candidates: readonly Candidate[],
  before: readonly number[],
  count: number,
): { cost: number; cuts: Cut[] } {
  const end = before.length - 1
  const total = before[end]!
  const uneven = (from: number, to: number) => {
    const ratio = Math.max(1 / 16, ((before[to]! - before[from]!) * count) / total)
    // A block that does next to nothing is as useless as one that does everything is coarse.
    return (COST.imbalance * Math.max((ratio - 1) ** 2, Math.log2(ratio) ** 2 / 3)) / count
  }
  const positions = [0, ...candidates.map(({ border }) => border.position), end]
  const prices = [0, ...candidates.map(({ cost }) => cost), 0]
  const last = positions.length - 1
  let row: number[] = positions.map((_, i) => (i === 0 ? 0 : Number.POSITIVE_INFINITY))
  const from: number[][] = []
  for (let block = 1; block <= count; block++) {
    const next = positions.map(() => Number.POSITIVE_INFINITY)
    const came = positions.map(() => 0)
    for (let i = block; i <= last; i++) {
      if ((i === last) !== (block === count)) continue
      for (let j = block - 1; j < i; j++) {
        const cost = row[j]! + uneven(positions[j]!, positions[i]!) + prices[i]!
        if (cost < next[i]!) {
          next[i] = cost
          came[i] = j
        }
      }
    }
    from.push(came)
    row = next
  }
  const cuts: Cut[] = []
  for (let block = count, i = last; block > 1; block--) {
    i = from[block - 1]![i]!
    cuts.unshift(candidates[i - 1]!.border)
  }
  return { cost: row[last]!, cuts }
}
