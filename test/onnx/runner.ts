import { openSession } from '../../src/engine/index.ts'
import { type Graph, type Model, type Node, type Runner, writeModel } from '../../src/onnx/index.ts'
import type { Tensor } from '../../src/tensor/index.ts'

/** Runs a model in ONNX Runtime, without optimisation, so that every value can be had. */
export const run: Runner = async (model, feeds, outputs) => {
  const known = new Map(model.graph.outputs.map((output) => [output.name, output]))
  const wanted = outputs.map((name) => known.get(name) ?? { name })
  const session = await openSession(writeModel({ ...model, graph: { ...model.graph, outputs: wanted } }), {
    optimization: 'disabled',
  })
  try {
    return await session.run(feeds, outputs)
  } finally {
    await session.release()
  }
}

/** The same with all optimisations, as blocks run in earnest. */
export async function runOptimised(model: Model, feeds: Readonly<Record<string, Tensor>>) {
  const session = await openSession(writeModel(model))
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

/** A small model, built in code. */
export function tinyModel(
  parts: Pick<Graph, 'inputs' | 'outputs' | 'nodes'> & { readonly initializers?: Readonly<Record<string, Tensor>> },
  opset = 13,
): Model {
  return {
    graph: {
      name: 'tiny',
      inputs: parts.inputs,
      outputs: parts.outputs,
      nodes: parts.nodes as Node[],
      initializers: new Map(Object.entries(parts.initializers ?? {})),
      facts: new Map(),
    },
    opsets: new Map([['', opset]]),
    irVersion: 7,
    producer: 'test',
    metadata: new Map(),
    functions: [],
  }
}
