import { type Graph, intsAttribute, isOp, type Node, wiring } from '../onnx/index.ts'
import type { Block } from './block.ts'

/** A run of layers from one value to another that nobody looks into: one layer could stand in for it. */
export interface Branch {
  readonly from: string
  /** what the last layer gives */
  readonly output: string
  /** in graph order; the last makes `output` */
  readonly nodes: readonly Node[]
  /** whether `from` is added to `output` right behind it */
  readonly residual: boolean
  /** how many positions of `from` go into one of `output` */
  readonly strides: readonly [number, number]
}

const PASSING = 'Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu'.split(' ')
/** An inverted residual has three convolutions; longer runs are too much for one layer. */
const MOST_CONVOLUTIONS = 3

/**
 * The branches of a block: residual ones in full (whatever is added to its own start), else two convolutions, or three with
 * a depthwise one in the middle.
 */
export function branchesOf(block: Block): Branch[] {
  const { graph } = block.model
  const { producer, consumers } = wiring(graph)
  const ends = new Set(graph.outputs.map(({ name }) => name))
  const found: Branch[] = []
  const taken = new Set<Node>()
  for (const last of [...graph.nodes].reverse()) {
    if (!isPlainConv(last, graph) || taken.has(last)) continue
    const output = last.outputs[0]!
    const shortcut = shortcutInto(output)
    const nodes = [last]
    let from = last.inputs[0]!
    let whole: { from: string; count: number } | undefined
    while (from !== shortcut) {
      const convolutions = nodes.filter((each) => isOp(each, 'Conv'))
      const complete = convolutions.length >= 2 && isPlainConv(nodes[nodes.length - 1]!, graph)
      if (complete && !shortcut) whole = { from, count: nodes.length }
      if (convolutions.length >= MOST_CONVOLUTIONS) break
      const index = producer.get(from)
      const maker = index === undefined ? undefined : graph.nodes[index]!
      const shared = (consumers.get(from) ?? []).length > 1 || ends.has(from)
      if (!maker || shared || taken.has(maker) || !(isConv(maker, graph) || isPassing(maker, graph))) break
      nodes.push(maker)
      from = maker.inputs[0]!
    }
    const residual = from === shortcut
    if (residual && nodes.filter((each) => isOp(each, 'Conv')).length >= 2) whole = { from, count: nodes.length }
    if (!whole) continue
    const chosen = nodes.slice(0, whole.count).reverse()
    const strides = strideOf(chosen)
    for (const each of chosen) taken.add(each)
    found.unshift({ from: whole.from, output, nodes: chosen, residual, strides })
  }
  return found

  function shortcutInto(value: string): string | undefined {
    const readers = consumers.get(value) ?? []
    const reader = readers.length === 1 && !ends.has(value) ? graph.nodes[readers[0]!] : undefined
    if (!reader || !isOp(reader, 'Add')) return undefined
    return reader.inputs.find((input) => input !== value && !graph.initializers.has(input))
  }
}

const isConv = (node: Node, graph: Graph): boolean =>
  isOp(node, 'Conv') && (graph.initializers.get(node.inputs[1] ?? '')?.dims.length ?? 0) === 4

const isPlainConv = (node: Node, graph: Graph): boolean =>
  isConv(node, graph) && !(node.attributes.group?.kind === 'int' && node.attributes.group.value > 1)

const isPassing = (node: Node, graph: Graph): boolean =>
  isOp(node, ...PASSING) && node.inputs.slice(1).every((input) => input === '' || graph.initializers.has(input))

function strideOf(nodes: readonly Node[]): [number, number] {
  let [height, width] = [1, 1]
  for (const node of nodes) {
    const [a = 1, b = 1] = isOp(node, 'Conv') ? (intsAttribute(node, 'strides') ?? []) : []
    height *= a
    width *= b
  }
  return [height, width]
}
