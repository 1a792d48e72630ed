import { seededRandom } from '../base/index.ts'
import { type Graph, isOp, wiring } from '../onnx/index.ts'
import type { Block, Samples } from './block.ts'
import { gatherColumns, gatherPixels, type LayerShape, layerShape, Rows } from './columns.ts'
import type { LinearAlgebra } from './linear.ts'
import { record } from './record.ts'

/** What a layer is to give, at sampled positions of all calibration pictures. */
export interface LayerTarget {
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
}

/** What the original block does at one layer. */
export interface LayerReference extends LayerTarget {
  /** second moments of the centred columns: `[D, D]` */
  readonly gram: Float32Array
}

/** How many rows a layer is seen in: some for each unknown of the least-squares problem, within the bounds that memory sets. */
export interface RowRule {
  readonly perUnknown: number
  readonly least: number
  readonly mostBytes: number
}

const ROWS: RowRule = { perUnknown: 30, least: 3000, mostBytes: 120e6 }
/** Longer columns (3×3 on more than 256 channels) would take minutes to solve; such layers keep their weights. */
export const LONGEST_COLUMN = 2400

/** A layer whose output is wanted: its own shape, or that of another layer that is to stand in for it. */
export interface WantedLayer {
  readonly output: string
  readonly input: string
  readonly shape: LayerShape
}

/** The layer that makes a value, or undefined where it cannot be written as a matrix product of bearable size. */
export function wantedLayer(block: Block, output: string): WantedLayer | undefined {
  const { graph } = block.model
  const layer = graph.nodes.find((node) => node.outputs[0] === output)
  const shape = layer && layerShape(layer, graph, block.nominal)
  return layer && shape && isBearable(shape) ? { output, input: layer.inputs[0]!, shape } : undefined
}

export const isBearable = ({ columnLength }: LayerShape): boolean => columnLength <= LONGEST_COLUMN

/** Records the original block once; every level of pruning uses the result. */
export async function recordReference(
  block: Block,
  samples: Samples,
  layers: readonly string[],
  algebra: LinearAlgebra,
): Promise<ReadonlyMap<string, LayerReference>> {
  const wanted = layers.flatMap((output) => wantedLayer(block, output) ?? [])
  const columns = new Map<string, Rows>()
  const targets = await recordTargets(block, samples, wanted, columns)
  const result = new Map<string, LayerReference>()
  for (const each of targets) {
    const rows = columns.get(each.output)!
    columns.delete(each.output)
    centre(rows)
    const gram = await algebra.transposedProduct(rows.filled, rows.filled, rows.rows)
    for (let i = 0; i < gram.length; i++) gram[i]! /= rows.rows
    result.set(each.output, { ...each, gram })
  }
  return result
}

/**
 * Records what the original block gives where the wanted layers write, and, where `columns` is given, what they read.
 */
export async function recordTargets(
  block: Block,
  samples: Samples,
  layers: readonly WantedLayer[],
  columns?: Map<string, Rows>,
): Promise<readonly LayerTarget[]> {
  const targets = layers.map((layer) => prepare(block, layer, samples.length))
  for (const each of targets) columns?.set(each.output, new Rows(rowCount(each.positions), each.shape.columnLength))
  const wanted = targets.flatMap((each) => [
    ...(columns ? [each.input] : []),
    each.output,
    ...(each.shortcut ? [each.shortcut] : []),
  ])
  await record(block.model, samples, wanted, (values, index) => {
    for (const each of targets) {
      const positions = each.positions[index]!
      const rows = columns?.get(each.output)
      if (rows) gatherColumns(rows, values[each.input]!, each.shape, positions, each.outputWidth)
      gatherPixels(each.targets, values[each.output]!, positions)
      if (each.shortcut) addPixels(each.targets, values[each.shortcut]!.data as Float32Array, positions, 1)
    }
  })
  return targets
}

/** How many rows the positions of all pictures make. */
export const rowCount = (positions: LayerTarget['positions']): number =>
  positions.reduce((sum, each) => sum + each.length, 0)

function prepare(block: Block, { output, input, shape }: WantedLayer, pictures: number): LayerTarget {
  const dims = block.nominal.get(output) ?? []
  const plane = dims.slice(2).reduce((product, size) => product * size, 1)
  const columns = shape.columnLength
  const positions = pickPositions({ output, plane, columns, width: columns + shape.outputChannels, pictures }, ROWS)
  return {
    output,
    input,
    shape,
    positions,
    outputWidth: dims[3] ?? 1,
    shortcut: shortcutOf(output, block.model.graph, block.nominal),
    targets: new Rows(rowCount(positions), shape.outputChannels),
  }
}

/**
 * The positions at which a layer is looked at, as many in each picture.
 *
 * @param layer `columns`: unknowns of one output; `width`: numbers that are kept of a row
 */
export function pickPositions(
  layer: {
    readonly output: string
    readonly plane: number
    readonly columns: number
    readonly width: number
    readonly pictures: number
  },
  { perUnknown, least, mostBytes }: RowRule,
): number[][] {
  const { output, plane, columns, width, pictures } = layer
  const wanted = Math.min(Math.max(least, perUnknown * columns), mostBytes / 4 / width)
  const each = Math.max(1, Math.min(plane, Math.ceil(wanted / pictures)))
  const random = seededRandom(output.length + 31 * columns)
  return Array.from({ length: pictures }, () => pick(plane, each, random))
}

/** Some positions of a plane, in order. */
function pick(plane: number, count: number, random: () => number): number[] {
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
