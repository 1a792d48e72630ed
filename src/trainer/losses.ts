import type { TensorType } from '../tensor/index.ts'
import { floats } from '../tensor/index.ts'
import type { Emitter } from './emitter.ts'

/**
 * What training makes small, for one output of the network. Several are added.
 *
 * `mse`, `charbonnier` (a smooth absolute error), `smooth-l1` and `binary-cross-entropy` (of logits) compare element by
 * element and are averaged; `masked` averages over the elements where the mask is not 0. `cross-entropy` takes logits
 * `[N, K]` and class indices `[N]`; `divergence` takes logits and the logits of a teacher, both `[N, K]`.
 */
export type Loss = ElementLoss | ClassLoss | TeacherLoss

export interface ElementLoss {
  readonly kind: 'mse' | 'charbonnier' | 'smooth-l1' | 'binary-cross-entropy'
  readonly output: string
  /** factor in the sum of losses, 1 unless given */
  readonly weight?: number
  readonly masked?: boolean
}

export interface ClassLoss {
  readonly kind: 'cross-entropy'
  readonly output: string
  readonly weight?: number
  /** share of the truth that is spread over all classes, 0 unless given */
  readonly smoothing?: number
}

/** Kullback–Leibler divergence of the student's classes from the teacher's, in nats. @see arXiv 1503.02531 */
export interface TeacherLoss {
  readonly kind: 'divergence'
  readonly output: string
  readonly weight?: number
  /** divides both logits, so that small scores count as well; 1 unless given */
  readonly temperature?: number
}

export const targetOf = (output: string): string => `target:${output}`
export const maskOf = (output: string): string => `mask:${output}`

/** The inputs that a loss adds to the training graph. */
export function lossInputs(loss: Loss, dims: readonly number[]): readonly LossInput[] {
  if (loss.kind === 'cross-entropy') return [{ name: targetOf(loss.output), type: 'int64', dims: [dims[0]!] }]
  const target: LossInput = { name: targetOf(loss.output), type: 'float32', dims }
  return loss.kind !== 'divergence' && loss.masked ? [target, { ...target, name: maskOf(loss.output) }] : [target]
}
export interface LossInput {
  readonly name: string
  readonly type: TensorType
  readonly dims: readonly number[]
}

/** Adds the nodes of a loss: its value (a scalar) and, in closed form, its gradient with respect to the output. */
export function emitLoss(emit: Emitter, loss: Loss, dims: readonly number[]): { value: string; gradient: string } {
  const scaled = (value: string) =>
    loss.weight === undefined || loss.weight === 1 ? value : emit.op('Mul', [value, emit.scalar(loss.weight)])
  const mean = (value: string) => emit.op('ReduceMean', [value], { keepdims: { kind: 'int', value: 0 } })
  if (loss.kind === 'cross-entropy') {
    const { value, gradient } = crossEntropy(emit, loss, dims)
    const share = (loss.weight ?? 1) / dims[0]!
    return { value: scaled(mean(value)), gradient: emit.op('Mul', [gradient, emit.scalar(share)]) }
  }
  if (loss.kind === 'divergence') {
    const { value, gradient, temperature } = divergence(emit, loss)
    // The gradients of softened classes shrink with the square of the temperature: so that rates mean the same, they are scaled.
    const share = ((loss.weight ?? 1) * temperature) / dims[0]!
    const whole = emit.op('Mul', [mean(value), emit.scalar(temperature ** 2)])
    return { value: scaled(whole), gradient: emit.op('Mul', [gradient, emit.scalar(share)]) }
  }
  const { value, gradient } = elementLosses[loss.kind](emit, loss.output, targetOf(loss.output))
  if (!loss.masked) {
    const share = (loss.weight ?? 1) / dims.reduce((product, dim) => product * dim, 1)
    return { value: scaled(mean(value)), gradient: emit.op('Mul', [gradient, emit.scalar(share)]) }
  }
  const mask = maskOf(loss.output)
  const total = (of: string) => emit.op('ReduceSum', [of], { keepdims: { kind: 'int', value: 0 } })
  const count = emit.op('Max', [total(mask), emit.scalar(1)])
  const masked = total(emit.op('Mul', [value, mask]))
  return {
    value: scaled(emit.op('Div', [masked, count])),
    gradient: scaled(emit.op('Div', [emit.op('Mul', [gradient, mask]), count])),
  }
}

type Elementwise = (emit: Emitter, y: string, target: string) => { value: string; gradient: string }

const elementLosses: Readonly<Record<ElementLoss['kind'], Elementwise>> = {
  mse(emit, y, target) {
    const error = emit.op('Sub', [y, target])
    return { value: emit.op('Mul', [error, error]), gradient: emit.op('Add', [error, error]) }
  },
  charbonnier(emit, y, target) {
    const error = emit.op('Sub', [y, target])
    const value = emit.op('Sqrt', [emit.op('Add', [emit.op('Mul', [error, error]), emit.scalar(1e-6)])])
    return { value, gradient: emit.op('Div', [error, value]) }
  },
  'smooth-l1'(emit, y, target) {
    // with c = clip(e, −1, 1) the loss is c·(e − c/2), and its slope is c
    const error = emit.op('Sub', [y, target])
    const clipped = emit.op('Clip', [error, emit.scalar(-1), emit.scalar(1)])
    const half = emit.op('Mul', [clipped, emit.scalar(0.5)])
    return { value: emit.op('Mul', [clipped, emit.op('Sub', [error, half])]), gradient: clipped }
  },
  'binary-cross-entropy'(emit, y, target) {
    // max(y, 0) − y·t + log(1 + exp(−|y|)) never overflows
    const tail = emit.op('Softplus', [emit.op('Neg', [emit.op('Abs', [y])])])
    const linear = emit.op('Sub', [emit.op('Relu', [y]), emit.op('Mul', [y, target])])
    return { value: emit.op('Add', [linear, tail]), gradient: emit.op('Sub', [emit.op('Sigmoid', [y]), target]) }
  },
}

function crossEntropy(emit: Emitter, loss: ClassLoss, dims: readonly number[]): { value: string; gradient: string } {
  const classes = dims[1]!
  const smoothing = loss.smoothing ?? 0
  const truth = emit.op('OneHot', [
    targetOf(loss.output),
    emit.longs(classes),
    emit.constant(floats([2], [smoothing / classes, 1 - smoothing + smoothing / classes])),
  ])
  const logs = emit.op('LogSoftmax', [loss.output], { axis: { kind: 'int', value: -1 } })
  const value = emit.op('Neg', [emit.sum(emit.op('Mul', [truth, logs]), [1])])
  return { value, gradient: emit.op('Sub', [emit.op('Exp', [logs]), truth]) }
}

function divergence(emit: Emitter, { output, temperature = 1 }: TeacherLoss) {
  const softened = (logits: string) =>
    emit.op('LogSoftmax', [temperature === 1 ? logits : emit.op('Mul', [logits, emit.scalar(1 / temperature)])], {
      axis: { kind: 'int', value: -1 },
    })
  const [student, teacher] = [softened(output), softened(targetOf(output))]
  const truth = emit.op('Exp', [teacher])
  const value = emit.sum(emit.op('Mul', [truth, emit.op('Sub', [teacher, student])]), [1])
  return { value, gradient: emit.op('Sub', [emit.op('Exp', [student]), truth]), temperature }
}
