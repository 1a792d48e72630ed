import { floats, longs, type Tensor, tensor } from '../../tensor/index.ts'
import type { Model } from '../graph.ts'
import { type Graph, isOp, type Node, node, valuesRead } from '../graph.ts'
import { freshNames, withGraph } from '../rewrite.ts'
import type { Runner } from '../runner.ts'

/** Weights that a file keeps in Constant nodes become initializers. */
export function constantsToInitializers(graph: Graph): Graph {
  const initializers = new Map(graph.initializers)
  const nodes = graph.nodes.filter((each) => {
    const value = isOp(each, 'Constant') ? constantOf(each) : undefined
    if (value) initializers.set(each.outputs[0]!, value)
    return value === undefined
  })
  return { ...graph, nodes, initializers }
}

function constantOf({ attributes }: Node): Tensor | undefined {
  const { value, value_float, value_floats, value_int, value_ints } = attributes
  if (value?.kind === 'tensor') return value.value
  if (value_float?.kind === 'float') return floats([], [value_float.value])
  if (value_floats?.kind === 'floats') return floats([value_floats.value.length], value_floats.value)
  if (value_int?.kind === 'int') return tensor('int64', [], BigInt64Array.of(BigInt(value_int.value)))
  if (value_ints?.kind === 'ints') return longs(value_ints.value)
  return undefined
}

// DequantizeLinear of a constant is how 8-bit weights are stored: folding it would make them float again.
const KEPT = new Set([
  'DequantizeLinear',
  'RandomNormal',
  'RandomUniform',
  'RandomNormalLike',
  'RandomUniformLike',
  'Multinomial',
  'Bernoulli',
])

/** Computes, by one run, everything that depends on constants only. */
export async function foldConstants(model: Model, run: Runner): Promise<Model> {
  const { graph } = model
  const constant = new Set(graph.initializers.keys())
  const folded: Node[] = []
  const rest: Node[] = []
  for (const each of graph.nodes) {
    const foldable = !KEPT.has(each.op) && valuesRead(each).every((value) => constant.has(value))
    if (foldable) for (const output of each.outputs) constant.add(output)
    ;(foldable ? folded : rest).push(each)
  }
  if (folded.length === 0) return model
  const read = new Set([...rest.flatMap(valuesRead), ...graph.outputs.map(({ name }) => name)])
  const wanted = folded.flatMap(({ outputs }) => outputs).filter((value) => value !== '' && read.has(value))
  const used = new Set(folded.flatMap(valuesRead))
  const part = withGraph(model, {
    inputs: [],
    outputs: [],
    nodes: folded,
    initializers: new Map([...graph.initializers].filter(([name]) => used.has(name))),
    facts: new Map(),
  })
  const values = wanted.length > 0 ? await run(part, {}, wanted) : {}
  return withGraph(model, { nodes: rest, initializers: new Map([...graph.initializers, ...Object.entries(values)]) })
}

/** Outputs that are constants or inputs of the graph get a node that makes them, so that some block can. */
export function makeOutputs(graph: Graph): Graph {
  const inputs = new Set(graph.inputs.map(({ name }) => name))
  const fresh = freshNames(graph)
  const initializers = new Map(graph.initializers)
  const nodes = [...graph.nodes]
  for (const { name } of graph.outputs) {
    const value = initializers.get(name)
    if (!value || inputs.has(name)) continue
    const source = fresh(`${name}_constant`)
    initializers.delete(name)
    initializers.set(source, value)
    nodes.unshift(node('Identity', [source], [name]))
  }
  return { ...graph, nodes, initializers }
}
