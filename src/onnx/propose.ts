import { borders } from './borders.ts'
import type { Border, Cut } from './cut.ts'
import { type Graph, type Node, subgraphs, wiring } from './graph.ts'
import { macsByNode } from './macs.ts'
import type { Normalised } from './normalised.ts'
import { factOf } from './rewrite.ts'

export interface CutOptions {
  /** how many blocks; without it, what best trades border cost against choice */
  readonly blocks?: number | undefined
  /** is told when `blocks` could not be met exactly */
  readonly note?: ((text: string) => void) | undefined
}

/** All costs are in the same unit: the share of the model's work that a border wastes or freezes. */
const COST = {
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
  const candidates = priced(normalised, work)
  const wished = options.blocks
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

interface Candidate {
  readonly border: Border
  readonly cost: number
}

/** The borders where a cut is allowed, with what each costs. */
function priced(normalised: Normalised, work: ReadonlyMap<string, number>): Candidate[] {
  const { graph } = normalised.model
  const total = Math.max(1, sum(work.values()))
  const frozen = frozenShare(graph, work, total)
  const all = borders(normalised)
  const written = Math.max(1, layerBytes(normalised))
  return all
    .filter(({ values }) => values.every((value) => mayCross(graph, value)))
    .map((border) => ({
      border,
      cost:
        COST.border +
        COST.tensor * Math.max(0, border.values.length - 1) +
        COST.bytes * (border.bytes / written) +
        COST.frozen * sum(border.values.map(frozen)),
    }))
}

const sum = (numbers: Iterable<number>): number => {
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

/** Whether a value may be handed from one block to another. */
const crossing = new WeakMap<Graph, ReadonlySet<string>>()
function mayCross(graph: Graph, value: string): boolean {
  let barred = crossing.get(graph)
  if (!barred) {
    barred = barredValues(graph)
    crossing.set(graph, barred)
  }
  return !barred.has(value)
}

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
