import { seededRandom } from '../base/index.ts'
import { type Graph, isOp, wiring } from '../onnx/index.ts'
import type { Block, Samples } from './block.ts'
import { gatherColumns, gatherPixels, type LayerShape, layerShape, Rows } from './columns.ts'
import type { LinearAlgebra } from './linear.ts'
import { record } from './record.ts'

/** What the original block does at one layer, at sampled positions of all calibration pictures. */
export interface LayerReference {
  /** the layer's first output, its name everywhere */
  readonly output: string
  readonly input: string
  readonly shape: LayerShape
  /** sampled output positions (row-major in the output plane) for each picture */
  readonly positions: readonly (readonly number[])[]
  readonly outputWidth: number
  /** the value that the layer's output is added to, where the layer ends a residual branch */
  readonly shortcut: string | undefined
  /** what the layer, with its shortcut, gives: `[rows, channels]` */
  readonly targets: Rows
  /** second moments of the centred columns: `[D, D]` */
  readonly gram: Float32Array
}

/** Rows to look at for each unknown of the least-squares problem, and the bounds that memory sets. */
const ROWS_PER_UNKNOWN = 30
const LEAST_ROWS = 3000
const MOST_ROW_BYTES = 120e6
/** Longer columns (3×3 on more than 256 channels) would take minutes to solve; such layers keep their weights. */
export const LONGEST_COLUMN = 2400

/** Records the original block once; every level of pruning uses the result. */
export async function recordReference(
  block: Block,
  samples: Samples,
  layers: readonly string[],
  algebra: LinearAlgebra,
): Promise<ReadonlyMap<string, LayerReference>> {
  const { graph } = block.model
  const references = layers.flatMap((output) => {
    const reference = prepare(block, output, samples.length)
    return reference ? [reference] : []
  })
  const columns = new Map(references.map((each) => [each.output, new Rows(capacityOf(each), each.shape.columnLength)]))
  const wanted = references.flatMap((each) => [each.input, each.output, ...(each.shortcut ? [each.shortcut] : [])])
  await record({ ...block.model, graph }, samples, wanted, (values, index) => {
    for (const each of references) {
      const positions = each.positions[index]!
      gatherColumns(columns.get(each.output)!, values[each.input]!, each.shape, positions, each.outputWidth)
      gatherPixels(each.targets, values[each.output]!, positions)
      if (each.shortcut) addPixels(each.targets, values[each.shortcut]!.data as Float32Array, positions, 1)
    }
  })
  const result = new Map<string, LayerReference>()
  for (const each of references) {
    const rows = columns.get(each.output)!
    columns.delete(each.output)
    centre(rows)
    const gram = await algebra.transposedProduct(rows.filled, rows.filled, rows.rows)
    for (let i = 0; i < gram.length; i++) gram[i]! /= rows.rows
    result.set(each.output, { ...each, gram })
  }
  return result
}

const capacityOf = ({ positions }: Pick<LayerReference, 'positions'>): number =>
  positions.reduce((sum, each) => sum + each.length, 0)

function prepare(block: Block, output: string, pictures: number): Omit<LayerReference, 'gram'> | undefined {
  const { graph } = block.model
  const layer = graph.nodes.find((node) => node.outputs[0] === output)
  const shape = layer && layerShape(layer, graph, block.nominal)
  const dims = block.nominal.get(output)
  if (!layer || !shape || !dims || shape.columnLength > LONGEST_COLUMN) return undefined
  const plane = dims.slice(2).reduce((product, size) => product * size, 1)
  const wanted = Math.max(LEAST_ROWS, ROWS_PER_UNKNOWN * shape.columnLength)
  const most = MOST_ROW_BYTES / 4 / (shape.columnLength + shape.outputChannels)
  const each = Math.max(1, Math.min(plane, Math.ceil(Math.min(wanted, most) / pictures)))
  const random = seededRandom(output.length + 31 * shape.columnLength)
  const positions = Array.from({ length: pictures }, () => pick(plane, each, random))
  return {
    output,
    input: layer.inputs[0]!,
    shape,
    positions,
    outputWidth: dims[3] ?? 1,
    shortcut: shortcutOf(output, graph, block.nominal),
    targets: new Rows(pictures * each, shape.outputChannels),
  }
}

/** Some positions of a plane, in order. */
export function pick(plane: number, count: number, random: () => number): number[] {
  if (count >= plane) return Array.from({ length: plane }, (_, position) => position)
  const chosen = new Set<number>()
  while (chosen.size < count) chosen.add(Math.floor(random() * plane))
  return [...chosen].sort((a, b) => a - b)
}

/** The other operand where the value goes into one addition and nowhere else. */
export function shortcutOf(
  value: string,
  graph: Graph,
  nominal: ReadonlyMap<string, readonly number[]>,
): string | undefined {
  const readers = wiring(graph).consumers.get(value) ?? []
  const reader = readers.length === 1 ? graph.nodes[readers[0]!] : undefined
  if (!reader || !isOp(reader, 'Add') || graph.outputs.some((output) => output.name === value)) return undefined
  const other = reader.inputs.find((input) => input !== value)
  const same = nominal.get(other ?? '')?.join() === nominal.get(value)?.join()
  return other && same && !graph.initializers.has(other) ? other : undefined
}

/** Adds `factor` times a value `[1, C, …]` at the given positions to the last rows that were gathered. */
export function addPixels(into: Rows, data: Float32Array, positions: readonly number[], factor: number): void {
  const channels = into.width
  const plane = data.length / channels
  const first = into.rows - positions.length
  positions.forEach((position, index) => {
    const to = (first + index) * channels
    for (let c = 0; c < channels; c++) into.data[to + c]! += factor * data[c * plane + position]!
  })
}

/** Takes the mean off every column and returns the means. */
export function centre(rows: Rows): Float64Array {
  const { data, width, rows: count } = rows
  const means = new Float64Array(width)
  for (let r = 0; r < count; r++) for (let c = 0; c < width; c++) means[c]! += data[r * width + c]!
  for (let c = 0; c < width; c++) means[c]! /= Math.max(count, 1)
  for (let r = 0; r < count; r++) for (let c = 0; c < width; c++) data[r * width + c]! -= means[c]!
  return means
}
