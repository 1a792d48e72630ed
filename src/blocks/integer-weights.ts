import type { Tensor } from '../tensor/index.ts'

/** Weights as signed 8-bit numbers with one scale for each output channel: real = scale · stored. */
export interface IntegerWeights {
  readonly stored: Tensor<'int8'>
  readonly scales: Float32Array
}

export interface IntegerWeightOptions {
  /** axis of the output channels */
  readonly axis: number
  /**
   * `exact` where the CPU adds 8-bit products in 32 bits (VNNI, dotprod); `pairs` where it adds two neighbouring products in
   * 16 bits first (plain AVX2), which saturates when two neighbouring weights of the same sign are large.
   */
  readonly sums: IntegerSums
}

export type IntegerSums = 'exact' | 'pairs'

/** @param features instruction sets of the CPU, as `Device.features` names them */
export const integerSums = (features: string, architecture = process.arch): IntegerSums =>
  architecture !== 'x64' || /vnni/.test(features) ? 'exact' : 'pairs'

const LIMIT = 127
/** With inputs up to 255: 255 · 128 = 32,640 is the most that fits 16 bits. */
const PAIR_LIMIT = 128
/** Steps between the least scale that a channel could have and the one at which nothing has to be clipped. */
const STEPS = 6

/**
 * Rounds weights to 8 bits. With `pairs`, each channel takes the scale at which rounding and the clipping of those
 * neighbours that could saturate together cost least: about 7.3 bits where a reduced range would leave 7.
 */
export function integerWeights(weights: Tensor<'float32'>, { axis, sums }: IntegerWeightOptions): IntegerWeights {
  const { data, dims } = weights
  const channels = dims[axis]!
  const rows = rowsOf(dims, axis)
  const scales = new Float32Array(channels)
  let largest = 0
  for (let i = 0; i < data.length; i++) largest = Math.max(largest, Math.abs(data[i]!))
  const stored = new Int8Array(data.length)
  // A depthwise kernel multiplies in 16 bits and adds in 32: a row of one input channel has no neighbours.
  const pairs = sums === 'pairs' && (dims[1] ?? 0) > 1 ? pairsOf(dims, axis) : []
  for (let c = 0; c < channels; c++) {
    const places = rows(c)
    const row = Float32Array.from(places, (place) => data[place]!)
    let most = 0
    for (const value of row) most = Math.max(most, Math.abs(value))
    // An all-zero channel still needs a scale, and a tiny one would overflow the 32-bit bias.
    const least = Math.max(most, largest * 1e-4, 1e-8) / LIMIT
    scales[c] = bestScale(row, pairs, least)
    const rounded = round(row, pairs, scales[c]!)
    places.forEach((place, i) => {
      stored[place] = rounded[i]!
    })
  }
  return { stored: { type: 'int8', dims, data: stored }, scales }
}

function bestScale(row: Float32Array, pairs: readonly Pair[], least: number): number {
  let pair = 0
  for (const [a, b] of pairs) if (row[a]! * row[b]! > 0) pair = Math.max(pair, Math.abs(row[a]! + row[b]!))
  const safe = pair / PAIR_LIMIT
  if (safe <= least) return least
  let [best, bestError] = [safe, Number.POSITIVE_INFINITY]
  for (let step = 0; step <= STEPS; step++) {
    const scale = least * (safe / least) ** (step / STEPS)
    const rounded = round(row, pairs, scale)
    let error = 0
    for (let i = 0; i < row.length; i++) error += (row[i]! - scale * rounded[i]!) ** 2
    if (error < bestError) [best, bestError] = [scale, error]
  }
  return best
}

function round(row: Float32Array, pairs: readonly Pair[], scale: number): Int8Array {
  const into = new Int8Array(row.length)
  for (let i = 0; i < row.length; i++) into[i] = Math.max(-LIMIT, Math.min(LIMIT, Math.round(row[i]! / scale)))
  for (const [a, b] of pairs) {
    const [x, y] = [into[a]!, into[b]!]
    const excess = Math.abs(x + y) - PAIR_LIMIT
    if (x * y <= 0 || excess <= 0) continue
    const sign = Math.sign(x)
    const share = Math.min(Math.ceil(excess / 2), Math.abs(x))
    into[a] = x - sign * share
    into[b] = y - sign * (excess - share)
  }
  return into
}

/** Two places in a row. */
type Pair = readonly [number, number]

/** Positions of one output channel's weights, in memory order. */
function rowsOf(dims: readonly number[], axis: number): (channel: number) => number[] {
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const outer = dims.slice(0, axis).reduce((product, dim) => product * dim, 1)
  const channels = dims[axis]!
  return (channel) =>
    Array.from({ length: outer * inner }, (_, i) => (Math.floor(i / inner) * channels + channel) * inner + (i % inner))
}

/** Neighbours in the order in which the kernels multiply: input channels innermost, two by two. */
function pairsOf(dims: readonly number[], axis: number): Pair[] {
  const inputs = axis === 0 ? dims[1]! : dims[0]!
  const area = dims.slice(2).reduce((product, dim) => product * dim, 1)
  const at = (position: number) => (position % inputs) * area + Math.floor(position / inputs)
  // With an odd number of inputs the pairs of the next kernel position begin at its second channel, or at its first.
  const step = inputs % 2 === 0 ? 2 : 1
  const pairs: Pair[] = []
  for (let i = 0; i + 1 < inputs * area; i += step) pairs.push([at(i), at(i + 1)])
  return pairs
}
