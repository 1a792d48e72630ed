import { BlockscaleError } from '../base/index.ts'
import { elementCount } from '../tensor/index.ts'
import { type Graph, type Model, type Node, subgraphs, valuesRead } from './graph.ts'

/**
 * Holds a graph to what every rewrite may rely on: nodes in topological order, every value made once and before its use,
 * outputs that something makes, unique node names, attributes and initializers that agree with themselves.
 *
 * @returns what it was given, so that a rewrite can end in `return check(…)`
 * @throws BlockscaleError GRAPH_INVALID naming the culprit
 */
export function check<T extends Model | Graph>(of: T): T {
  if ('graph' in of) {
    checkOpsets(of)
    checkGraph(of.graph, new Set())
  } else checkGraph(of, new Set())
  return of
}

const invalid = (message: string): BlockscaleError => new BlockscaleError('GRAPH_INVALID', message)

function checkOpsets(model: Model): void {
  if (!model.opsets.has('')) throw invalid('the model names no version of the standard operator set')
  for (const { name, op, domain } of model.graph.nodes) {
    if (!model.opsets.has(domain) && model.functions.length === 0) {
      throw invalid(`node ${name} (${op}) is of the domain ${domain}, for which the model names no operator set`)
    }
  }
}

function checkGraph(graph: Graph, around: ReadonlySet<string>): void {
  const made = new Set(around)
  const own = new Set<string>()
  const make = (value: string, by: string) => {
    if (own.has(value)) throw invalid(`value ${value} is made twice, the second time by ${by}`)
    own.add(value)
    made.add(value)
  }
  for (const { name } of graph.inputs) {
    if (name === '') throw invalid(`an input of graph ${graph.name} has no name`)
    make(name, 'the graph inputs')
  }
  for (const [name, value] of graph.initializers) {
    make(name, 'an initializer')
    if (value.data.length !== elementCount(value.dims)) {
      throw invalid(`initializer ${name} has ${value.data.length} elements for the shape [${value.dims.join(', ')}]`)
    }
  }
  const names = new Set<string>()
  for (const node of graph.nodes) {
    checkNode(node, graph, names)
    for (const value of valuesRead(node)) {
      if (!made.has(value))
        throw invalid(`node ${node.name} (${node.op}) reads ${value}, which nothing before it makes`)
    }
    for (const subgraph of subgraphs(node)) checkGraph(subgraph, made)
    for (const output of node.outputs) if (output !== '') make(output, `node ${node.name} (${node.op})`)
  }
  for (const { name } of graph.outputs) {
    if (!made.has(name)) throw invalid(`nothing makes the output ${name} of graph ${graph.name}`)
  }
}

function checkNode(node: Node, graph: Graph, names: Set<string>): void {
  if (node.op === '') throw invalid(`node ${node.name} of graph ${graph.name} has no operator`)
  // Unnamed nodes are legal in a file; `normalise` names them all.
  if (node.name !== '' && names.has(node.name)) throw invalid(`two nodes are called ${node.name}`)
  names.add(node.name)
  if (!node.outputs.some((output) => output !== '')) throw invalid(`node ${node.name} (${node.op}) makes no value`)
  for (const [name, attribute] of Object.entries(node.attributes)) {
    const { kind, value } = attribute
    const sane =
      kind === 'int'
        ? Number.isInteger(value)
        : kind === 'float'
          ? typeof value === 'number'
          : kind === 'ints'
            ? value.every(Number.isInteger)
            : true
    if (!sane) throw invalid(`attribute ${name} of node ${node.name} (${node.op}) is no ${kind}: ${String(value)}`)
  }
}
