import { longs, numbersOf, type Tensor } from '../../tensor/index.ts'
import { type Graph, int, intAttribute, intsAttribute, isOp, type Model, type Node, node, wiring } from '../graph.ts'
import { freshNames, withGraph } from '../rewrite.ts'
import type { Recording } from './record.ts'

/**
 * Rows of Reshape, Transpose and Gather that only pick channels (the shuffle of ShuffleNet and its relatives) become one
 * Gather along the channel axis.
 *
 * What a row does is found by sending the positions of the tensor through it, not by its looks. The Gather says the same
 * for every batch and size, while the row has usually been exported for one; it moves the same bytes.
 */
export function selectChannels(model: Model, { shapes, contents }: Recording): Model {
  const { graph } = model
  const { producer, consumers } = wiring(graph)
  const initializers = new Map(graph.initializers)
  const fresh = freshNames(graph)
  const ends = new Set(graph.outputs.map(({ name }) => name))
  const constant = (value: string | undefined) => graph.initializers.get(value ?? '') ?? contents.get(value ?? '')
  const nodes = graph.nodes.map((each) => {
    const output = each.outputs[0]!
    const readers = (consumers.get(output) ?? []).map((index) => graph.nodes[index]!)
    if (!isMove(each) || (!ends.has(output) && readers.length > 0 && readers.every(isMove))) return each
    const row = rowBehind(each, graph, producer)
    const root = row[0]!.inputs[0]!
    const [before, after] = [shapes.get(root), shapes.get(output)]
    if (row.length < 2 || !before || !after || !sameMaps(before, after)) return each
    const picked = channelsPicked(row, before, constant)
    if (!picked) return each
    const indices = fresh(`${output}_channels`)
    initializers.set(indices, longs(picked))
    return { ...node('Gather', [root, indices], [output], { axis: int(1) }), name: each.name }
  })
  return withGraph(model, { nodes, initializers })
}

const isMove = (each: Node): boolean => isOp(each, 'Reshape', 'Transpose', 'Gather', 'Squeeze', 'Unsqueeze', 'Flatten')

/** The row of moves that ends in `last`, from its beginning. */
function rowBehind(last: Node, graph: Graph, producer: ReadonlyMap<string, number>): readonly Node[] {
  const row = [last]
  for (;;) {
    const index = producer.get(row[0]!.inputs[0]!)
    const before = index === undefined ? undefined : graph.nodes[index]!
    if (!before || !isMove(before)) return row
    row.unshift(before)
  }
}

/** Both are one picture's channel maps of the same height and width. */
const sameMaps = (one: readonly number[], other: readonly number[]): boolean =>
  one.length === 4 && other.length === 4 && one[0] === 1 && other[0] === 1 && one[2] === other[2] && one[3] === other[3]

interface Positions {
  readonly dims: readonly number[]
  readonly data: Int32Array
}

/** The input channel of each output channel, if that is all that the row does. */
function channelsPicked(
  row: readonly Node[],
  dims: readonly number[],
  constant: (value: string | undefined) => Tensor | undefined,
): readonly number[] | undefined {
  const area = dims[2]! * dims[3]!
  let now: Positions | undefined = { dims, data: Int32Array.from({ length: dims[1]! * area }, (_, index) => index) }
  for (const each of row) {
    now = now && moved(each, now, constant)
  }
  if (!now) return undefined
  const { data } = now
  const picked = Array.from({ length: data.length / area }, (_, channel) => Math.floor(data[channel * area]! / area))
  const exact = data.every((from, index) => from === picked[Math.floor(index / area)]! * area + (index % area))
  return exact ? picked : undefined
}

function moved(
  each: Node,
  { dims, data }: Positions,
  constant: (value: string | undefined) => Tensor | undefined,
): Positions | undefined {
  if (isOp(each, 'Transpose')) {
    const perm = intsAttribute(each, 'perm') ?? dims.map((_, axis) => dims.length - 1 - axis)
    return transposed(dims, data, perm)
  }
  if (isOp(each, 'Gather')) {
    const indices = constant(each.inputs[1])
    return indices && gathered(dims, data, numbersOf(indices), indices.dims, intAttribute(each, 'axis', 0))
  }
  if (isOp(each, 'Reshape')) {
    const target = constant(each.inputs[1])
    if (!target || intAttribute(each, 'allowzero', 0) !== 0) return undefined
    const sizes = numbersOf(target).map((size, axis) => (size === 0 ? dims[axis]! : size))
    const known = sizes.reduce((product, size) => (size === -1 ? product : product * size), 1)
    return { dims: sizes.map((size) => (size === -1 ? data.length / known : size)), data }
  }
  // Squeeze, Unsqueeze and Flatten keep the order; the shape only matters to what follows, so leave those rows alone.
  return undefined
}

function transposed(dims: readonly number[], data: Int32Array, perm: readonly number[]): Positions {
  const strides = dims.map((_, axis) => dims.slice(axis + 1).reduce((product, dim) => product * dim, 1))
  const sizes = perm.map((axis) => dims[axis]!)
  const steps = perm.map((axis) => strides[axis]!)
  const at = sizes.map(() => 0)
  let from = 0
  const result = new Int32Array(data.length)
  for (let index = 0; index < result.length; index++) {
    result[index] = data[from]!
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      at[axis]!++
      from += steps[axis]!
      if (at[axis]! < sizes[axis]!) break
      from -= steps[axis]! * sizes[axis]!
      at[axis] = 0
    }
  }
  return { dims: sizes, data: result }
}

function gathered(
  dims: readonly number[],
  data: Int32Array,
  indices: readonly number[],
  shape: readonly number[],
  given: number,
): Positions {
  const axis = given < 0 ? given + dims.length : given
  const size = dims[axis]!
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const outer = data.length / size / inner
  const result = new Int32Array(outer * indices.length * inner)
  for (let block = 0; block < outer; block++) {
    indices.forEach((index, position) => {
      const from = (block * size + (index < 0 ? index + size : index)) * inner
      result.set(data.subarray(from, from + inner), (block * indices.length + position) * inner)
    })
  }
  return { dims: [...dims.slice(0, axis), ...shape, ...dims.slice(axis + 1)], data: result }
}
