import { intAttribute, intsAttribute, stringAttribute } from '../../onnx/index.ts'
import { numbersAt, type Rule, type RuleContext, unary, unbroadcast, unsupported } from './rule.ts'

/** Reshape, Flatten, Squeeze, Unsqueeze: the same elements in the shape they came in. */
export const reshape = unary((at, x) => at.emit.reshape(at.gradient, at.shape(x)))

export const transpose = unary((at, x) => {
  const rank = at.shape(x).length
  const perm = intsAttribute(at.node, 'perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis)
  const inverse = Array.from({ length: rank }, (_, axis) => perm.indexOf(axis))
  return at.emit.transpose(at.gradient, inverse)
})

export const expand: Rule = (at) => [unbroadcast(at, at.gradient, at.shape(at.node.outputs[0]!), at.node.inputs[0]!)]

export const concat: Rule = (at) => {
  const axis = positive(at, intAttribute(at.node, 'axis', 0), at.node.outputs[0]!)
  const sizes = at.node.inputs.map((input) => at.shape(input)[axis]!)
  if (sizes.length === 1) return [at.gradient]
  return at.emit.ops('Split', [at.gradient, at.emit.longs(...sizes)], sizes.length, {
    axis: { kind: 'int', value: axis },
  })
}

export const split: Rule = (at) => {
  const axis = positive(at, intAttribute(at.node, 'axis', 0), at.node.inputs[0]!)
  const parts = at.node.outputs.map((output, i) => at.gradients[i] ?? at.emit.filled(at.shape(output), 0))
  return [at.emit.concat(parts, axis)]
}

export const slice: Rule = (at) => {
  const dims = at.shape(at.node.inputs[0]!)
  const out = at.shape(at.node.outputs[0]!)
  const starts = intsAttribute(at.node, 'starts') ?? numbersAt(at, 1) ?? []
  const axes = intsAttribute(at.node, 'axes') ?? numbersAt(at, 3) ?? starts.map((_, axis) => axis)
  const steps = numbersAt(at, 4) ?? starts.map(() => 1)
  const reached = [...out]
  const gradient = axes.reduce((sliced, given, i) => {
    const axis = given < 0 ? given + dims.length : given
    const size = dims[axis]!
    const begin = starts[i]! < 0 ? starts[i]! + size : starts[i]!
    const start = Math.max(0, Math.min(begin, steps[i]! > 0 ? size : size - 1))
    const whole = unslice(at, sliced, { dims: reached, axis, size, start, step: steps[i]! })
    reached[axis] = size
    return whole
  }, at.gradient)
  return [gradient]
}

/** Puts the slices along `axis` of a gradient of `dims` back to `start, start + step, …` of `size`; the rest is zero. */
function unslice(
  at: RuleContext,
  gradient: string,
  of: { dims: readonly number[]; axis: number; size: number; start: number; step: number },
): string {
  const { emit } = at
  const { axis, size } = of
  const rank = of.dims.length
  const count = of.dims[axis]!
  if (count === size && of.step === 1) return gradient
  const along = (value: number) => Array.from({ length: rank }, (_, a) => (a === axis ? value : 0))
  const step = Math.abs(of.step)
  const forward = of.step < 0 ? emit.slice(gradient, [axis], [-1], [-1000000000], [-1]) : gradient
  const start = of.step < 0 ? of.start - (count - 1) * step : of.start
  if (step === 1) return emit.pad(forward, along(start), along(size - start - count))
  // zeros between the slices: on an axis of their own, which is then merged
  const apart = emit.op('Unsqueeze', [forward, emit.longs(axis + 1)])
  const fill = Array.from({ length: rank + 1 }, (_, a) => (a === axis + 1 ? step - 1 : 0))
  const filled = emit.pad(
    apart,
    fill.map(() => 0),
    fill,
  )
  const merged = emit.reshape(filled, of.dims.with(axis, count * step))
  const covered = emit.slice(merged, [axis], [0], [(count - 1) * step + 1])
  return emit.pad(covered, along(start), along(size - start - ((count - 1) * step + 1)))
}

export const pad: Rule = (at) => {
  const mode = stringAttribute(at.node, 'mode', 'constant')
  if (mode !== 'constant') throw unsupported(at.node, `mode ${mode}`)
  const dims = at.shape(at.node.inputs[0]!)
  const pads = intsAttribute(at.node, 'pads') ?? numbersAt(at, 1) ?? []
  const axes = numbersAt(at, 3) ?? dims.map((_, axis) => axis)
  const starts = axes.map((_, i) => Math.max(0, pads[i]!))
  const ends = axes.map((axis, i) => starts[i]! + dims[axis]!)
  if (pads.some((count) => count < 0)) throw unsupported(at.node, 'negative pads')
  return [at.emit.slice(at.gradient, axes, starts, ends)]
}

/** Gather with constant indices that take each element at most once, as in channel shuffles. */
export const gather: Rule = (at) => {
  const { emit } = at
  const dims = at.shape(at.node.inputs[0]!)
  const axis = positive(at, intAttribute(at.node, 'axis', 0), at.node.inputs[0]!)
  const indices = (numbersAt(at, 1) ?? []).map((index) => (index < 0 ? index + dims[axis]! : index))
  if (new Set(indices).size !== indices.length) throw unsupported(at.node, 'an index occurs twice')
  const flat = emit.reshape(at.gradient, dims.with(axis, indices.length))
  const zero = emit.filled(dims.with(axis, 1), 0)
  const places = Array.from({ length: dims[axis]! }, (_, place) => {
    const found = indices.indexOf(place)
    return found < 0 ? indices.length : found
  })
  const all = indices.length === dims[axis] ? flat : emit.concat([flat, zero], axis)
  return [emit.op('Gather', [all, emit.longs(...places)], { axis: { kind: 'int', value: axis } }), undefined]
}

export const depthToSpace = unary((at, x) => {
  const { emit } = at
  const [n, c, h, w] = at.shape(x) as [number, number, number, number]
  const size = intAttribute(at.node, 'blocksize', 2)
  const channels = c / (size * size)
  const apart = emit.reshape(at.gradient, [n, channels, h, size, w, size])
  const perm = stringAttribute(at.node, 'mode', 'DCR') === 'DCR' ? [0, 3, 5, 1, 2, 4] : [0, 1, 3, 5, 2, 4]
  return emit.reshape(emit.transpose(apart, perm), [n, c, h, w])
})

export const spaceToDepth = unary((at) =>
  at.emit.op('DepthToSpace', [at.gradient], {
    blocksize: { kind: 'int', value: intAttribute(at.node, 'blocksize', 2) },
    mode: { kind: 'string', value: 'DCR' },
  }),
)

const positive = (at: RuleContext, axis: number, of: string): number => (axis < 0 ? axis + at.shape(of).length : axis)
