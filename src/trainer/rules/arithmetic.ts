import { type Rule, type RuleContext, unary, unbroadcast } from './rule.ts'

const back = (at: RuleContext, input: number, gradient: () => string): string | undefined =>
  at.wants(input) ? unbroadcast(at, gradient(), at.shape(at.node.outputs[0]!), at.node.inputs[input]!) : undefined

export const add: Rule = (at) => at.node.inputs.map((_, input) => back(at, input, () => at.gradient))

export const sub: Rule = (at) => [back(at, 0, () => at.gradient), back(at, 1, () => at.emit.op('Neg', [at.gradient]))]

export const mul: Rule = (at) => {
  const [a, b] = at.node.inputs as [string, string]
  return [
    back(at, 0, () => at.emit.op('Mul', [at.gradient, b])),
    back(at, 1, () => at.emit.op('Mul', [at.gradient, a])),
  ]
}

export const div: Rule = (at) => {
  const { emit, gradient } = at
  const b = at.node.inputs[1]!
  const y = at.node.outputs[0]!
  return [
    back(at, 0, () => emit.op('Div', [gradient, b])),
    back(at, 1, () => emit.op('Neg', [emit.op('Div', [emit.op('Mul', [gradient, y]), b])])),
  ]
}

export const neg = unary((at) => at.emit.op('Neg', [at.gradient]))
export const exp = unary((at, _x, y) => at.emit.op('Mul', [at.gradient, y]))
export const log = unary((at, x) => at.emit.op('Div', [at.gradient, x]))
export const abs = unary((at, x) => at.emit.op('Mul', [at.gradient, at.emit.op('Sign', [x])]))
export const sqrt = unary((at, _x, y) => at.emit.op('Div', [at.emit.op('Mul', [at.gradient, at.emit.scalar(0.5)]), y]))
export const identity: Rule = (at) => at.node.inputs.map((_, input) => (input === 0 ? at.gradient : undefined))
