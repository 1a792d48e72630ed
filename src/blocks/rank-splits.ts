import { type Attribute, int, ints, intsAttribute, isOp, type Node, stringAttribute } from '../onnx/index.ts'
import { elementCount } from '../tensor/index.ts'
import type { LayerShape } from './columns.ts'
import { type Eigen, symmetricEigen } from './eigen.ts'
import { cholesky, dot, type LinearAlgebra, solveSymmetric, withRidge } from './linear.ts'
import type { LayerReference } from './reference.ts'
import { transpose } from './refit.ts'
import type { GroupCost } from './widths.ts'

/** A layer that could be two: the ranks that there are, and the two layers at each. */
export interface Split {
  readonly layer: Node
  readonly reference: LayerReference
  readonly way: 'channel' | 'spatial'
  /** Ranks as widths: its size stands for the layer as it is, which loses nothing. Losses are shares of the power of its outputs. */
  readonly cost: GroupCost
  pair(rank: number): Promise<Pair>
}

/** Two layers in the place of one. */
export interface Pair {
  readonly first: Weights
  readonly second: Weights
  /** of the second, which is solved again */
  readonly shape: LayerShape
  /** height and width of what the first gives; nothing where the layer has no plane */
  readonly plane: readonly number[]
}

interface Weights {
  readonly dims: readonly number[]
  readonly data: Float32Array
  readonly attributes: Readonly<Record<string, Attribute>>
}

/** A layer with what it reads and gives on real inputs. */
export interface Seen {
  readonly layer: Node
  readonly reference: LayerReference
  /** `[outputs, columnLength]` */
  readonly weights: Float32Array
  /** dimensions of its input and output at the network's own size */
  readonly from: readonly number[]
  readonly to: readonly number[]
}

const PIXEL = { kernel: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0, 0] } as const
/** Below what rounding leaves of moments in single precision. */
const RIDGE = 1e-6
const LARGE_RIDGE = 1e-3
/** Turns in which both layers are solved, and steps for the first in each: more gain next to nothing. */
const ROUNDS = 2
const STEPS = 12
/** Of more, taking the directions apart takes minutes. */
const MOST_WINDOW = 1024

/**
 * By the directions of its outputs: a layer with its own window that gives the strongest, then one of 1×1 that brings them back.
 *
 * @see Zhang et al., arXiv 1505.06798 (response reconstruction by channel decomposition)
 */
export async function channelSplit(seen: Seen, algebra: LinearAlgebra): Promise<Split> {
  const { layer, reference, weights, to } = seen
  const { shape, gram } = reference
  const { columnLength: d, outputChannels: o } = shape
  const { values, vectors } = await outputDirections(weights, gram, o, d, algebra)
  const plane = to.slice(2)
  const size = Math.floor((d * o) / (d + o))
  const isConv = isOp(layer, 'Conv')
  return {
    layer,
    reference,
    way: 'channel',
    cost: { size, macsPerChannel: (d + o) * elementCount(plane), ranking: { order: [], loss: lossesOf(values, size) } },
    async pair(rank) {
      const first = new Float32Array(rank * d)
      const second = new Float32Array(o * rank)
      for (let r = 0; r < rank; r++) {
        for (let k = 0; k < o; k++) {
          const u = vectors[r * o + k]!
          second[k * rank + r] = u
          if (u !== 0) for (let i = 0; i < d; i++) first[r * d + i]! += u * weights[k * d + i]!
        }
      }
      const asMatrix = { transB: int(1) }
      return {
        first: {
          dims: isConv ? [rank, shape.inputChannels, ...shape.kernel] : [rank, d],
          data: first,
          attributes: isConv ? layer.attributes : asMatrix,
        },
        second: {
          dims: isConv ? [o, rank, 1, 1] : [o, rank],
          data: second,
          attributes: isConv ? { kernel_shape: ints([1, 1]) } : asMatrix,
        },
        shape: { ...shape, ...PIXEL, inputChannels: rank, columnLength: rank },
        plane,
      }
    },
  }
}

/**
 * By the two axes of its window: a layer that looks along columns, then one that looks along rows. The windows of the first are chosen for
 * what the columns of real inputs hold, as if those beside each other told nothing of each other; then second and first are solved in turns
 * for what both give together. The losses are scaled to what solving the second leaves of half of the operations.
 *
 * @returns undefined where the layer has no window of two axes, or too large a one
 * @see Jaderberg et al., arXiv 1405.3866 (filters that are separable)
 */
export async function spatialSplit(seen: Seen, algebra: LinearAlgebra): Promise<Split | undefined> {
  const { layer, reference, weights, from, to } = seen
  const { shape, gram } = reference
  const { inputChannels: c, outputChannels: o, kernel, strides, dilations } = shape
  const [kh, kw] = kernel
  const n = c * kh
  const isExplicit = stringAttribute(layer, 'auto_pad', 'NOTSET') === 'NOTSET'
  if (kh === 1 || kw === 1 || n > MOST_WINDOW || !isExplicit || to.length !== 4) return undefined
  const factor = cholesky(withRidge(columnMoments(gram, n, kw), n, RIDGE), n)
  if (!factor) return undefined
  const matrix = byColumns(weights, o, n, kw)
  // What the columns of the window give, in a basis in which their inputs are white: Lᵀ·M for moments L·Lᵀ.
  const white = await algebra.transposedProduct(Float32Array.from(factor), matrix, n)
  const { values, vectors } = symmetricEigen(await algebra.product(white, transpose(white, n, o * kw), o * kw), n)
  const plane = [to[2]!, from[3]!]
  const macsPerChannel = n * elementCount(plane) + o * kw * elementCount(to.slice(2))
  const size = Math.floor((n * kw * o * elementCount(to.slice(2))) / macsPerChannel)
  const [top = 0, left = 0, bottom = 0, right = 0] = intsAttribute(layer, 'pads') ?? []
  const windows = (rank: number) => unwhitened(factor, vectors, rank, n)
  const half = Math.max(1, size >> 1)
  const losses = lossesOf(values, size)
  const covariance = await algebra.product(weights, gram, shape.columnLength)
  const both = { seen, algebra, covariance, power: dot(covariance, weights) }
  const { missed } = await secondOf(windows(half), both)
  const scale = losses[size - half]! > 0 ? missed / losses[size - half]! : 1
  return {
    layer,
    reference,
    way: 'spatial',
    cost: { size, macsPerChannel, ranking: { order: [], loss: losses.map((loss) => scale * loss) } },
    async pair(rank) {
      let first = windows(rank)
      let best = await secondOf(first, both)
      for (let round = 0; round < ROUNDS; round++) {
        const other = await firstOf(first, best.second, both)
        const next = await secondOf(other, both)
        if (!(next.missed < best.missed)) break
        first = other
        best = next
      }
      const along = {
        kernel: [1, kw],
        strides: [1, strides[1]],
        dilations: [1, dilations[1]],
        pads: [0, left],
      } as const
      return {
        first: {
          dims: [rank, c, kh, 1],
          data: first,
          attributes: {
            kernel_shape: ints([kh, 1]),
            strides: ints([strides[0], 1]),
            dilations: ints([dilations[0], 1]),
            pads: ints([top, 0, bottom, 0]),
          },
        },
        second: {
          dims: [o, rank, 1, kw],
          data: transpose(best.second, rank * kw, o),
          attributes: {
            kernel_shape: ints(along.kernel),
            strides: ints(along.strides),
            dilations: ints(along.dilations),
            pads: ints([0, left, 0, right]),
          },
        },
        shape: { ...shape, ...along, inputChannels: rank, columnLength: rank * kw },
        plane,
      }
    },
  }
}

/** By channels removed: the share of the power of the directions that are left out. */
function lossesOf(values: Float64Array, size: number): number[] {
  const total = values.reduce((sum, value) => sum + Math.max(0, value), 0) || 1
  const tail = new Float64Array(values.length + 1)
  for (let r = values.length - 1; r >= 0; r--) tail[r] = tail[r + 1]! + Math.max(0, values[r]!) / total
  return Array.from({ length: size + 1 }, (_, removed) => (removed === 0 ? 0 : tail[size - removed]!))
}

/**
 * Eigenvectors, as rows, of the covariance `W·G·Wᵀ` of a layer's outputs, the strongest first. Where the layer reads fewer
 * channels than it makes, by way of the smaller `LᵀWᵀ·W·L` of G = L·Lᵀ, which has the same eigenvalues but for zeros.
 */
async function outputDirections(
  weights: Float32Array,
  gram: Float32Array,
  o: number,
  d: number,
  algebra: LinearAlgebra,
): Promise<Eigen> {
  // Channels that say the same make moments that are not positive definite, by rounding.
  const factor = d < o ? cholesky(withRidge(gram, d, 1e-7), d) : undefined
  if (!factor) {
    const projected = await algebra.transposedProduct(gram, transpose(weights, o, d), d)
    return symmetricEigen(await algebra.transposedProduct(transpose(weights, o, d), projected, d), o)
  }
  const half = await algebra.product(weights, Float32Array.from(factor), d)
  const { values, vectors } = symmetricEigen(await algebra.transposedProduct(half, half, o), d)
  const outputs = await algebra.product(Float32Array.from(vectors), transpose(half, o, d), d)
  const unit = Float64Array.from(outputs)
  for (let r = 0; r < d; r++) {
    const row = unit.subarray(r * o, (r + 1) * o)
    const length = Math.hypot(...row)
    for (let k = 0; k < o; k++) row[k] = length > 0 ? row[k]! / length : 0
  }
  return { values, vectors: unit }
}

/** Second moments `[n, n]` of what one column of a window covers, from those of whole windows, the mean over its `kw` columns. */
function columnMoments(gram: Float32Array, n: number, kw: number): Float32Array {
  const moments = new Float32Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0
      for (let x = 0; x < kw; x++) sum += gram[(i * kw + x) * n * kw + j * kw + x]!
      moments[i * n + j] = sum / kw
    }
  }
  return moments
}

/** Weights `[outputs, n·kw]` as `[n, outputs·kw]`: what each output makes of each column of the window. */
function byColumns(weights: Float32Array, o: number, n: number, kw: number): Float32Array {
  const matrix = new Float32Array(weights.length)
  for (let k = 0; k < o; k++) {
    for (let i = 0; i < n; i++) {
      for (let x = 0; x < kw; x++) matrix[i * o * kw + k * kw + x] = weights[(k * n + i) * kw + x]!
    }
  }
  return matrix
}

/** The first `rank` directions of a white basis as windows `[rank, n]`: rows p of `Lᵀp = u` for the moments L·Lᵀ. */
function unwhitened(factor: Float64Array, vectors: Float64Array, rank: number, n: number): Float32Array {
  const windows = new Float32Array(rank * n)
  const p = new Float64Array(n)
  for (let r = 0; r < rank; r++) {
    p.set(vectors.subarray(r * n, (r + 1) * n))
    for (let i = n - 1; i >= 0; i--) {
      p[i]! /= factor[i * n + i]!
      const value = p[i]!
      for (let j = 0; j < i; j++) p[j]! -= factor[i * n + j]! * value
    }
    windows.set(p, r * n)
  }
  return windows
}

interface Both {
  readonly seen: Seen
  readonly algebra: LinearAlgebra
  /** `W·G`: how the outputs go with the inputs, `[outputs, columnLength]` */
  readonly covariance: Float32Array
  /** of the outputs: `tr(W·G·Wᵀ)` */
  readonly power: number
}

/**
 * The second layer that is best for the windows `[rank, n]` of the first, `[rank·kw, outputs]`: C⁻¹B with C the moments of what the first
 * gives and B how they go with the outputs. It misses `1 − tr(BᵀC⁻¹B) / tr(W·G·Wᵀ)` of the power of the outputs.
 */
async function secondOf(
  windows: Float32Array,
  { seen: { reference }, algebra, covariance, power }: Both,
): Promise<{ readonly second: Float32Array; readonly missed: number }> {
  const { shape, gram } = reference
  const { columnLength: d, outputChannels: o } = shape
  const features = besides(windows, d, shape.kernel[1])
  const rows = features.length / d
  const seen = await algebra.product(features, gram, d)
  const moments = await algebra.product(seen, transpose(features, rows, d), d)
  const cross = await algebra.product(features, transpose(covariance, o, d), d)
  const solved =
    solveSymmetric(withRidge(moments, rows, RIDGE), cross, rows) ??
    solveSymmetric(withRidge(moments, rows, LARGE_RIDGE), cross, rows)
  if (!solved) return { second: new Float32Array(rows * o), missed: 1 }
  const explained = dot(solved, cross)
  return { second: Float32Array.from(solved), missed: power > 0 ? Math.max(0, 1 - explained / power) : 1 }
}

/**
 * Windows for the first layer that are better for this second one H: some steps of conjugate gradients towards the least
 * `tr((W − HᵀF)·G·(W − HᵀF)ᵀ)`, where F has each window once for each column, moved along.
 */
async function firstOf(
  windows: Float32Array,
  second: Float32Array,
  { seen: { reference }, algebra, covariance }: Both,
): Promise<Float32Array> {
  const { shape, gram } = reference
  const { columnLength: d, outputChannels: o } = shape
  const kw = shape.kernel[1]
  const rows = second.length / o
  const back = await algebra.product(second, transpose(second, rows, o), o)
  const applied = async (to: Float32Array) =>
    gathered(await algebra.product(await algebra.product(back, besides(to, d, kw), rows), gram, d), d, kw)
  const wanted = gathered(await algebra.product(second, covariance, o), d, kw)
  const given = await applied(windows)
  const result = windows.slice()
  const residual = wanted.map((value, i) => value - given[i]!)
  let direction = residual.slice()
  let power = dot(residual, residual)
  for (let step = 0; step < STEPS && power > 0; step++) {
    const moved = await applied(direction)
    const length = power / dot(direction, moved)
    if (!Number.isFinite(length)) break
    for (let i = 0; i < result.length; i++) {
      result[i]! += length * direction[i]!
      residual[i]! -= length * moved[i]!
    }
    const next = dot(residual, residual)
    direction = residual.map((value, i) => value + (next / power) * direction[i]!)
    power = next
  }
  return result
}

/** Windows `[rank, n]` of one column as rows over whole windows: each once for each of its `kw` columns, `[rank·kw, n·kw]`. */
function besides(windows: Float32Array, d: number, kw: number): Float32Array {
  const n = d / kw
  const rows = new Float32Array(windows.length * kw * kw)
  for (let at = 0; at < windows.length; at++) {
    const [r, i] = [Math.floor(at / n), at % n]
    for (let x = 0; x < kw; x++) rows[(r * kw + x) * d + i * kw + x] = windows[at]!
  }
  return rows
}

/** The transposed of `besides`: what belongs to the same number of a window, summed over the columns. */
function gathered(rows: Float32Array, d: number, kw: number): Float32Array {
  const n = d / kw
  const windows = new Float32Array(rows.length / kw / kw)
  for (let at = 0; at < windows.length; at++) {
    const [r, i] = [Math.floor(at / n), at % n]
    for (let x = 0; x < kw; x++) windows[at]! += rows[(r * kw + x) * d + i * kw + x]!
  }
  return windows
}
