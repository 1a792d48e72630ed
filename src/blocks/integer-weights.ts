import type { Tensor } from '../tensor/index.ts'
import { cholesky, withRidge } from './linear.ts'

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
  /** how the layer's inputs go together, where that is known: then errors of rounding make up for one another */
  readonly compensation?: Compensation | undefined
}

export type IntegerSums = 'exact' | 'pairs'

/** @param features instruction sets of the CPU, as `Device.features` names them */
export const integerSums = (features: string, architecture = process.arch): IntegerSums =>
  architecture !== 'x64' || /vnni/.test(features) ? 'exact' : 'pairs'

const LIMIT = 127
const LIMITS = { low: -LIMIT, high: LIMIT }
/** With inputs up to 255: 255 · 128 = 32,640 is the most that fits 16 bits. */
const PAIR_LIMIT = 128
/** Steps between the least scale that a channel could have and the one at which nothing has to be clipped. */
const STEPS = 6

/**
 * What the rounding of one weight has to make up for, by the inputs' second moments `G = L·Lᵀ`: an output's error
 * `Σ (Lᵀe)²` is a sum over the weights in the order in which they are rounded, to which each adds
 * `power · (its own error + Σ factor · earlier errors)²`.
 */
export interface Compensation {
  /** columns in the order in which they are rounded: the most powerful inputs first */
  readonly order: Int32Array
  /** `[n, n]`, row by row in that order */
  readonly factors: Float64Array
  readonly powers: Float64Array
}

const RIDGE = 0.01

/**
 * @param gram second moments of the centred columns of a layer's input, `[n, n]`
 * @param ridge weight of staying near each weight by itself, as a share of the mean diagonal of the moments
 * @returns undefined where they tell nothing
 */
export function compensationFor(gram: ArrayLike<number>, n: number, ridge = RIDGE): Compensation | undefined {
  const order = Int32Array.from({ length: n }, (_, column) => column)
  order.sort((a, b) => gram[b * n + b]! - gram[a * n + a]! || a - b)
  // The first to be rounded last, because the factor takes what comes after into account.
  const turned = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) turned[i * n + j] = gram[order[n - 1 - i]! * n + order[n - 1 - j]!]!
  }
  const lower = cholesky(withRidge(turned, n, ridge), n)
  if (!lower) return undefined
  const factors = new Float64Array(n * n)
  const powers = new Float64Array(n)
  for (let p = 0; p < n; p++) {
    const r = n - 1 - p
    const own = lower[r * n + r]!
    powers[p] = own * own
    for (let q = 0; q < p; q++) factors[p * n + q] = lower[(n - 1 - q) * n + r]! / own
  }
  return { order, factors, powers }
}

/**
 * Rounds weights to 8 bits. With `pairs`, each channel takes the scale at which rounding and the clipping of those
 * neighbours that could saturate together cost least: about 7.3 bits where a reduced range would leave 7.
 */
export function integerWeights(
  weights: Tensor<'float32'>,
  { axis, sums, compensation }: IntegerWeightOptions,
): IntegerWeights {
  const { data, dims } = weights
  const channels = dims[axis]!
  const rows = rowsOf(dims, axis)
  const scales = new Float32Array(channels)
  let largest = 0
  for (let i = 0; i < data.length; i++) largest = Math.max(largest, Math.abs(data[i]!))
  const stored = new Int8Array(data.length)
  // A depthwise kernel multiplies in 16 bits and adds in 32: a row of one input channel has no neighbours.
  const pairs = sums === 'pairs' && (dims[1] ?? 0) > 1 ? pairsOf(dims, axis) : []
  const partners = compensation && partnersOf(pairs, compensation.order.length)
  for (let c = 0; c < channels; c++) {
    const places = rows(c)
    const row = Float32Array.from(places, (place) => data[place]!)
    let most = 0
    for (const value of row) most = Math.max(most, Math.abs(value))
    // An all-zero channel still needs a scale, and a tiny one would overflow the 32-bit bias.
    const least = Math.max(most, largest * 1e-4, 1e-8) / LIMIT
    const { scale, rounded } = bestRounding(candidateScales(row, pairs, least), (candidate) =>
      compensation
        ? roundInTurn(row, partners, new Float64Array(row.length).fill(candidate), LIMITS, compensation)
        : roundEach(row, pairs, candidate),
    )
    scales[c] = scale
    places.forEach((place, i) => {
      stored[place] = rounded[i]!
    })
  }
  return { stored: { type: 'int8', dims, data: stored }, scales }
}

interface Rounding {
  readonly rounded: Int8Array
  readonly error: number
}

/** From the least scale that a channel could have to that at which nothing has to be clipped. */
function candidateScales(row: Float32Array, pairs: readonly Pair[], least: number): number[] {
  let pair = 0
  for (const [a, b] of pairs) if (row[a]! * row[b]! > 0) pair = Math.max(pair, Math.abs(row[a]! + row[b]!))
  const safe = pair / PAIR_LIMIT
  if (safe <= least) return [least]
  return Array.from({ length: STEPS + 1 }, (_, step) => least * (safe / least) ** (step / STEPS))
}

function bestRounding(
  scales: readonly number[],
  roundAt: (scale: number) => Rounding,
): { readonly scale: number; readonly rounded: Int8Array } {
  const all = scales.map((scale) => ({ scale, ...roundAt(scale) }))
  return all.reduce((best, each) => (each.error < best.error ? each : best))
}

/** Each weight to the number that is nearest. */
function roundEach(row: Float32Array, pairs: readonly Pair[], scale: number): Rounding {
  const rounded = new Int8Array(row.length)
  for (let i = 0; i < row.length; i++) rounded[i] = Math.max(-LIMIT, Math.min(LIMIT, Math.round(row[i]! / scale)))
  for (const [a, b] of pairs) {
    const [x, y] = [rounded[a]!, rounded[b]!]
    const excess = Math.abs(x + y) - PAIR_LIMIT
    if (x * y <= 0 || excess <= 0) continue
    const sign = Math.sign(x)
    const share = Math.min(Math.ceil(excess / 2), Math.abs(x))
    rounded[a] = x - sign * share
    rounded[b] = y - sign * (excess - share)
  }
  let error = 0
  for (let i = 0; i < row.length; i++) error += (row[i]! - scale * rounded[i]!) ** 2
  return { rounded, error }
}

/**
 * One weight after the other, each to the number that is nearest to what makes up for the errors before it.
 *
 * @param partners places whose products are added in 16 bits, see `partnersOf`
 * @param scales of each weight
 * @param limits the least and the greatest number that can be stored
 * @see Frantar et al., OPTQ, arXiv 2210.17323; Chee et al., QuIP, arXiv 2307.13304, §3 (the form with a Cholesky factor)
 */
export function roundInTurn(
  row: Float32Array,
  partners: Int32Array | undefined,
  scales: Float64Array,
  limits: { readonly low: number; readonly high: number },
  { order, factors, powers }: Compensation,
): Rounding {
  const n = order.length
  const rounded = new Int8Array(n)
  const isRounded = new Uint8Array(n)
  const errors = new Float64Array(n)
  let error = 0
  for (let p = 0; p < n; p++) {
    const c = order[p]!
    let missing = 0
    for (let q = 0, at = p * n; q < p; q++, at++) missing += factors[at]! * errors[q]!
    const scale = scales[c]!
    let wanted = (row[c]! + missing) / scale
    let { low, high } = limits
    for (let side = 2 * c; partners && side < 2 * c + 2; side++) {
      const partner = partners[side]!
      if (partner < 0) continue
      if (isRounded[partner]) {
        const taken = rounded[partner]!
        if (taken > 0) high = Math.min(high, PAIR_LIMIT - taken)
        else low = Math.max(low, -PAIR_LIMIT - taken)
      } else {
        // What both want and cannot have together is shared between them.
        const other = row[partner]! / scales[partner]!
        const excess = Math.abs(wanted + other) - PAIR_LIMIT
        if (wanted * other > 0 && excess > 0) wanted -= Math.sign(wanted) * Math.min(excess / 2, Math.abs(wanted))
      }
    }
    const stored = Math.max(low, Math.min(high, Math.round(wanted)))
    rounded[c] = stored
    isRounded[c] = 1
    errors[p] = row[c]! - scale * stored
    error += powers[p]! * (errors[p]! + missing) ** 2
  }
  return { rounded, error }
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

/** The neighbours with which each place is multiplied, at most two: `[n, 2]`, -1 for none. */
function partnersOf(pairs: readonly Pair[], n: number): Int32Array {
  const partners = new Int32Array(2 * n).fill(-1)
  const add = (place: number, partner: number) => {
    partners[2 * place + (partners[2 * place]! < 0 ? 0 : 1)] = partner
  }
  for (const [a, b] of pairs) {
    add(a, b)
    add(b, a)
  }
  return partners
}
