import { type Graph, intAttribute, intsAttribute, isOp, type Node, stringAttribute } from '../onnx/index.ts'
import { isFloat, type Tensor } from '../tensor/index.ts'

/**
 * A layer as a matrix product: each output position is `weights · column + bias`, where the column holds the inputs that the
 * kernel covers there. For Gemm and MatMul a picture has one position.
 */
export interface LayerShape {
  readonly inputChannels: number
  readonly outputChannels: number
  readonly kernel: readonly [number, number]
  readonly strides: readonly [number, number]
  readonly dilations: readonly [number, number]
  /** top, left */
  readonly pads: readonly [number, number]
  /** length of a column: inputChannels · kernel height · kernel width */
  readonly columnLength: number
}

/** @returns undefined for layers that are not written as explicit 2-d windows (1-d and 3-d, SAME_LOWER padding) */
export function layerShape(
  layer: Node,
  graph: Graph,
  nominal: ReadonlyMap<string, readonly number[]>,
): LayerShape | undefined {
  const weights = graph.initializers.get(layer.inputs[1] ?? '')
  if (!weights || !isFloat(weights)) return undefined
  if (!isOp(layer, 'Conv')) {
    const transposed = intAttribute(layer, 'transB', 0) === 1
    const [rows = 0, columns = 0] = weights.dims
    const inputChannels = transposed ? columns : rows
    return {
      inputChannels,
      outputChannels: transposed ? rows : columns,
      kernel: [1, 1],
      strides: [1, 1],
      dilations: [1, 1],
      pads: [0, 0],
      columnLength: inputChannels,
    }
  }
  if (weights.dims.length !== 4) return undefined
  const [outputChannels = 0, inputChannels = 0, height = 1, width = 1] = weights.dims
  const strides = pairOf(layer, 'strides')
  const dilations = pairOf(layer, 'dilations')
  const pads = topLeftPads(layer, nominal, [height, width], strides, dilations)
  if (!pads) return undefined
  return {
    inputChannels,
    outputChannels,
    kernel: [height, width],
    strides,
    dilations,
    pads,
    columnLength: inputChannels * height * width,
  }
}

/**
 * The shape of the layer that a descendant has in the place of `shape`: with fewer channels, or another window, as where a 1×1 layer
 * brings back what a narrower one before it has gathered.
 *
 * @param weights dimensions of its weights, which may be stored as integers
 */
export function resized(shape: LayerShape, layer: Node, weights: readonly number[], outputAxis: 0 | 1): LayerShape {
  const outputChannels = weights[outputAxis]!
  const inputChannels = weights[1 - outputAxis]!
  if (!isOp(layer, 'Conv')) return { ...shape, inputChannels, outputChannels, columnLength: inputChannels }
  const [height = 1, width = 1] = weights.slice(2)
  const [top = 0, left = 0] = intsAttribute(layer, 'pads') ?? []
  return {
    inputChannels,
    outputChannels,
    kernel: [height, width],
    strides: pairOf(layer, 'strides'),
    dilations: pairOf(layer, 'dilations'),
    // Descendants change windows only where pads are written out.
    pads: stringAttribute(layer, 'auto_pad', 'NOTSET') === 'NOTSET' ? [top, left] : shape.pads,
    columnLength: inputChannels * height * width,
  }
}

/** Strides or dilations, which are 1 where they are not written down. */
function pairOf(layer: Node, name: string): readonly [number, number] {
  const [a = 1, b = 1] = intsAttribute(layer, name) ?? []
  return [a, b]
}

function topLeftPads(
  layer: Node,
  nominal: ReadonlyMap<string, readonly number[]>,
  kernel: readonly [number, number],
  strides: readonly [number, number],
  dilations: readonly [number, number],
): readonly [number, number] | undefined {
  const auto = stringAttribute(layer, 'auto_pad', 'NOTSET')
  if (auto === 'VALID') return [0, 0]
  if (auto === 'NOTSET') {
    const [top = 0, left = 0] = intsAttribute(layer, 'pads') ?? []
    return [top, left]
  }
  const from = nominal.get(layer.inputs[0] ?? '')
  const to = nominal.get(layer.outputs[0] ?? '')
  if (!from || !to) return undefined
  const total = (axis: 0 | 1) =>
    Math.max(0, (to[axis + 2]! - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 - from[axis + 2]!)
  const half = auto === 'SAME_UPPER' ? Math.floor : Math.ceil
  return [half(total(0) / 2), half(total(1) / 2)]
}

/** Rows gathered from many pictures: `[rows, width]`, row-major. */
export class Rows {
  readonly data: Float32Array
  readonly width: number
  rows = 0

  constructor(capacity: number, width: number) {
    this.data = new Float32Array(capacity * width)
    this.width = width
  }

  get filled(): Float32Array {
    return this.data.subarray(0, this.rows * this.width)
  }
}

/** Appends the columns of a layer's input `[1, C, H, W]` (or `[1, C]`) at the given output positions. */
export function gatherColumns(
  into: Rows,
  input: Tensor,
  shape: LayerShape,
  positions: readonly number[],
  outputWidth: number,
): void {
  const data = input.data as Float32Array
  const [, channels = 0, height = 1, width = 1] = input.dims
  const [kh, kw] = shape.kernel
  const plane = height * width
  for (const position of positions) {
    const y0 = Math.floor(position / outputWidth) * shape.strides[0] - shape.pads[0]
    const x0 = (position % outputWidth) * shape.strides[1] - shape.pads[1]
    let to = into.rows * into.width
    for (let c = 0; c < channels; c++) {
      for (let ky = 0; ky < kh; ky++) {
        const y = y0 + ky * shape.dilations[0]
        for (let kx = 0; kx < kw; kx++) {
          const x = x0 + kx * shape.dilations[1]
          into.data[to++] = y >= 0 && y < height && x >= 0 && x < width ? data[c * plane + y * width + x]! : 0
        }
      }
    }
    into.rows++
  }
}

/** Appends a value `[1, C, H, W]` (or `[1, C]`) at the given positions: one row of C for each. */
export function gatherPixels(into: Rows, value: Tensor, positions: readonly number[]): void {
  const data = value.data as Float32Array
  const channels = value.dims[1] ?? 0
  const plane = data.length / channels
  for (const position of positions) {
    const to = into.rows * into.width
    for (let c = 0; c < channels; c++) into.data[to + c] = data[c * plane + position]!
    into.rows++
  }
}
