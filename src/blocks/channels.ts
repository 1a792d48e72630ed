import {
  type Graph,
  intAttribute,
  intsAttribute,
  isOp,
  type Node,
  stringAttribute,
  type ValueInfo,
} from '../onnx/index.ts'
import { numbersOf } from '../tensor/index.ts'

/**
 * Which channels of a block depend on each other: a channel that is removed takes with it every channel that an addition, a
 * depthwise convolution or a gate ties to it.
 *
 * Channels are positions on axis 1. Each belongs to a *class*; classes that touch a border of the block, or an operator that
 * we do not know, are frozen. What remains is free, in groups that share their layers.
 *
 * @see DepGraph (arXiv 2301.12900) for the idea of coupled channel groups
 */
export interface Channels {
  /** the class of each channel, for every value whose channels are followed */
  readonly layout: ReadonlyMap<string, readonly number[]>
  readonly groups: readonly ChannelGroup[]
}

/** Free classes that are made by the same layers and read by the same layers. */
export interface ChannelGroup {
  /** the first value that carries them */
  readonly id: string
  readonly classes: readonly number[]
  /** nodes (Conv, Gemm, MatMul) that read them, by their first output, in graph order */
  readonly consumers: readonly string[]
}

/** Operators that keep every channel where it is and mix none. */
const CHANNELWISE = new Set(
  (
    'Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu Selu Softplus Mish Gelu Erf Exp Sqrt Neg Abs Cast ' +
    'Identity Dropout MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization'
  ).split(' '),
)
const ELEMENTWISE = new Set(['Add', 'Sub', 'Mul', 'Div', 'Max', 'Min', 'Sum', 'Pow'])

export function analyseChannels(graph: Graph, nominal: ReadonlyMap<string, readonly number[]>): Channels {
  const classes = new Classes()
  const layout = new Map<string, number[]>()
  const channelsOf = (value: string): number | undefined => nominal.get(value)?.[1]
  const freeze = (value: string) => {
    for (const each of layout.get(value) ?? []) classes.freeze(each)
  }
  const fresh = (value: string, frozen: boolean) => {
    const count = channelsOf(value)
    if (count !== undefined)
      layout.set(
        value,
        Array.from({ length: count }, () => classes.create(value, frozen)),
      )
  }
  const context: Context = { graph, nominal, classes, layout, freeze, fresh }

  for (const input of graph.inputs) fresh(input.name, true)
  for (const node of graph.nodes) {
    if (!follow(node, context)) {
      for (const value of node.inputs) freeze(value)
      for (const value of node.outputs) fresh(value, true)
    }
  }
  for (const output of graph.outputs) freeze(output.name)

  const resolved = new Map([...layout].map(([value, ids]) => [value, ids.map((id) => classes.find(id))]))
  return { layout: resolved, groups: freeGroups(graph, resolved, classes) }
}

interface Context {
  readonly graph: Graph
  readonly nominal: ReadonlyMap<string, readonly number[]>
  readonly classes: Classes
  readonly layout: Map<string, number[]>
  freeze(value: string): void
  fresh(value: string, frozen: boolean): void
}

/** Carries the layout through one node; false when the node's channels cannot be followed. */
function follow(node: Node, context: Context): boolean {
  const { graph, nominal, layout } = context
  if (node.domain !== '') return false
  const [input = '', second = ''] = node.inputs
  const [output = ''] = node.outputs
  const incoming = layout.get(input)
  const dims = nominal.get(input)
  const constant = (value: string) => graph.initializers.get(value)
  const keep = () => {
    if (!incoming) return false
    layout.set(output, incoming)
    return true
  }

  if (node.op === 'Conv') {
    const weights = constant(second)
    if (!weights || (node.inputs[2] && !constant(node.inputs[2]))) return false
    const groups = intAttribute(node, 'group', 1)
    if (groups === 1) {
      context.fresh(output, false)
      return true
    }
    const [outputs = 0, perGroup = 0] = weights.dims
    if (perGroup !== 1 || !incoming || incoming.length !== groups) return false
    const multiplier = outputs / groups
    layout.set(
      output,
      Array.from({ length: outputs }, (_, channel) => incoming[Math.floor(channel / multiplier)]!),
    )
    return true
  }
  if (isLinear(node)) {
    if (!isPlainLinear(node, graph) || dims?.length !== 2) return false
    context.fresh(output, false)
    return true
  }
  if (node.op === 'BatchNormalization' && node.inputs.slice(1).some((value) => !constant(value))) return false
  if (node.op === 'PRelu' && !constant(second)) return false
  if (CHANNELWISE.has(node.op)) return node.outputs.length === 1 && keep()
  if (ELEMENTWISE.has(node.op)) return followElementwise(node, context)

  switch (node.op) {
    case 'Concat': {
      if (intAttribute(node, 'axis', 0) !== 1) return false
      const parts = node.inputs.map((value) => layout.get(value))
      if (parts.some((part) => !part) || node.inputs.some((value) => constant(value))) return false
      layout.set(
        output,
        parts.flatMap((part) => part ?? []),
      )
      return true
    }
    case 'Split': {
      const sizes = constant(second)
      if (intAttribute(node, 'axis', 0) !== 1 || !incoming || !sizes) return false
      let start = 0
      numbersOf(sizes).forEach((size, index) => {
        layout.set(node.outputs[index] ?? '', incoming.slice(start, start + size))
        start += size
      })
      return true
    }
    case 'Gather': {
      // A channel shuffle: the channels in another order.
      const indices = constant(second)
      if (intAttribute(node, 'axis', 0) !== 1 || !incoming || indices?.dims.length !== 1) return false
      const order = numbersOf(indices)
      if (order.some((index) => index < 0 || index >= incoming.length)) return false
      layout.set(
        output,
        order.map((index) => incoming[index]!),
      )
      return true
    }
    case 'Pad': {
      const pads = constant(second)
      if (!pads || !dims || node.inputs[3]) return false
      const amounts = numbersOf(pads)
      const rank = dims.length
      if (amounts[1] !== 0 || amounts[rank + 1] !== 0 || stringAttribute(node, 'mode', 'constant') === 'wrap')
        return false
      return keep()
    }
    case 'Resize':
      // Sizes would name the channel count; scales do not.
      return node.inputs[3] ? false : keep()
    case 'ReduceMean':
    case 'ReduceMax': {
      const axes = second ? constant(second) : undefined
      const list = axes ? numbersOf(axes) : intsAttribute(node, 'axes')
      const rank = dims?.length ?? 0
      if (!list || rank < 3) return false
      return list.map((axis) => (axis < 0 ? axis + rank : axis)).every((axis) => axis >= 2) && keep()
    }
    case 'Squeeze': {
      const axes = second ? constant(second) : undefined
      return !!axes && numbersOf(axes).every((axis) => axis >= 2) && keep()
    }
    case 'Flatten':
    case 'Reshape': {
      if (!incoming || !dims || !isFlattening(node, context)) return false
      const each = dims.slice(2).reduce((product, size) => product * size, 1)
      layout.set(
        output,
        incoming.flatMap((id) => Array.from({ length: each }, () => id)),
      )
      return true
    }
    default:
      return false
  }
}

/** Whether a Flatten or Reshape gives `[N, everything]`. */
export function isFlattening(node: Node, context: Pick<Context, 'nominal'>): boolean {
  if (node.op === 'Flatten') return intAttribute(node, 'axis', 1) === 1
  const from = context.nominal.get(node.inputs[0] ?? '')
  const to = context.nominal.get(node.outputs[0] ?? '')
  return !!from && to?.length === 2 && from.length > 2 && to[0] === from[0]
}

function followElementwise(node: Node, { graph, nominal, layout, classes }: Context): boolean {
  const outputDims = nominal.get(node.outputs[0] ?? '')
  if (!outputDims || outputDims.length < 2) return false
  const operands = node.inputs.filter((value) => !graph.initializers.has(value))
  const count = outputDims[1]
  let result: number[] | undefined
  for (const value of operands) {
    const ids = layout.get(value)
    if (!ids || nominal.get(value)?.length !== outputDims.length) return false
    if (ids.length !== count) {
      // One channel spread over all (a spatial gate): it stays.
      for (const id of ids) classes.freeze(id)
    } else if (result) {
      for (const [channel, id] of result.entries()) classes.unite(id, ids[channel]!)
    } else {
      result = ids
    }
  }
  if (!result) return false
  layout.set(node.outputs[0] ?? '', result)
  return true
}

/** Gemm and MatMul. */
export const isLinear = (node: Node): boolean => isOp(node, 'Gemm', 'MatMul')

/** A Gemm or MatMul of a value `[N, C]` with constant weights and nothing unusual. */
export function isPlainLinear(node: Node, graph: Graph): boolean {
  if (!graph.initializers.has(node.inputs[1] ?? '')) return false
  if (node.op === 'MatMul') return graph.initializers.get(node.inputs[1]!)!.dims.length === 2
  const alpha = node.attributes.alpha
  const beta = node.attributes.beta
  const one = (attribute: typeof alpha) => !attribute || (attribute.kind === 'float' && attribute.value === 1)
  const bias = node.inputs[2]
  return intAttribute(node, 'transA', 0) === 0 && one(alpha) && one(beta) && (!bias || graph.initializers.has(bias))
}

/** Layers whose input channels have weights that can be solved again when some are gone. */
export const isConsumer = (node: Node, graph: Graph): boolean =>
  (isOp(node, 'Conv') && intAttribute(node, 'group', 1) === 1 && graph.initializers.has(node.inputs[1] ?? '')) ||
  (isLinear(node) && isPlainLinear(node, graph))

function freeGroups(graph: Graph, layout: ReadonlyMap<string, readonly number[]>, classes: Classes): ChannelGroup[] {
  const consumersOf = new Map<number, string[]>()
  const outputs = new Set(graph.outputs.map((output: ValueInfo) => output.name))
  for (const node of graph.nodes) {
    if (!isConsumer(node, graph)) continue
    for (const id of new Set(layout.get(node.inputs[0] ?? '') ?? [])) {
      const list = consumersOf.get(id)
      if (list) list.push(node.outputs[0]!)
      else consumersOf.set(id, [node.outputs[0]!])
    }
  }
  const groups = new Map<string, { id: string; classes: number[]; consumers: string[] }>()
  const seen = new Set<number>()
  for (const [value, ids] of layout) {
    if (outputs.has(value)) continue
    for (const id of ids) {
      if (seen.has(id)) continue
      seen.add(id)
      const consumers = consumersOf.get(id)
      if (classes.isFrozen(id) || !consumers) continue
      const key = `${classes.makers(id).join(' ')} → ${consumers.join(' ')}`
      const group = groups.get(key)
      if (group) group.classes.push(id)
      else groups.set(key, { id: value, classes: [id], consumers })
    }
  }
  return [...groups.values()].filter((group) => group.classes.length > 1)
}

/** Union–find over channels, with a mark for what must stay. */
class Classes {
  private readonly parent: number[] = []
  private readonly frozen: boolean[] = []
  private readonly made: Set<string>[] = []

  create(maker: string, frozen: boolean): number {
    this.parent.push(this.parent.length)
    this.frozen.push(frozen)
    this.made.push(new Set([maker]))
    return this.parent.length - 1
  }

  find(id: number): number {
    let root = id
    while (this.parent[root] !== root) root = this.parent[root]!
    this.parent[id] = root
    return root
  }

  unite(a: number, b: number): void {
    const [low, high] = [this.find(a), this.find(b)].sort((x, y) => x - y) as [number, number]
    if (low === high) return
    this.parent[high] = low
    this.frozen[low] = this.frozen[low]! || this.frozen[high]!
    for (const maker of this.made[high]!) this.made[low]!.add(maker)
  }

  freeze(id: number): void {
    this.frozen[this.find(id)] = true
  }

  isFrozen = (id: number): boolean => this.frozen[this.find(id)]!
  makers = (id: number): string[] => [...this.made[this.find(id)]!].sort()
}
