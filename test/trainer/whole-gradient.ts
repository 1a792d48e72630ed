import { readFile } from 'node:fs/promises'
import { openSession, type Tensors } from '../../src/engine/index.ts'
import { isOp, type Model, normalise, readModel, writeModel } from '../../src/onnx/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { buildStep, recordShapes, sgd, trainableWeights } from '../../src/trainer/index.ts'
import { LOSS, pack, WEIGHTS } from '../../src/trainer/step.ts'
import { some } from './finite-differences.ts'

const run = async (model: Model, feeds: Tensors, outputs: readonly string[]): Promise<Tensors> => {
  const asked = { ...model, graph: { ...model.graph, outputs: outputs.map((name) => ({ name })) } }
  const session = await openSession(writeModel(asked), { optimization: 'disabled' })
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

/**
 * How far the gradient of all weights of a real network is from finite differences, relative to its own length squared: a
 * step along the gradient has to change the loss as the gradient foretells.
 */
export async function wholeGradientError(path: string, dims: readonly number[]): Promise<number> {
  const { model } = await normalise(readModel(await readFile(path)), run)
  return gradientErrorOf(beforeSquashing(model), dims)
}

/** Noise saturates softmax and sigmoid at the outputs, and then there is no gradient to compare. */
function beforeSquashing(model: Model): Model {
  const producer = (value: string) => model.graph.nodes.find((each) => each.outputs.includes(value))
  const outputs = model.graph.outputs.map((output) => {
    let from = producer(output.name)
    while (from && isOp(from, 'Flatten', 'Reshape', 'Squeeze', 'Transpose')) from = producer(from.inputs[0]!)
    return from && isOp(from, 'Softmax', 'Sigmoid') ? { name: from.inputs[0]! } : output
  })
  return { ...model, graph: { ...model.graph, outputs } }
}

async function gradientErrorOf(model: Model, dims: readonly number[]): Promise<number> {
  const input = { [model.graph.inputs[0]!.name]: some(1, ...dims) }
  const shaped = await recordShapes(model, input)
  const outputs = model.graph.outputs.map((output) => output.name)
  const answers = await run(model, input, outputs)
  // half of each answer: a pull in one direction, which smoothing layers do not average away
  const targets = Object.fromEntries(
    outputs.map((name) => [
      `target:${name}`,
      floats(
        answers[name]!.dims,
        (answers[name]!.data as Float32Array).map((v) => v / 2),
      ),
    ]),
  )
  const losses = outputs.map((output) => {
    const data = answers[output]!.data as Float32Array
    return {
      kind: 'mse' as const,
      output, // an output of almost nothing, such as scores of noise, would be all rounding
      weight: data.length / data.reduce((sum, v) => sum + v * v, 1e-6 * data.length),
    }
  })
  const step = buildStep(model, shaped, losses, trainableWeights(model.graph), sgd(0, 0), false)
  const weights = pack(step.weights, model.graph.initializers)
  const vector = (data: Float32Array) => floats([data.length], data)
  const feeds = { ...input, ...targets }

  const session = await openSession(writeModel(step.train))
  const stepped = await session.run({
    ...feeds,
    [WEIGHTS]: vector(weights),
    'train/velocity': vector(new Float32Array(weights.length)),
    'train/rate': floats([], [1]),
  })
  await session.release()
  const [velocity] = [...step.carried].flatMap(([name, to]) => (to === 'train/velocity' ? [stepped[name]!] : []))
  const gradient = velocity!.data as Float32Array
  let power = 0
  for (const value of gradient) power += value * value

  const evaluate = await openSession(writeModel(step.evaluate))
  const lossAt = async (by: number) => {
    const moved = weights.map((value, i) => value + by * gradient[i]!)
    return (await evaluate.run({ ...feeds, [WEIGHTS]: vector(moved) }))[LOSS]!.data[0] as number
  }
  const loss = await lossAt(0)
  const by = (1e-3 * loss) / power
  const change = ((await lossAt(by)) - (await lossAt(-by))) / (2 * by)
  await evaluate.release()
  return Math.abs(change - power) / power
}
