import { longs, numbersOf, type Tensor, toBytes } from '../../tensor/index.ts'
import { intAttribute, isOp, type Model } from '../graph.ts'
import { freshNames, withGraph } from '../rewrite.ts'
import type { Recording } from './record.ts'
import { shapeOnlyValues } from './shape-only.ts'

/** Shape computations that gave the same in every probe run become constants. */
export function foldShapes(model: Model, probes: readonly Recording[]): Model {
  const { graph } = model
  const initializers = new Map(graph.initializers)
  const settled = new Set<string>()
  for (const value of shapeOnlyValues(graph)) {
    const seen = probes.map(({ contents }) => contents.get(value))
    const first = seen[0]
    if (first && seen.every((each) => each && sameContents(first, each))) settled.add(value)
  }
  const nodes = graph.nodes.filter((node) => {
    const all = node.outputs.filter((output) => output !== '').every((output) => settled.has(output))
    if (all)
      for (const output of node.outputs) if (output !== '') initializers.set(output, probes[0]!.contents.get(output)!)
    return !all
  })
  return withGraph(model, { nodes, initializers })
}

function sameContents(one: Tensor, other: Tensor): boolean {
  if (one.type !== other.type || one.dims.join() !== other.dims.join()) return false
  if (one.type === 'string')
    return (one.data as readonly string[]).join('\0') === (other.data as readonly string[]).join('\0')
  return Buffer.from(toBytes(one as never)).equals(toBytes(other as never))
}

/**
 * Reshape targets that only repeat a dim of the input (0) or leave one open (-1) become constants, so that a graph of free
 * batch does not compute them at every run.
 */
export function settleReshapes(model: Model, probes: readonly Recording[]): Model {
  const { graph } = model
  const bySize = shapeOnlyValues(graph)
  const initializers = new Map(graph.initializers)
  const fresh = freshNames(graph)
  const nodes = graph.nodes.map((node) => {
    const [data, target] = node.inputs
    if (!isOp(node, 'Reshape') || !bySize.has(target!) || intAttribute(node, 'allowzero', 0) !== 0) return node
    const targets = probes.map(({ contents }) => contents.get(target!))
    const shapes = probes.map(({ shapes }) => shapes.get(data!))
    if (targets.some((each) => !each) || shapes.some((each) => !each)) return node
    const settled = settledTarget(
      targets.map((each) => numbersOf(each!)),
      shapes.map((each) => each!),
    )
    if (!settled) return node
    const name = fresh(`${node.outputs[0]}_target`)
    initializers.set(name, longs(settled))
    return { ...node, inputs: [data!, name] }
  })
  return withGraph(model, { nodes, initializers })
}

function settledTarget(targets: readonly number[][], shapes: readonly (readonly number[])[]): number[] | undefined {
  const open: number[] = []
  const settled = targets[0]!.map((dim, axis) => {
    if (targets.every((target) => target[axis] === dim)) return dim
    if (targets.every((target, probe) => target[axis] === shapes[probe]![axis])) return 0
    open.push(axis)
    return -1
  })
  return settled.filter((dim) => dim === -1).length <= 1 ? settled : undefined
}

/**
 * Reshape targets that begin with a batch of 1 copy the batch of their input instead.
 *
 * At batch 1 this changes nothing. Whether the graph then runs at other batch sizes, a probe has to say.
 */
export function openBatch(model: Model, { shapes }: Recording): Model {
  const { graph } = model
  const initializers = new Map(graph.initializers)
  const fresh = freshNames(graph)
  const nodes = graph.nodes.map((node) => {
    const target = isOp(node, 'Reshape') ? graph.initializers.get(node.inputs[1]!) : undefined
    if (!target || intAttribute(node, 'allowzero', 0) !== 0) return node
    const dims = numbersOf(target)
    if (dims.length < 2 || dims[0] !== 1 || shapes.get(node.inputs[0]!)?.[0] !== 1) return node
    const name = fresh(`${node.outputs[0]}_target`)
    initializers.set(name, longs([0, ...dims.slice(1)]))
    return { ...node, inputs: [node.inputs[0]!, name] }
  })
  return withGraph(model, { nodes, initializers })
}
