import { BlockscaleError } from '../base/index.ts'
import { type Node, valuesRead } from '../onnx/index.ts'
import type { Emitter } from './emitter.ts'
import { ruleFor } from './rules/index.ts'
import { type ShapedGraph, shapeIn } from './shapes.ts'

/**
 * Adds to `emit` the nodes that compute the gradients of a graph: reverse accumulation, in standard ONNX operators only.
 *
 * The nodes read values of the forward graph by name, so they belong into one graph with its nodes, behind them.
 *
 * @param seeds the loss's gradient for each output that it depends on: output → value of the same shape
 * @param wanted values (weights, inputs or any others) whose gradients are asked for
 * @returns the name of the gradient for each wanted value that the loss depends on
 * @throws BlockscaleError MODEL_UNSUPPORTED for an operator without a rule between a wanted value and the loss
 */
export function differentiate(
  emit: Emitter,
  forward: ShapedGraph,
  seeds: ReadonlyMap<string, string>,
  wanted: Iterable<string>,
): ReadonlyMap<string, string> {
  const targets = new Set(wanted)
  const active = activeValues(forward.graph.nodes, targets)
  const received = new Map<string, string[]>()
  const receive = (value: string, gradient: string) => {
    const list = received.get(value)
    if (list) list.push(gradient)
    else received.set(value, [gradient])
  }
  for (const [output, seed] of seeds) receive(output, seed)

  /** The sum of what a value received; each value is asked once, when all its readers are behind us. */
  const total = (value: string): string | undefined => {
    const parts = received.get(value)
    if (!parts || parts.length === 1) return parts?.[0]
    const sum = parts.length === 2 ? emit.op('Add', parts) : emit.op('Sum', parts)
    received.set(value, [sum])
    return sum
  }

  for (const node of [...forward.graph.nodes].reverse()) {
    const gradients = node.outputs.map((output) => (active.has(output) ? total(output) : undefined))
    if (gradients.every((gradient) => gradient === undefined)) continue
    const given = ruleOf(node)({
      emit,
      node,
      gradient: gradients[0] ?? '',
      gradients,
      wants: (input) => active.has(node.inputs[input] ?? ''),
      shape: (value) => shapeIn(forward, value),
      constant: (value) => (value && !targets.has(value) ? forward.constants.get(value) : undefined),
    })
    given.forEach((gradient, input) => {
      const value = node.inputs[input]
      if (gradient && value && active.has(value)) receive(value, gradient)
    })
  }
  const result = new Map<string, string>()
  for (const value of targets) {
    const gradient = total(value)
    if (gradient) result.set(value, gradient)
  }
  return result
}

/** The wanted values and all that depends on them: where gradients have to pass. */
function activeValues(nodes: readonly Node[], wanted: ReadonlySet<string>): ReadonlySet<string> {
  const active = new Set(wanted)
  for (const node of nodes) {
    if (!valuesRead(node).some((value) => active.has(value))) continue
    if (node.op === 'Shape') continue
    for (const output of node.outputs) if (output !== '') active.add(output)
  }
  return active
}

function ruleOf(node: Node) {
  const rule = node.domain === '' ? ruleFor(node.op) : undefined
  if (!rule) {
    const domain = node.domain ? `${node.domain}.` : ''
    throw new BlockscaleError(
      'MODEL_UNSUPPORTED',
      `no gradient for the operator ${domain}${node.op} (${node.name})`,
      'train the blocks that do not hold it',
    )
  }
  return rule
}
