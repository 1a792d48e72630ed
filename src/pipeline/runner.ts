import { openSession } from '../engine/index.ts'
import { type Runner, writeModel } from '../onnx/index.ts'

/** Runs a model once, every node kept as it is, and gives any values of it. */
export const runOnce: Runner = async (model, feeds, outputs) => {
  const present = new Set(model.graph.outputs.map(({ name }) => name))
  const added = outputs.filter((name) => !present.has(name)).map((name) => ({ name }))
  const recording = { ...model, graph: { ...model.graph, outputs: [...model.graph.outputs, ...added] } }
  const session = await openSession(writeModel(recording), { optimization: 'disabled' })
  try {
    return await session.run(feeds, outputs)
  } finally {
    await session.release()
  }
}
