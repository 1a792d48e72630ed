import { openSession } from '../engine/index.ts'
import { type Model, removeDead, writeModel } from '../onnx/index.ts'
import { recordShapes } from '../trainer/index.ts'
import type { Samples, Tensors } from './block.ts'

/**
 * Runs a block on its samples and hands over the wanted values of each picture, one picture at a time, so that memory is
 * bounded by one picture's values. Values that are inputs of the block come from the sample itself.
 */
export async function record(
  model: Model,
  samples: Samples,
  wanted: readonly string[],
  each: (values: Tensors, index: number) => void,
  threads = 1,
): Promise<void> {
  const inputs = new Set(model.graph.inputs.map((input) => input.name))
  const made = [...new Set(wanted)].filter((value) => !inputs.has(value))
  if (made.length === 0) {
    samples.forEach(each)
    return
  }
  const session = await openSession(writeModel(upTo(model, made)), { threads })
  try {
    for (const [index, sample] of samples.entries()) {
      const feeds = Object.fromEntries(session.inputs.map((name) => [name, sample[name]!]))
      each({ ...sample, ...(await session.run(feeds)) }, index)
    }
  } finally {
    await session.release()
  }
}

/** What a model gives for each of its samples. */
export async function recordOutputs(model: Model, samples: Samples): Promise<Tensors[]> {
  const names = model.graph.outputs.map(({ name }) => name)
  const outputs: Tensors[] = []
  await record(model, samples, names, (values) => {
    outputs.push(Object.fromEntries(names.map((name) => [name, values[name]!])))
  })
  return outputs
}

/** The part of a model that makes the given values, which become its outputs. */
export function upTo(model: Model, values: readonly string[]): Model {
  return { ...model, graph: removeDead({ ...model.graph, outputs: values.map((name) => ({ name })) }) }
}

/** The shapes of all values of a model at the sizes of `feeds`. */
export async function nominalOf(model: Model, feeds: Tensors): Promise<ReadonlyMap<string, readonly number[]>> {
  return (await recordShapes(model, feeds)).shapes
}
