import type { Tensor, TensorType } from '../tensor/index.ts'

/** A size: a number, a symbol such as `batch`, or `null` where nothing is known. */
export type Dim = number | string | null

/** What is known of a value: its element type and, where known, its shape. */
export interface Fact {
  readonly type: TensorType
  readonly dims?: readonly Dim[] | undefined
}

export interface ValueInfo {
  readonly name: string
  /** absent for values that are no tensors, and for outputs whose type ONNX Runtime is to infer */
  readonly fact?: Fact | undefined
}

/** ONNX insists on the kind: a float attribute written as an int fails to load. */
export type Attribute =
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'tensor'; readonly value: Tensor }
  | { readonly kind: 'graph'; readonly value: Graph }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly kind: 'graphs'; readonly value: readonly Graph[] }
  /** kinds that we carry through unread (sparse tensors, type protos, references inside functions) */
  | { readonly kind: 'raw'; readonly value: unknown }

export type Attributes = Readonly<Record<string, Attribute>>

/** One operator. An empty string among the inputs or outputs is an optional one that is absent. */
export interface Node {
  readonly name: string
  readonly op: string
  /** '' is the standard domain (also written ai.onnx) */
  readonly domain: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Attributes
}

/** A graph in ONNX's own words; nodes are in topological order. Graphs are values: changes return a new one. */
export interface Graph {
  readonly name: string
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
  readonly nodes: readonly Node[]
  readonly initializers: ReadonlyMap<string, Tensor>
  /** facts of values inside, where the file or a recorded run gave them */
  readonly facts: ReadonlyMap<string, Fact>
}

/** A graph with what it needs to be loaded: operator set versions by domain, and model-local functions. */
export interface Model {
  readonly graph: Graph
  readonly opsets: ReadonlyMap<string, number>
  readonly irVersion: number
  readonly producer: string
  readonly metadata: ReadonlyMap<string, string>
  /** model-local functions, carried through unread */
  readonly functions: readonly unknown[]
}

export const float = (value: number): Attribute => ({ kind: 'float', value })
export const int = (value: number): Attribute => ({ kind: 'int', value })
export const ints = (value: readonly number[]): Attribute => ({ kind: 'ints', value })
export const string = (value: string): Attribute => ({ kind: 'string', value })

/** A node of the standard domain unless `domain` says otherwise. Its name is that of its first output. */
export function node(
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Attributes = {},
  domain = '',
): Node {
  return { name: outputs.find((output) => output !== '') ?? op, op, domain, inputs, outputs, attributes }
}

export const isOp = (candidate: Node, ...ops: readonly string[]): boolean =>
  candidate.domain === '' && ops.includes(candidate.op)

export function intAttribute(of: Node, name: string, otherwise: number): number {
  const attribute = of.attributes[name]
  return attribute?.kind === 'int' ? attribute.value : otherwise
}

export function floatAttribute(of: Node, name: string, otherwise: number): number {
  const attribute = of.attributes[name]
  return attribute?.kind === 'float' || attribute?.kind === 'int' ? attribute.value : otherwise
}

export function intsAttribute(of: Node, name: string): readonly number[] | undefined {
  const attribute = of.attributes[name]
  return attribute?.kind === 'ints' ? attribute.value : undefined
}

export function stringAttribute(of: Node, name: string, otherwise: string): string {
  const attribute = of.attributes[name]
  return attribute?.kind === 'string' ? attribute.value : otherwise
}

/** The graphs that a control-flow node holds in its attributes. */
export function subgraphs(of: Node): readonly Graph[] {
  return Object.values(of.attributes).flatMap((attribute) =>
    attribute.kind === 'graph' ? [attribute.value] : attribute.kind === 'graphs' ? attribute.value : [],
  )
}

/** Every value that a node reads: its inputs, and what its subgraphs take from around them. */
export function valuesRead(by: Node): readonly string[] {
  const read = by.inputs.filter((input) => input !== '')
  for (const graph of subgraphs(by)) read.push(...capturedValues(graph))
  return read
}

function capturedValues(graph: Graph): string[] {
  const own = new Set<string>([...graph.inputs.map((input) => input.name), ...graph.initializers.keys()])
  const captured: string[] = []
  for (const each of graph.nodes) {
    captured.push(...valuesRead(each).filter((value) => !own.has(value)))
    for (const output of each.outputs) own.add(output)
  }
  captured.push(...graph.outputs.map((output) => output.name).filter((value) => !own.has(value)))
  return captured
}

/** Who makes and who reads each value of a graph; positions are indices into `graph.nodes`. */
export interface Wiring {
  readonly producer: ReadonlyMap<string, number>
  readonly consumers: ReadonlyMap<string, readonly number[]>
}

export function wiring(graph: Graph): Wiring {
  const producer = new Map<string, number>()
  const consumers = new Map<string, number[]>()
  graph.nodes.forEach((each, index) => {
    for (const output of each.outputs) if (output !== '') producer.set(output, index)
    for (const value of new Set(valuesRead(each))) {
      const list = consumers.get(value)
      if (list) list.push(index)
      else consumers.set(value, [index])
    }
  })
  return { producer, consumers }
}
