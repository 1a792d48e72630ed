import { type BlockId, BlockscaleError, blockId } from '../base/index.ts'
import { check } from './check.ts'
import { type Fact, type Graph, type Model, valuesRead } from './graph.ts'
import type { Normalised } from './normalised.ts'
import { factOf, removeDead } from './rewrite.ts'

/** A tensor that crosses from one block to another, or an end of the whole graph. */
export interface BorderValue {
  readonly name: string
  readonly fact: Fact
}

/** A place between two nodes of the order, and what crosses there. */
export interface Border {
  /** number of nodes before the border */
  readonly position: number
  /** values that a node before makes and one after reads, in the order in which they are made */
  readonly values: readonly string[]
  /** bytes of those values at nominal shapes */
  readonly bytes: number
}

/** A border at which the graph is to be cut. */
export type Cut = Border

/** One block of a cut model. */
export interface BlockGraph {
  readonly id: BlockId
  readonly model: Model
  /** values of earlier blocks or graph inputs, in the order in which they are made */
  readonly inputs: readonly BorderValue[]
  /** values that later blocks or the graph's outputs need */
  readonly outputs: readonly BorderValue[]
  /** recorded shapes of all values of this block, at batch 1 and the nominal input size */
  readonly nominal: ReadonlyMap<string, readonly number[]>
}

/**
 * Cuts a model at the given borders into blocks that run one after the other.
 *
 * Weights that two blocks read are copied into both.
 *
 * @throws BlockscaleError CUT_IMPOSSIBLE when a position lies outside the graph or a border value is no tensor
 *
 *     cut(normalised, proposeCuts(normalised)).map(({ id }) => id) // → ['b0', 'b1', …]
 */
export function cut(normalised: Normalised, cuts: readonly Cut[]): BlockGraph[] {
  const { graph } = normalised.model
  const positions = [...new Set(cuts.map(({ position }) => position))].sort((a, b) => a - b)
  const outside = positions.find((position) => position <= 0 || position >= graph.nodes.length)
  if (outside !== undefined) {
    throw new BlockscaleError(
      'CUT_IMPOSSIBLE',
      `cannot cut before node ${outside} of ${graph.nodes.length}`,
      'take positions from borders() of the same model',
    )
  }
  const ends = [...positions, graph.nodes.length]
  return ends.map((end, index) => segment(normalised, blockId(`b${index}`), index === 0 ? 0 : ends[index - 1]!, end))
}

function segment(normalised: Normalised, id: BlockId, start: number, end: number): BlockGraph {
  const { model, nominal } = normalised
  const { graph } = model
  const nodes = graph.nodes.slice(start, end)
  const made = new Set(nodes.flatMap(({ outputs }) => outputs).filter((value) => value !== ''))
  const read = new Set(nodes.flatMap(valuesRead))
  const wanted = new Set([...graph.nodes.slice(end).flatMap(valuesRead), ...graph.outputs.map(({ name }) => name)])
  const before = [
    ...graph.inputs.map(({ name }) => name),
    ...graph.nodes.slice(0, start).flatMap(({ outputs }) => outputs),
  ]
  const border = (name: string): BorderValue => ({ name, fact: factAt(graph, name) })
  const inputs = before.filter((value) => read.has(value)).map(border)
  const outputs = [...made].filter((value) => wanted.has(value)).map(border)
  const ports = new Set([...inputs, ...outputs].map(({ name }) => name))
  const inner = removeDead({
    name: id,
    inputs,
    outputs,
    nodes,
    initializers: new Map([...graph.initializers].filter(([name]) => read.has(name))),
    facts: new Map([...graph.facts].filter(([name]) => made.has(name) && !ports.has(name))),
  })
  const values = new Set([...ports, ...inner.nodes.flatMap((node) => node.outputs)])
  return {
    id,
    model: check({ ...model, graph: inner, metadata: new Map() }),
    inputs,
    outputs,
    nominal: new Map([...nominal].filter(([name]) => values.has(name))),
  }
}

function factAt(graph: Graph, value: string): Fact {
  const fact = factOf(graph, value)
  if (fact) return fact
  throw new BlockscaleError(
    'CUT_IMPOSSIBLE',
    `the value ${value} is no tensor with a known type, so it cannot cross a border`,
    'ask for other borders',
  )
}
