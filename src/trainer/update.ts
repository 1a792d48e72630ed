import type { Emitter } from './emitter.ts'

/** How weights follow their gradient. `decay` pulls all weights towards zero. */
export type Method =
  | { readonly kind: 'sgd'; readonly momentum: number; readonly decay: number }
  | { readonly kind: 'adam'; readonly decay: number }

/** Stochastic gradients with Nesterov momentum 0.9, the recipe of residual networks. */
export const sgd = (decay = 5e-4, momentum = 0.9): Method => ({ kind: 'sgd', momentum, decay })
/** Adam with decoupled decay. */
export const adam = (decay = 0): Method => ({ kind: 'adam', decay })

const BETA1 = 0.9
const BETA2 = 0.999

/** Vectors of the weights' length that a method keeps from step to step. */
export const momentsOf = (method: Method): readonly string[] =>
  method.kind === 'sgd' ? ['train/velocity'] : ['train/mean', 'train/square']

/** The scalars that a step takes: the rate, and for Adam the corrections of moments that began at zero. */
export function stepScalars(method: Method, rate: number, step: number): Readonly<Record<string, number>> {
  if (method.kind === 'sgd') return { 'train/rate': rate }
  return {
    'train/rate': (rate * Math.sqrt(1 - BETA2 ** step)) / (1 - BETA1 ** step),
    'train/decay': rate * method.decay,
  }
}

/**
 * Adds the nodes of one update.
 *
 * All weights are one vector, so that an update is a dozen nodes whatever the network.
 *
 * @returns the new weights and the new moments, in the order of `momentsOf`
 */
export function emitUpdate(
  emit: Emitter,
  method: Method,
  weights: string,
  gradient: string,
): { weights: string; moments: readonly string[] } {
  const times = (value: string, factor: number) => emit.op('Mul', [value, emit.scalar(factor)])
  const add = (a: string, b: string) => emit.op('Add', [a, b])
  if (method.kind === 'sgd') {
    const pulled = method.decay ? add(gradient, times(weights, method.decay)) : gradient
    const velocity = add(times('train/velocity', method.momentum), pulled)
    const step = add(pulled, times(velocity, method.momentum))
    return { weights: emit.op('Sub', [weights, emit.op('Mul', [step, 'train/rate'])]), moments: [velocity] }
  }
  const mean = add(times('train/mean', BETA1), times(gradient, 1 - BETA1))
  const square = add(times('train/square', BETA2), times(emit.op('Mul', [gradient, gradient]), 1 - BETA2))
  const direction = emit.op('Div', [mean, add(emit.op('Sqrt', [square]), emit.scalar(1e-8))])
  const moved = emit.op('Sub', [weights, emit.op('Mul', [direction, 'train/rate'])])
  const decayed = emit.op('Sub', [moved, emit.op('Mul', [weights, 'train/decay'])])
  return { weights: decayed, moments: [mean, square] }
}
