import { type Graph, intAttribute, type Node } from '../onnx/index.ts'
import { floats, isFloat, type Tensor } from '../tensor/index.ts'
import { type Compensation, roundInTurn } from './integer-weights.ts'

/** Weights `[outputs, inputs]` in 4 bits, with a scale for each group of an output's inputs, as MatMulNBits takes them. */
export interface FourBitWeights {
  /** `[outputs, groups, group / 2]`, two to a byte, the first in the low half; 8 stands for 0 */
  readonly stored: Tensor<'uint8'>
  /** `[outputs * groups]` */
  readonly scales: Tensor<'float32'>
  /** `[outputs, inputs]`: what they stand for */
  readonly real: Float32Array
  /** weights that share a scale; the last group of an output is filled up */
  readonly group: number
}

/** The smaller is more exact, the larger saves scales. */
const GROUPS = [32, 64]
const LIMITS = { low: -8, high: 7 }
/** Scales that are tried, from that at which nothing is clipped downwards. */
const SCALES = Array.from({ length: 13 }, (_, step) => 1 - 0.03 * step)

/**
 * Rounds the rows of a matrix to 4 bits, one weight after the other so that errors make up for one another where it is known
 * how inputs go together. Each group takes the scale at which its weights, rounded by themselves, cost least.
 *
 * @param powers of each input, by which errors of its weights count
 */
export function fourBitWeights(
  weights: Float32Array,
  inputs: number,
  powers: ArrayLike<number>,
  compensation: Compensation | undefined,
): FourBitWeights {
  const outputs = weights.length / inputs
  const group = groupFor(inputs)
  const groups = Math.ceil(inputs / group)
  const stored = new Uint8Array((outputs * groups * group) / 2).fill(0x88)
  const scales = new Float32Array(outputs * groups)
  const real = new Float32Array(weights.length)
  const scaleOf = new Float64Array(inputs)
  for (let o = 0; o < outputs; o++) {
    const row = weights.subarray(o * inputs, (o + 1) * inputs)
    for (let g = 0; g < groups; g++) {
      const [from, end] = [g * group, Math.min(inputs, (g + 1) * group)]
      // as it will be stored, so that the weights are rounded in the scale that they get
      const scale = Math.fround(bestScale(row.subarray(from, end), (i) => powers[from + i]!))
      scales[o * groups + g] = scale
      scaleOf.fill(scale, from, end)
    }
    const rounded = compensation
      ? roundInTurn(row, undefined, scaleOf, LIMITS, compensation).rounded
      : Int8Array.from(row, (value, i) => nearest(value / scaleOf[i]!))
    for (let i = 0; i < inputs; i++) {
      real[o * inputs + i] = scaleOf[i]! * rounded[i]!
      const place = o * groups * group + i
      const code = rounded[i]! + 8
      const byte = stored[place >> 1]!
      stored[place >> 1] = place % 2 ? (byte & 0x0f) | (code << 4) : (byte & 0xf0) | code
    }
  }
  return {
    stored: { type: 'uint8', dims: [outputs, groups, group / 2], data: stored },
    scales: floats([scales.length], scales),
    real,
    group,
  }
}

/** The group that takes fewest bytes, filling up counted; of equals the smaller. */
function groupFor(inputs: number): number {
  const bytes = GROUPS.map((group) => Math.ceil(inputs / group) * (group / 2 + Float32Array.BYTES_PER_ELEMENT))
  return GROUPS[bytes.indexOf(Math.min(...bytes))]!
}

/**
 * The numbers that the weights of a MatMulNBits stand for, `[inputs, outputs]` as MatMul takes them.
 *
 * @returns undefined where they are not as `fourBitWeights` stores them
 */
export function fourBitsOf(graph: Graph, layer: Node): Tensor<'float32'> | undefined {
  const [stored, scale] = layer.inputs.slice(1, 3).map((name) => graph.initializers.get(name))
  if (!(stored?.data instanceof Uint8Array) || !scale || !isFloat(scale)) return undefined
  const inputs = intAttribute(layer, 'K', 0)
  const [outputs = 0, groups = 0, half = 0] = stored.dims
  const { data } = stored
  const scales = scale.data
  const real = floats([inputs, outputs], new Float32Array(inputs * outputs))
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      const byte = data[o * groups * half + (i >> 1)]!
      const scale = scales[o * groups + Math.floor(i / (2 * half))]!
      real.data[i * outputs + o] = scale * ((i % 2 ? byte >> 4 : byte & 0x0f) - 8)
    }
  }
  return real
}

const nearest = (value: number): number => Math.max(LIMITS.low, Math.min(LIMITS.high, Math.round(value)))

/** Of either sign: there is one more number below zero than above. */
function bestScale(values: Float32Array, powerOf: (i: number) => number): number {
  let most = 1e-8
  for (const value of values) most = Math.max(most, Math.abs(value))
  let [best, least] = [most / 8, Number.POSITIVE_INFINITY]
  for (const share of SCALES) {
    for (const scale of [(share * most) / 8, (-share * most) / 8]) {
      let error = 0
      for (let i = 0; i < values.length; i++) {
        error += powerOf(i) * (values[i]! - scale * nearest(values[i]! / scale)) ** 2
      }
      if (error < least) [best, least] = [scale, error]
    }
  }
  return best
}
