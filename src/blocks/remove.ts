import { check, type Graph, int, isOp, type Model, type Node } from '../onnx/index.ts'
import { allocate, elementCount, longs, type NumericType, numbersOf, type Tensor } from '../tensor/index.ts'
import { type Channels, isFlattening, isLinear } from './channels.ts'

/**
 * The graph without the channels of the given classes: every weight, bias, slope and size that speaks of them is cut down.
 * What remains of each weight keeps its value; see `recover` for making good what is lost.
 */
export function removeChannels(
  model: Model,
  channels: Channels,
  nominal: ReadonlyMap<string, readonly number[]>,
  removed: ReadonlySet<number>,
): Model {
  const { graph } = model
  const initializers = new Map(graph.initializers)
  const kept = (value: string): number[] | undefined => {
    const classes = channels.layout.get(value)
    if (!classes?.some((each) => removed.has(each))) return undefined
    return classes.flatMap((each, channel) => (removed.has(each) ? [] : [channel]))
  }
  /** Puts a changed copy of a constant beside the others: another node may read the whole one. */
  const changed = (name: string, owner: Node, value: Tensor): string => {
    const fresh = `${name}/of/${owner.outputs[0]}`
    initializers.set(fresh, value)
    return fresh
  }
  const sliced = (node: Node, position: number, axis: number, keep: readonly number[] | undefined): string => {
    const name = node.inputs[position] ?? ''
    const value = initializers.get(name)
    if (!keep || !value || value.dims[axis] === undefined || value.dims[axis] === 1) return name
    return changed(name, node, take(value, axis, keep))
  }

  const nodes = graph.nodes.map((node): Node => {
    const [input = ''] = node.inputs
    const [output = ''] = node.outputs
    const before = kept(input)
    const after = kept(output)
    if (!before && !after && !node.outputs.some(kept)) return node
    if (isOp(node, 'Conv')) {
      const depthwise =
        (graph.initializers.get(node.inputs[1]!)?.dims[1] ?? 0) === 1 &&
        before !== undefined &&
        after !== undefined &&
        isGrouped(node)
      const rows = sliced(node, 1, 0, after)
      const both = depthwise ? rows : sliced({ ...node, inputs: [input, rows] }, 1, 1, before)
      const inputs = [input, both, ...(node.inputs[2] ? [sliced(node, 2, 0, after)] : [])]
      return depthwise
        ? { ...node, inputs, attributes: { ...node.attributes, group: int(before.length) } }
        : { ...node, inputs }
    }
    if (isLinear(node)) {
      const transposed = node.attributes.transB?.kind === 'int' && node.attributes.transB.value === 1
      const rows = sliced(node, 1, transposed ? 0 : 1, after)
      const both = sliced({ ...node, inputs: [input, rows] }, 1, transposed ? 1 : 0, before)
      const bias = node.inputs[2]
      const biasAxis = (initializers.get(bias ?? '')?.dims.length ?? 1) - 1
      return { ...node, inputs: [input, both, ...(bias ? [sliced(node, 2, biasAxis, after)] : [])] }
    }
    if (isOp(node, 'BatchNormalization')) {
      return { ...node, inputs: [input, ...[1, 2, 3, 4].map((position) => sliced(node, position, 0, after))] }
    }
    if (isOp(node, 'Split')) {
      const sizes = node.outputs.map((each) => channels.layout.get(each)?.filter((id) => !removed.has(id)).length ?? 0)
      return { ...node, inputs: [input, changed(node.inputs[1]!, node, longs(sizes))] }
    }
    if (isOp(node, 'Gather')) {
      const position = new Map(before?.map((channel, index) => [channel, index]))
      const order = numbersOf(graph.initializers.get(node.inputs[1]!)!).flatMap(
        (channel) => position.get(channel) ?? [],
      )
      return { ...node, inputs: [input, changed(node.inputs[1]!, node, longs(order))] }
    }
    if (isOp(node, 'Reshape') && isFlattening(node, { nominal })) {
      return { ...node, inputs: [input, changed(node.inputs[1]!, node, longs([0, -1]))] }
    }
    // Elementwise constants and slopes: their axis that meets the channels, counted from the right.
    const rank = nominal.get(output)?.length ?? 0
    return {
      ...node,
      inputs: node.inputs.map((name, position) => {
        const constant = graph.initializers.get(name)
        if (!constant || isOp(node, 'Clip', 'Pad', 'Resize', 'Squeeze', 'ReduceMean', 'ReduceMax')) return name
        const axis = constant.dims.length - (rank - 1)
        return axis >= 0 ? sliced(node, position, axis, after) : name
      }),
    }
  })
  return check({ ...model, graph: withoutUnused({ ...graph, nodes, initializers, facts: new Map() }) })
}

const isGrouped = (node: Node): boolean => node.attributes.group?.kind === 'int' && node.attributes.group.value > 1

function withoutUnused(graph: Graph): Graph {
  const read = new Set(graph.nodes.flatMap((node) => node.inputs))
  return { ...graph, initializers: new Map([...graph.initializers].filter(([name]) => read.has(name))) }
}

/** The slices `keep` of a tensor along an axis, in that order. */
export function take(value: Tensor, axis: number, keep: readonly number[]): Tensor {
  const size = value.dims[axis]!
  const inner = elementCount(value.dims.slice(axis + 1))
  const outer = elementCount(value.dims.slice(0, axis))
  const dims = value.dims.map((dim, index) => (index === axis ? keep.length : dim))
  const data = allocate(value.type as NumericType, outer * keep.length * inner)
  const from = value.data as Float32Array
  const to = data as Float32Array
  for (let o = 0; o < outer; o++) {
    for (let k = 0; k < keep.length; k++) {
      const start = (o * size + keep[k]!) * inner
      to.set(from.subarray(start, start + inner), (o * keep.length + k) * inner)
    }
  }
  return { type: value.type, dims, data } as Tensor
}
