import { longs, numbersOf } from '../../tensor/index.ts'
import {
  type Graph,
  int,
  intAttribute,
  intsAttribute,
  isOp,
  type Model,
  type Node,
  node,
  stringAttribute,
  valuesRead,
  wiring,
} from '../graph.ts'
import { freshNames, removeDead, replaceValues, sortNodes, withGraph } from '../rewrite.ts'

type Shapes = ReadonlyMap<string, readonly number[]>

/**
 * Says in terms of the graph what an exporter wrote as the numbers of one input size: an AveragePool over the whole map is
 * a GlobalAveragePool, a Resize or Reshape to the height and width of a tensor asks that tensor for them, an Expand to
 * what broadcasting does anyway goes.
 *
 * At the size of the file nothing changes, and where the graph turns out to run at no other size, folding brings the
 * numbers back.
 */
export function openSizes(model: Model, shapes: Shapes): Model {
  const plain = withoutIdleResizes(model.graph, shapes)
  const initializers = new Map(plain.initializers)
  const { producer, consumers } = wiring(plain)
  const fresh = freshNames(plain)
  const constant = (wish: string, values: readonly number[]) => {
    const name = fresh(wish)
    initializers.set(name, longs(values))
    return name
  }
  /** Nodes that make the dims from `start` up to `end` of a value. */
  const dimsOf = (value: string, start: number, end: number, wish: string): readonly [string, readonly Node[]] => {
    const [shape, part] = [fresh(`${wish}_shape`), fresh(`${wish}_dims`)]
    const range = [constant(`${wish}_from`, [start]), constant(`${wish}_to`, [end])]
    return [part, [node('Shape', [value], [shape]), node('Slice', [shape, ...range], [part])]]
  }
  const nodes = plain.nodes.flatMap((each, index): readonly Node[] => {
    const [input, output] = [each.inputs[0]!, each.outputs[0]!]
    const [from, to] = [shapes.get(input), shapes.get(output)]
    if (!from || !to || to.length !== 4) return [each]
    if (isOp(each, 'AveragePool') && coversAll(each, from, to))
      return [{ ...each, op: 'GlobalAveragePool', attributes: {} }]
    if (isOp(each, 'Resize') && from[0] === to[0] && from[1] === to[1]) {
      const sizes = plain.initializers.get(each.inputs[3] ?? '')
      const like = sizes && sizeGiver(plain, shapes, consumers, producer, index)
      if (!like) return [each]
      const [front, before] = dimsOf(input, 0, 2, `${output}_front`)
      const [back, after] = dimsOf(like, 2, 4, `${output}_back`)
      const target = fresh(`${output}_sizes`)
      const joined = node('Concat', [front, back], [target], { axis: int(0) })
      return [...before, ...after, joined, { ...each, inputs: [input, '', '', target] }]
    }
    const target = isOp(each, 'Reshape') ? plain.initializers.get(each.inputs[1]!) : undefined
    if (target) {
      const dims = numbersOf(target)
      const like = dims[2]! > 1 && dims[3]! > 1 && sameSizeBehind(plain, shapes, producer, input, [dims[2]!, dims[3]!])
      if (!like) return [each]
      const [back, after] = dimsOf(like, 2, 4, `${output}_back`)
      const sizes = fresh(`${output}_target`)
      // 0 copies the batch of the input, which a number would pin.
      const front = constant(`${output}_front`, [dims[0] === 1 && from[0] === 1 ? 0 : dims[0]!, dims[1]!])
      return [...after, node('Concat', [front, back], [sizes], { axis: int(0) }), { ...each, inputs: [input, sizes] }]
    }
    return [each]
  })
  return withGraph(model, removeDead(sortNodes({ ...plain, nodes, initializers })))
}

/** Drops Resize to the size that is there, and Expand to what its readers broadcast to anyway. */
function withoutIdleResizes(graph: Graph, shapes: Shapes): Graph {
  const { consumers } = wiring(graph)
  const ends = new Set(graph.outputs.map(({ name }) => name))
  const replacements = new Map<string, string>()
  const same = (one: string | undefined, other: string) => shapes.get(one ?? '')?.join() === shapes.get(other)?.join()
  for (const each of graph.nodes) {
    const [input, output] = [each.inputs[0]!, each.outputs[0]!]
    if (ends.has(output) || !shapes.has(input)) continue
    const mode = stringAttribute(each, 'coordinate_transformation_mode', 'half_pixel')
    const idle = isOp(each, 'Resize') && same(input, output) && mode !== 'tf_crop_and_resize'
    const readers = (consumers.get(output) ?? []).map((index) => graph.nodes[index]!)
    const broadcast =
      isOp(each, 'Expand') &&
      readers.every(
        (reader) =>
          isOp(reader, 'Add', 'Sub', 'Mul', 'Div') &&
          reader.inputs.some((other) => other !== output && same(other, output)) &&
          same(reader.outputs[0], output),
      )
    if (idle || broadcast) replacements.set(output, input)
  }
  return removeDead(replaceValues(graph, replacements))
}

function coversAll(pool: Node, from: readonly number[], to: readonly number[]): boolean {
  const kernel = intsAttribute(pool, 'kernel_shape')
  const unpadded = (intsAttribute(pool, 'pads') ?? []).every((pad) => pad === 0)
  const [height, width] = [from[2]!, from[3]!]
  return kernel?.[0] === height && kernel[1] === width && unpadded && to[2] === 1 && to[3] === 1 && height * width > 1
}

/** The tensor to whose height and width a Resize with fixed sizes goes: what it is joined with, or a graph input. */
function sizeGiver(
  graph: Graph,
  shapes: Shapes,
  consumers: ReadonlyMap<string, readonly number[]>,
  producer: ReadonlyMap<string, number>,
  index: number,
): string | undefined {
  const output = graph.nodes[index]!.outputs[0]!
  const wanted = shapes.get(output)!
  const fits = (value: string) => {
    const shape = shapes.get(value)
    return shape?.length === 4 && shape[2] === wanted[2] && shape[3] === wanted[3]
  }
  for (const reader of (consumers.get(output) ?? []).map((each) => graph.nodes[each]!)) {
    if (
      !isOp(reader, 'Concat', 'Add', 'Mul', 'Sub', 'Div') ||
      (isOp(reader, 'Concat') && intAttribute(reader, 'axis', 1) !== 1)
    )
      continue
    const other = reader.inputs.find(
      (value) => value !== output && producer.has(value) && fits(value) && !dependsOn(graph, producer, value, output),
    )
    if (other) return other
  }
  return graph.inputs.map(({ name }) => name).find(fits)
}

function dependsOn(graph: Graph, producer: ReadonlyMap<string, number>, value: string, on: string): boolean {
  const seen = new Set<string>()
  const open = [value]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (next === on) return true
    if (seen.has(next)) continue
    seen.add(next)
    const index = producer.get(next)
    if (index !== undefined) open.push(...valuesRead(graph.nodes[index]!))
  }
  return false
}

/** How far back a Reshape looks for the tensor whose height and width it restores. */
const REACH = 8

function sameSizeBehind(
  graph: Graph,
  shapes: Shapes,
  producer: ReadonlyMap<string, number>,
  value: string,
  [height, width]: readonly [number, number],
): string | undefined {
  let current = value
  for (let step = 0; step < REACH; step++) {
    const shape = shapes.get(current)
    if (shape?.length === 4 && shape[2] === height && shape[3] === width) return current
    const index = producer.get(current)
    if (index === undefined) return undefined
    current = graph.nodes[index]!.inputs[0]!
  }
  return undefined
}
