import { BlockscaleError } from '../base/index.ts'
import {
  type Attribute,
  type Attributes,
  type Fact,
  type Graph,
  type Model,
  type Node,
  subgraphs,
  valuesRead,
} from './graph.ts'

/** The model with parts of its graph replaced. */
export const withGraph = (model: Model, change: Partial<Graph>): Model => ({
  ...model,
  graph: { ...model.graph, ...change },
})

/** The node with other input values, also where its subgraphs read them from around. */
export function readingInstead(node: Node, instead: (value: string) => string): Node {
  const inputs = node.inputs.map((input) => (input === '' ? '' : instead(input)))
  if (subgraphs(node).length === 0) return { ...node, inputs }
  const attributes: Attributes = Object.fromEntries(
    Object.entries(node.attributes).map(([name, attribute]): [string, Attribute] => {
      if (attribute.kind === 'graph')
        return [name, { kind: 'graph', value: capturingInstead(attribute.value, instead) }]
      if (attribute.kind === 'graphs') {
        return [name, { kind: 'graphs', value: attribute.value.map((graph) => capturingInstead(graph, instead)) }]
      }
      return [name, attribute]
    }),
  )
  return { ...node, inputs, attributes }
}

function capturingInstead(graph: Graph, instead: (value: string) => string): Graph {
  const own = new Set([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys()])
  for (const { outputs } of graph.nodes) for (const output of outputs) own.add(output)
  const outer = (value: string) => (own.has(value) ? value : instead(value))
  return {
    ...graph,
    nodes: graph.nodes.map((node) => readingInstead(node, outer)),
    outputs: graph.outputs.map((output) => ({ ...output, name: outer(output.name) })),
  }
}

/**
 * Lets every reader of a value read another one; chains (a → b, b → c) are followed.
 *
 * Names of graph outputs are kept by the caller: a value that is one must not be replaced.
 */
export function replaceValues(graph: Graph, replacements: ReadonlyMap<string, string>): Graph {
  if (replacements.size === 0) return graph
  const final = (value: string): string => {
    let current = value
    for (let next = replacements.get(current); next !== undefined; next = replacements.get(current)) current = next
    return current
  }
  return { ...graph, nodes: graph.nodes.map((node) => readingInstead(node, final)) }
}

/** Without nodes whose values nothing reads, unused initializers, and facts of values that are gone. */
export function removeDead(graph: Graph): Graph {
  const wanted = new Set(graph.outputs.map(({ name }) => name))
  const kept: Node[] = []
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((output) => output !== '' && wanted.has(output))) continue
    for (const value of valuesRead(node)) wanted.add(value)
    kept.push(node)
  }
  const nodes = kept.reverse()
  const alive = new Set<string>([...wanted, ...nodes.flatMap(({ outputs }) => outputs)])
  return {
    ...graph,
    nodes,
    initializers: new Map([...graph.initializers].filter(([name]) => wanted.has(name))),
    facts: new Map([...graph.facts].filter(([name]) => alive.has(name))),
  }
}

/** Nodes in topological order; where the order is free, the one of the file is kept. */
export function sortNodes(graph: Graph): Graph {
  const made = new Set<string>([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys()])
  const maker = new Map<string, number>()
  graph.nodes.forEach((node, index) => {
    for (const output of node.outputs) if (output !== '') maker.set(output, index)
  })
  const state = new Array<'new' | 'open' | 'done'>(graph.nodes.length).fill('new')
  const nodes: Node[] = []
  // An explicit stack: graphs of thousands of nodes would overflow a recursion.
  for (let start = 0; start < graph.nodes.length; start++) {
    const stack = [start]
    while (stack.length > 0) {
      const index = stack[stack.length - 1]!
      const node = graph.nodes[index]!
      if (state[index] === 'done') {
        stack.pop()
        continue
      }
      const missing = valuesRead(node).filter((value) => !made.has(value) && maker.has(value))
      if (missing.length === 0) {
        state[index] = 'done'
        nodes.push(node)
        for (const output of node.outputs) made.add(output)
        stack.pop()
        continue
      }
      if (state[index] === 'open') throw cycle(node, missing[0]!)
      state[index] = 'open'
      for (const value of [...missing].reverse()) {
        const before = maker.get(value)!
        if (state[before] === 'open') throw cycle(node, value)
        stack.push(before)
      }
    }
  }
  return { ...graph, nodes }
}

const cycle = (node: Node, value: string): BlockscaleError =>
  new BlockscaleError(
    'MODEL_NOT_ONNX',
    `the graph has a cycle: node ${node.name || node.op} needs ${value}, which depends on it`,
    'the file is damaged, or was changed by a faulty tool; export it again',
  )

/** Names that no value of the graph has yet. */
export function freshNames(graph: Graph): (wish: string) => string {
  const taken = new Set<string>([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys()])
  for (const node of graph.nodes) {
    for (const output of node.outputs) taken.add(output)
    for (const value of valuesRead(node)) taken.add(value)
  }
  return (wish) => {
    let name = wish
    for (let count = 1; taken.has(name); count++) name = `${wish}_${count}`
    taken.add(name)
    return name
  }
}

/** What is known of a value: the graph's inputs and outputs, initializers, and the facts of values inside. */
export function factOf(graph: Graph, value: string): Fact | undefined {
  const known = graph.facts.get(value)
  if (known) return known
  const initializer = graph.initializers.get(value)
  if (initializer) return { type: initializer.type, dims: initializer.dims }
  return [...graph.inputs, ...graph.outputs].find(({ name }) => name === value)?.fact
}
