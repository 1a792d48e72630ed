import { BlockscaleError } from '../base/index.ts'
import { type Tensor, toBytes } from '../tensor/index.ts'
import { check } from './check.ts'
import type { BorderValue } from './cut.ts'
import { type Graph, isOp, type Model, type Node } from './graph.ts'
import { readingInstead, removeDead, replaceValues, sortNodes } from './rewrite.ts'

export interface Composition {
  /** the inputs and outputs of the whole, as the uncut model has them */
  readonly inputs: readonly BorderValue[]
  readonly outputs: readonly BorderValue[]
  readonly name: string
}

/**
 * Joins one descendant of each block, in the order of the blocks, into one plain model.
 *
 * Border values keep their names; everything inside a block is prefixed with the block's index. Where an int8 block hands
 * a tensor to another with the same scale and zero point, the 8-bit tensor itself is handed over.
 *
 * @throws BlockscaleError GRAPH_INVALID when the blocks do not fit together
 *
 *     compose([b0, b1], { inputs, outputs, name: 'mobilenetv2' })
 */
export function compose(blocks: readonly Model[], { inputs, outputs, name }: Composition): Model {
  const parts = blocks.map((block, index) => prefixed(block.graph, `b${index}/`))
  const joined: Graph = {
    name,
    inputs,
    outputs,
    nodes: parts.flatMap(({ nodes }) => nodes),
    initializers: new Map(parts.flatMap(({ initializers }) => [...initializers])),
    facts: new Map(parts.flatMap(({ facts }) => [...facts])),
  }
  const ends = new Set([...inputs, ...outputs].map((end) => end.name))
  const graph = removeDead(joinQuantised(sortNodes(joined)))
  return check({
    graph: { ...graph, facts: new Map([...graph.facts].filter(([value]) => !ends.has(value))) },
    opsets: mergeOpsets(blocks),
    irVersion: Math.max(...blocks.map(({ irVersion }) => irVersion)),
    producer: blocks[0]?.producer ?? '',
    metadata: new Map(),
    functions: blocks[0]?.functions ?? [],
  })
}

/** The graph of one block with its inner values and nodes renamed, so that blocks cannot clash. */
function prefixed(graph: Graph, prefix: string): Graph {
  const border = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name))
  const rename = (value: string) => (value === '' || border.has(value) ? value : prefix + value)
  const facts = new Map([...graph.facts].map(([value, fact]) => [rename(value), fact]))
  for (const { name, fact } of graph.outputs) if (fact) facts.set(name, fact)
  return {
    ...graph,
    nodes: graph.nodes.map((node) => ({
      ...readingInstead(node, rename),
      name: prefix + node.name,
      outputs: node.outputs.map(rename),
    })),
    initializers: new Map([...graph.initializers].map(([value, tensor]) => [rename(value), tensor])),
    facts,
  }
}

/** QuantizeLinear(DequantizeLinear(q, s, z), s, z) is q: its readers get q itself. */
function joinQuantised(graph: Graph): Graph {
  const dequantised = new Map<string, Node>()
  for (const node of graph.nodes) if (isOp(node, 'DequantizeLinear')) dequantised.set(node.outputs[0]!, node)
  const ends = new Set(graph.outputs.map(({ name }) => name))
  const replacements = new Map<string, string>()
  for (const node of graph.nodes) {
    if (!isOp(node, 'QuantizeLinear') || ends.has(node.outputs[0]!)) continue
    const before = dequantised.get(node.inputs[0]!)
    if (before && sameQuantisation(graph, before, node)) replacements.set(node.outputs[0]!, before.inputs[0]!)
  }
  return replaceValues(graph, replacements)
}

function sameQuantisation(graph: Graph, one: Node, other: Node): boolean {
  const constant = (node: Node, index: number) => graph.initializers.get(node.inputs[index] ?? '')
  const axis = (node: Node) => (node.attributes.axis?.kind === 'int' ? node.attributes.axis.value : 1)
  const scales = [constant(one, 1), constant(other, 1)] as const
  const zeros = [constant(one, 2), constant(other, 2)] as const
  return (
    scales[0] !== undefined &&
    scales[1] !== undefined &&
    sameTensor(scales[0], scales[1]) &&
    // Without a zero point the type of the 8-bit tensor is not known here: leave such pairs to the runtime.
    zeros[0] !== undefined &&
    zeros[1] !== undefined &&
    sameTensor(zeros[0], zeros[1]) &&
    (scales[0].data.length === 1 || axis(one) === axis(other))
  )
}

function sameTensor(one: Tensor, other: Tensor): boolean {
  if (one.type !== other.type || one.type === 'string' || one.data.length !== other.data.length) return false
  return Buffer.from(toBytes(one as never)).equals(toBytes(other as never))
}

/** Operators of which a later version means something else, with the version that changed them. */
const CHANGED_AFTER_13: Readonly<Record<string, readonly number[]>> = {
  BatchNormalization: [14],
  Split: [18],
  ReduceMean: [18],
  ReduceMax: [18],
  ReduceMin: [18],
  ReduceProd: [18],
  ReduceL1: [18],
  ReduceL2: [18],
  ReduceLogSum: [18],
  ReduceLogSumExp: [18],
  ReduceSumSquare: [18],
  GroupNormalization: [21],
}

function mergeOpsets(blocks: readonly Model[]): ReadonlyMap<string, number> {
  const merged = new Map<string, number>()
  for (const { opsets } of blocks) {
    for (const [domain, version] of opsets) merged.set(domain, Math.max(version, merged.get(domain) ?? 0))
  }
  blocks.forEach((block, index) => {
    for (const { op, domain, name } of block.graph.nodes) {
      const own = block.opsets.get(domain) ?? 0
      const target = merged.get(domain) ?? 0
      const changed =
        domain === '' && (CHANGED_AFTER_13[op] ?? []).some((version) => own < version && version <= target)
      if (changed) {
        throw new BlockscaleError(
          'GRAPH_INVALID',
          `block ${index} has ${op} (${name}) of operator set ${own}, which means something else in ${target}, that another block needs`,
          'make all blocks of one model with the same operator set',
        )
      }
    }
  })
  return merged
}
