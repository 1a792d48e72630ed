import { intAttribute, ints, intsAttribute } from '../../onnx/index.ts'
import { elementCount, floats } from '../../tensor/index.ts'
import { taps, type Window, windowOf } from './convolution.ts'
import { numbersAt, type Rule, type RuleContext, unary } from './rule.ts'

const LOWEST = -3.4e38

const poolWindow = (at: RuleContext): Window =>
  windowOf(
    at.node,
    intsAttribute(at.node, 'kernel_shape') ?? [],
    at.shape(at.node.inputs[0]!).slice(2),
    at.shape(at.node.outputs[0]!).slice(2),
  )

/**
 * Adds what each kernel position received back to where it was read: a transposed convolution with a constant kernel.
 *
 * @param parts `[N·C, k, oh, ow]`, one channel for each row of `kernel` `[k, 1, kh, kw]`
 */
function scatter(at: RuleContext, parts: string, kernel: string, window: Window): string {
  const dims = at.shape(at.node.inputs[0]!)
  const output = at.shape(at.node.outputs[0]!)
  const covered = (axis: 0 | 1) =>
    (output[axis + 2]! - 1) * window.strides[axis] + (window.kernel[axis] - 1) * window.dilations[axis] + 1
  // What the last window leaves uncovered; more than a stride of it has to be padded afterwards.
  const rest = ([0, 1] as const).map((axis) =>
    Math.max(0, dims[axis + 2]! + window.before[axis] + window.after[axis] - covered(axis)),
  )
  const inside = at.emit.op('ConvTranspose', [parts, kernel], {
    strides: ints(window.strides),
    dilations: ints(window.dilations),
    pads: ints([...window.before, ...window.after]),
  })
  const padded = at.emit.pad(inside, [0, 0, 0, 0], [0, 0, ...rest])
  return at.emit.reshape(padded, dims)
}

/** The gradient goes to the largest element; equal ones share it. */
export const maxPool: Rule = (at) => {
  const { emit } = at
  const [x, y] = [at.node.inputs[0]!, at.node.outputs[0]!]
  const window = poolWindow(at)
  const [n, c, oh, ow] = at.shape(y) as [number, number, number, number]
  const padded = emit.pad(x, [0, 0, ...window.before], [0, 0, ...window.after], LOWEST)
  const count = window.kernel[0] * window.kernel[1]
  const hits = taps(at, padded, window, [oh, ow]).map((tap) =>
    emit.reshape(emit.mask(emit.op('Equal', [tap, y])), [n * c, 1, oh, ow]),
  )
  const all = emit.concat(hits, 1)
  const share = emit.op('Div', [emit.reshape(at.gradient, [n * c, 1, oh, ow]), emit.sum(all, [1], true)])
  const oneHot = new Float32Array(count * count)
  for (let position = 0; position < count; position++) oneHot[position * count + position] = 1
  const kernel = emit.constant(floats([count, 1, ...window.kernel], oneHot))
  return [scatter(at, emit.op('Mul', [all, share]), kernel, window)]
}

export const averagePool: Rule = (at) => {
  const { emit } = at
  const window = poolWindow(at)
  const [n, c, oh, ow] = at.shape(at.node.outputs[0]!) as [number, number, number, number]
  const size = at.shape(at.node.inputs[0]!).slice(2)
  const includePads = intAttribute(at.node, 'count_include_pad', 0) === 1
  const pads = intsAttribute(at.node, 'pads') ?? [...window.before, ...window.after]
  const seen = (axis: 0 | 1, position: number) => {
    const from = position * window.strides[axis] - window.before[axis]
    const limits = includePads ? [-window.before[axis], size[axis]! + pads[axis + 2]!] : [0, size[axis]!]
    let count = 0
    for (let k = 0; k < window.kernel[axis]; k++) {
      const at = from + k * window.dilations[axis]
      if (at >= limits[0]! && at < limits[1]!) count++
    }
    return count
  }
  const shares = Float32Array.from({ length: oh * ow }, (_, i) => 1 / (seen(0, Math.floor(i / ow)) * seen(1, i % ow)))
  const weighted = emit.op('Mul', [
    emit.reshape(at.gradient, [n * c, 1, oh, ow]),
    emit.constant(floats([1, 1, oh, ow], shares)),
  ])
  return [scatter(at, weighted, emit.filled([1, 1, ...window.kernel], 1), window)]
}

/** Spreads a gradient over the axes that were summed or averaged away. */
function spread(at: RuleContext, axes: readonly number[], mean: boolean): string {
  const { emit } = at
  const dims = at.shape(at.node.inputs[0]!)
  const reduced = axes.map((axis) => (axis < 0 ? axis + dims.length : axis))
  const kept = emit.reshape(
    at.gradient,
    dims.map((size, axis) => (reduced.includes(axis) ? 1 : size)),
  )
  const count = elementCount(reduced.map((axis) => dims[axis]!))
  const scaled = mean ? emit.op('Mul', [kept, emit.scalar(1 / count)]) : kept
  return emit.op('Expand', [scaled, emit.longs(...dims)])
}

const spatial = (at: RuleContext): number[] =>
  at.shape(at.node.inputs[0]!).flatMap((_, axis) => (axis < 2 ? [] : [axis]))

export const globalAveragePool = unary((at) => spread(at, spatial(at), true))

export const globalMaxPool = unary((at, x, y) => {
  const { emit } = at
  const hits = emit.mask(emit.op('Equal', [x, y]))
  const share = emit.op('Div', [at.gradient, emit.sum(hits, spatial(at), true)])
  return emit.op('Mul', [hits, share])
})

/** Axes of a reduction: an input since operator set 13 (sum) or 18 (mean), an attribute before; all where absent. */
function reducedAxes(at: RuleContext): readonly number[] {
  const axes = intsAttribute(at.node, 'axes') ?? numbersAt(at, 1)
  if (axes?.length) return axes
  return intAttribute(at.node, 'noop_with_empty_axes', 0) ? [] : at.shape(at.node.inputs[0]!).map((_, axis) => axis)
}

export const reduceMean: Rule = (at) => [spread(at, reducedAxes(at), true)]
export const reduceSum: Rule = (at) => [spread(at, reducedAxes(at), false)]
