import { floatAttribute, intAttribute } from '../../onnx/index.ts'
import { type Rule, type RuleContext, unary, unbroadcast } from './rule.ts'

const times = (at: RuleContext, factor: string): string => at.emit.op('Mul', [at.gradient, factor])

/** Lets the gradient through where the truth value holds. */
const where = (at: RuleContext, condition: string): string => times(at, at.emit.mask(condition))

export const relu = unary((at, _x, y) => where(at, at.emit.op('Greater', [y, at.emit.scalar(0)])))

// Inside its bounds Clip changes nothing: one comparison in place of two.
export const clip: Rule = (at) => [where(at, at.emit.op('Equal', [at.node.inputs[0]!, at.node.outputs[0]!]))]

export const leakyRelu = unary((at, x) => slope(at, x, at.emit.scalar(floatAttribute(at.node, 'alpha', 0.01))))

const slope = (at: RuleContext, x: string, below: string): string => {
  const positive = at.emit.op('Greater', [x, at.emit.scalar(0)])
  return at.emit.op('Where', [positive, at.gradient, at.emit.op('Mul', [at.gradient, below])])
}

export const pRelu: Rule = (at) => {
  const [x, below] = at.node.inputs as [string, string]
  const negative = () => at.emit.op('Min', [x, at.emit.scalar(0)])
  return [
    at.wants(0) ? slope(at, x, below) : undefined,
    at.wants(1) ? unbroadcast(at, times(at, negative()), at.shape(x), below) : undefined,
  ]
}

export const sigmoid = unary((at, _x, y) => {
  const other = at.emit.op('Sub', [at.emit.scalar(1), y])
  return times(at, at.emit.op('Mul', [y, other]))
})

export const tanh = unary((at, _x, y) => {
  const other = at.emit.op('Sub', [at.emit.scalar(1), at.emit.op('Mul', [y, y])])
  return times(at, other)
})

export const hardSigmoid = unary((at, _x, y) => {
  const { emit } = at
  const inside = emit.op('And', [emit.op('Greater', [y, emit.scalar(0)]), emit.op('Less', [y, emit.scalar(1)])])
  return emit.op('Mul', [where(at, inside), emit.scalar(floatAttribute(at.node, 'alpha', 0.2))])
})

// x · clip(x/6 + 1/2, 0, 1): below −3 the slope is 0, above 3 it is 1, between them x/3 + 1/2
export const hardSwish = unary((at, x) => {
  const { emit } = at
  const rising = emit.op('Add', [emit.op('Mul', [x, emit.scalar(1 / 3)]), emit.scalar(0.5)])
  const upper = emit.op('Where', [emit.op('Less', [x, emit.scalar(3)]), rising, emit.scalar(1)])
  return times(at, emit.op('Where', [emit.op('Greater', [x, emit.scalar(-3)]), upper, emit.scalar(0)]))
})

export const softplus = unary((at, x) => times(at, at.emit.op('Sigmoid', [x])))

const lastAxis = (at: RuleContext): number[] => [intAttribute(at.node, 'axis', -1)]

export const softmax = unary((at, _x, y) => {
  const weighted = times(at, y)
  const sum = at.emit.sum(weighted, lastAxis(at), true)
  return at.emit.op('Sub', [weighted, at.emit.op('Mul', [y, sum])])
})

export const logSoftmax = unary((at, _x, y) => {
  const sum = at.emit.sum(at.gradient, lastAxis(at), true)
  return at.emit.op('Sub', [at.gradient, at.emit.op('Mul', [at.emit.op('Exp', [y]), sum])])
})
