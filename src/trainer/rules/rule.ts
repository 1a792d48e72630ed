import { BlockscaleError } from '../../base/index.ts'
import type { Node } from '../../onnx/index.ts'
import { numbersOf, type Tensor } from '../../tensor/index.ts'
import type { Emitter } from '../emitter.ts'

/** What a rule knows while it writes the gradient of one node. */
export interface RuleContext {
  readonly emit: Emitter
  readonly node: Node
  /** gradient of the first output; every rule but that of Split needs no more */
  readonly gradient: string
  /** gradients of all outputs; `undefined` where the loss does not depend on one */
  readonly gradients: readonly (string | undefined)[]
  /** whether a gradient of this input is asked for */
  wants(input: number): boolean
  shape(value: string): readonly number[]
  /** the value of a constant; `undefined` for what the run computes */
  constant(value: string | undefined): Tensor | undefined
}

/** Writes the gradient of a node's inputs, in their order; `undefined` where none is asked for or there is none. */
export type Rule = (at: RuleContext) => readonly (string | undefined)[]

/** A rule for nodes of one input. */
export const unary =
  (rule: (at: RuleContext, x: string, y: string) => string): Rule =>
  (at) => [rule(at, at.node.inputs[0]!, at.node.outputs[0]!)]

/** Sums a gradient over the axes along which `target` was broadcast. */
export function unbroadcast(at: RuleContext, gradient: string, from: readonly number[], target: string): string {
  const to = at.shape(target)
  const lead = from.length - to.length
  const axes = from.flatMap((size, axis) => (axis < lead || (to[axis - lead] === 1 && size !== 1) ? [axis] : []))
  const summed = axes.length === 0 ? gradient : at.emit.sum(gradient, axes, true)
  return lead === 0 ? summed : at.emit.reshape(summed, to)
}

/** The numbers of an attribute-like input. @throws BlockscaleError MODEL_UNSUPPORTED when the run computes it from data */
export function numbersAt(at: RuleContext, input: number): readonly number[] | undefined {
  const name = at.node.inputs[input]
  if (!name) return undefined
  const value = at.constant(name)
  if (!value) throw unsupported(at.node, `its input ${name} is not constant`)
  return numbersOf(value)
}

export const unsupported = (node: Node, why: string): BlockscaleError =>
  new BlockscaleError(
    'MODEL_UNSUPPORTED',
    `no gradient for ${node.op} (${node.name}): ${why}`,
    'train the blocks without this operator, or export it in another form',
  )
