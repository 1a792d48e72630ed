import { floatAttribute } from '../../onnx/index.ts'
import { elementCount } from '../../tensor/index.ts'
import type { Rule, RuleContext } from './rule.ts'

const channelwise = (dims: readonly number[]): number[] => dims.flatMap((_, axis) => (axis === 1 ? [] : [axis]))

/** `gradient · factor[c]`, and so on: BatchNormalization itself is the runtime's fastest affine map by channel. */
function affine(at: RuleContext, x: string, factor: string, offset: string, channels: number): string {
  const [zeros, ones] = [at.emit.filled([channels], 0), at.emit.filled([channels], 1)]
  return at.emit.op('BatchNormalization', [x, factor, offset, zeros, ones], { epsilon: { kind: 'float', value: 0 } })
}

/**
 * BatchNormalization. Where mean and variance are constants it is an affine map; where they are computed from the very
 * batch (see `withBatchStatistics`) the gradient runs through them as well.
 */
export const batchNormalization: Rule = (at) => {
  const { emit, node, gradient } = at
  const [x, scale, , mean, variance] = node.inputs as [string, string, string, string, string]
  const dims = at.shape(x)
  const channels = dims[1]!
  const axes = channelwise(dims)
  const epsilon = emit.scalar(floatAttribute(node, 'epsilon', 1e-5))
  const deviation = emit.op('Sqrt', [emit.op('Add', [variance, epsilon])])
  const sum = emit.sum(gradient, axes)
  // Σ g·x̂ with x̂ = (x − mean) / deviation
  const centred = emit.op('Sub', [emit.sum(emit.op('Mul', [gradient, x]), axes), emit.op('Mul', [mean, sum])])
  const sumOfScaled = emit.op('Div', [centred, deviation])
  const slope = emit.op('Div', [scale, deviation])
  const input = () => {
    if (at.constant(mean)) return affine(at, gradient, slope, emit.filled([channels], 0), channels)
    const count = emit.scalar(1 / (elementCount(dims) / channels))
    // slope · (g − mean(g) − x̂ · mean(g·x̂)) = g·slope + x·b + c
    const b = emit.op('Neg', [
      emit.op('Div', [emit.op('Mul', [emit.op('Mul', [slope, sumOfScaled]), count]), deviation]),
    ])
    const c = emit.op('Sub', [
      emit.op('Neg', [emit.op('Mul', [emit.op('Mul', [slope, sum]), count])]),
      emit.op('Mul', [b, mean]),
    ])
    const zeros = emit.filled([channels], 0)
    return emit.op('Add', [affine(at, gradient, slope, c, channels), affine(at, x, b, zeros, channels)])
  }
  return [at.wants(0) ? input() : undefined, at.wants(1) ? sumOfScaled : undefined, at.wants(2) ? sum : undefined]
}
