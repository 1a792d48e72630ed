import type { Tensor } from '../tensor/index.ts'
import { asFloats } from './prepare.ts'
import type { Tensors } from './task.ts'

/** Decibels stand for "equal" from here on; both a signal-to-noise ratio and a PSNR can be infinite. */
export const MAX_DECIBELS = 60

/** Power below this is rounding of 32-bit floats. */
const TINY = 1e-12

/** @param result where it is written; may be `logits` itself */
export function softmax(
  logits: ArrayLike<number>,
  from = 0,
  count = logits.length,
  result: Float64Array = new Float64Array(count),
): Float64Array {
  let greatest = -Infinity
  for (let i = 0; i < count; i++) greatest = Math.max(greatest, logits[from + i]!)
  let sum = 0
  for (let i = 0; i < count; i++) {
    const value = Math.exp(logits[from + i]! - greatest)
    result[i] = value
    sum += value
  }
  for (let i = 0; i < count; i++) result[i]! /= sum
  return result
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))

/** Index of the greatest value; the first of equal ones. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i
  return best
}

/** The `count` greatest, greatest first; equal ones in order. */
export const greatest = (values: ArrayLike<number>, count: number): number[] =>
  Array.from(values, (_, i) => i)
    .sort((a, b) => values[b]! - values[a]! || a - b)
    .slice(0, count)

/** Kullback–Leibler divergence of `q` from `p` in nats; probabilities below 1e-7 count as that. */
export function divergenceOf(p: ArrayLike<number>, q: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < p.length; i++) {
    const floor = 1e-7
    if (p[i]! > 0) sum += p[i]! * Math.log(Math.max(p[i]!, floor) / Math.max(q[i]!, floor))
  }
  return Math.max(0, sum)
}

/** Power of the difference over the power of the signal around its mean. A constant offset of a signal carries nothing. */
export function noiseOverSignal(signal: Tensor, other: Tensor): number {
  const a = asFloats(signal).data
  const b = asFloats(other).data
  if (a.length !== b.length) return Number.POSITIVE_INFINITY
  let mean = 0
  for (let i = 0; i < a.length; i++) mean += a[i]! / a.length
  let power = 0
  let noise = 0
  for (let i = 0; i < a.length; i++) {
    power += (a[i]! - mean) ** 2
    noise += (a[i]! - b[i]!) ** 2
  }
  // a single number or a constant has no variance: its own square is the signal
  if (power < TINY) for (let i = 0; i < a.length; i++) power += a[i]! ** 2
  // in comparison with float rounding, so that 0 over 0 is no difference
  return noise / Math.max(power, TINY * a.length)
}

/** The mean of `noiseOverSignal` over all outputs that hold numbers. */
export function meanNoise(original: Tensors, variant: Tensors): number {
  const names = Object.keys(original).filter((name) => original[name]!.type !== 'string')
  const sum = names.reduce((total, name) => total + noiseOverSignal(original[name]!, variant[name]!), 0)
  return names.length === 0 ? 0 : sum / names.length
}

/** Signal over noise in decibels, at most `MAX_DECIBELS`. */
export const decibels = (noiseOverSignal: number): number =>
  Math.min(MAX_DECIBELS, -10 * Math.log10(Math.max(noiseOverSignal, 1e-30)))

export const mean = (values: readonly number[]): number =>
  values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length
