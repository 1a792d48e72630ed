import { type Graph, int, ints, type Model, node, writeModel } from '../../src/onnx/index.ts'
import { floats, longs } from '../../src/tensor/index.ts'

const model = (graph: Omit<Graph, 'facts' | 'name'>): Model => ({
  graph: { name: 'tiny', facts: new Map(), ...graph },
  opsets: new Map([['', 13]]),
  irVersion: 8,
  producer: '',
  metadata: new Map(),
  functions: [],
})

type Dims = readonly (number | string)[]

const fact = (dims: Dims) => ({ type: 'float32' as const, dims })

/** A block that adds a constant, so that a sum tells which blocks have run; `of`: its own size, larger files for more. */
export function adder(
  input: string,
  output: string,
  constant: number,
  dims: Dims = [1, 4],
  of: readonly number[] = [1],
): Model {
  const numbers = new Float32Array(of.reduce((product, size) => product * size, 1)).fill(constant)
  return model({
    inputs: [{ name: input, fact: fact(dims) }],
    outputs: [{ name: output, fact: fact(dims) }],
    nodes: [node('Add', [input, `${output}.constant`], [output])],
    initializers: new Map([[`${output}.constant`, floats(of, numbers)]]),
  })
}

/** A block that keeps its thread busy for a while: many products of large matrices. */
export function burner(input: string, output: string, rounds: number, size = 256): Model {
  const names = Array.from({ length: rounds + 1 }, (_, i) =>
    i === 0 ? input : i === rounds ? output : `${output}.${i}`,
  )
  const identity = new Float32Array(size * size)
  for (let i = 0; i < size; i++) identity[i * size + i] = 1
  return model({
    inputs: [{ name: input, fact: fact([size, size]) }],
    outputs: [{ name: output, fact: fact([size, size]) }],
    nodes: names.slice(1).map((name, i) => node('MatMul', [names[i]!, 'identity'], [name])),
    initializers: new Map([['identity', floats([size, size], identity)]]),
  })
}

/** Two outputs from one input: its negative and, through Concat with itself, its double. */
export function forked(input: string, outputs: readonly [string, string]): Model {
  return model({
    inputs: [{ name: input, fact: fact([1, 4]) }],
    outputs: [
      { name: outputs[0], fact: fact([1, 4]) },
      { name: outputs[1], fact: fact([1, 8]) },
    ],
    nodes: [node('Neg', [input], [outputs[0]]), node('Concat', [input, input], [outputs[1]], { axis: int(1) })],
    initializers: new Map(),
  })
}

/** A block whose output has `width` numbers in its last place: more, if need be, than any memory holds. */
export function widened(input: string, output: string, width: number): Model {
  return model({
    inputs: [{ name: input, fact: fact([1, 4]) }],
    outputs: [{ name: output, fact: { type: 'float32', dims: [1, null] } }],
    nodes: [node('ReduceMax', [input], ['peak'], { axes: ints([1]) }), node('Expand', ['peak', 'sizes'], [output])],
    initializers: new Map([['sizes', longs([1, width])]]),
  })
}

export const bytesOf = (of: Model): Uint8Array => writeModel(of)
