import { BlockscaleError } from '../base/index.ts'
import { openSession } from '../engine/index.ts'
import { type Attribute, type Graph, isOp, type Model, node, writeModel } from '../onnx/index.ts'
import { numbersOf, type Tensor } from '../tensor/index.ts'

/** A graph whose every value has a known shape, because it was run once at exactly these sizes. */
export interface ShapedGraph {
  readonly graph: Graph
  readonly shapes: ReadonlyMap<string, readonly number[]>
  /** initializers, Constant nodes, and what the graph computes from shapes alone */
  readonly constants: ReadonlyMap<string, Tensor>
}

/**
 * Runs a model once and records the shape of every value, and the value itself where it follows from shapes alone.
 *
 * Asking the runtime is exact for every operator; rules of our own would not be.
 *
 * @param feeds tensors of the sizes that training will use; their contents do not matter
 */
export async function recordShapes(model: Model, feeds: Readonly<Record<string, Tensor>>): Promise<ShapedGraph> {
  const { graph } = model
  const constants = new Map<string, Tensor>(graph.initializers)
  const fixed = new Set<string>(graph.initializers.keys())
  const values: string[] = []
  const ask: string[] = []
  for (const each of graph.nodes) {
    const constant = isOp(each, 'Constant') ? constantOf(each.attributes) : undefined
    if (constant) constants.set(each.outputs[0]!, constant)
    const followsFromShapes = isOp(each, 'Shape', 'Size') || each.inputs.every((input) => !input || fixed.has(input))
    for (const output of each.outputs.filter((name) => name !== '')) {
      if (followsFromShapes) fixed.add(output)
      if (followsFromShapes) ask.push(output)
      else values.push(output)
    }
  }
  const shapeOf = (value: string) => `shape of ${value}`
  const recorder: Model = {
    ...model,
    graph: {
      ...graph,
      nodes: [...graph.nodes, ...values.map((value) => node('Shape', [value], [shapeOf(value)]))],
      outputs: [...ask.map((name) => ({ name })), ...values.map((value) => ({ name: shapeOf(value) }))],
    },
  }
  const session = await openSession(writeModel(recorder), { optimization: 'disabled' })
  try {
    const recorded = await session.run(feeds)
    const shapes = new Map<string, readonly number[]>()
    for (const [name, value] of Object.entries(feeds)) shapes.set(name, value.dims)
    for (const name of ask) constants.set(name, recorded[name]!)
    for (const [name, value] of constants) shapes.set(name, value.dims)
    for (const name of values) shapes.set(name, numbersOf(recorded[shapeOf(name)]!))
    return { graph, shapes, constants }
  } finally {
    await session.release()
  }
}

function constantOf(attributes: Readonly<Record<string, Attribute>>): Tensor | undefined {
  const value = attributes.value
  return value?.kind === 'tensor' ? value.value : undefined
}

/** @throws BlockscaleError GRAPH_INVALID for a value that the recorded run has not seen */
export function shapeIn(shaped: ShapedGraph, value: string): readonly number[] {
  const dims = shaped.shapes.get(value)
  if (!dims) throw new BlockscaleError('GRAPH_INVALID', `the shape of ${value} is not known`)
  return dims
}
