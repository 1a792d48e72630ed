import { seededRandom } from '../../src/base/index.ts'
import { openSession } from '../../src/engine/index.ts'
import { type Graph, type Model, type Node, writeModel } from '../../src/onnx/index.ts'
import { floats, type Tensor } from '../../src/tensor/index.ts'
import { differentiate } from '../../src/trainer/differentiate.ts'
import { Emitter } from '../../src/trainer/emitter.ts'
import { recordShapes } from '../../src/trainer/shapes.ts'

const random = seededRandom(7)

/** Values between −1 and 1 that stay away from 0, where many operators have a corner. */
export const some = (...dims: number[]): Tensor<'float32'> =>
  floats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => {
      const value = random() * 2 - 1
      return Math.abs(value) < 0.05 ? value + Math.sign(value) * 0.1 : value
    }),
  )

/** Distinct values far apart, so that a small step changes no maximum. */
export const distinct = (...dims: number[]): Tensor<'float32'> => {
  const count = dims.reduce((a, b) => a * b, 1)
  const order = Array.from({ length: count }, (_, i) => [random(), i] as const).sort((a, b) => a[0] - b[0])
  return floats(
    dims,
    order.map(([, i]) => (i - count / 2) * 0.05 + 0.013),
  )
}

export const positive = (...dims: number[]): Tensor<'float32'> => {
  const value = some(...dims)
  return floats(
    dims,
    value.data.map((v) => Math.abs(v) + 0.3),
  )
}

export function modelOf(
  inputs: Readonly<Record<string, Tensor>>,
  nodes: readonly Node[],
  outputs: readonly string[],
  initializers: Readonly<Record<string, Tensor>> = {},
  opset = 14,
): Model {
  const graph: Graph = {
    name: 'test',
    inputs: Object.entries(inputs).map(([name, { type, dims }]) => ({ name, fact: { type, dims } })),
    outputs: outputs.map((name) => ({ name })),
    nodes,
    initializers: new Map(Object.entries(initializers)),
    facts: new Map(),
  }
  return { graph, opsets: new Map([['', opset]]), irVersion: 7, producer: '', metadata: new Map(), functions: [] }
}

/**
 * The largest difference between the gradient that rules give and central differences, relative to the largest gradient,
 * over all elements of all float inputs. The loss is a random weighting of all outputs.
 */
export async function gradientError(
  inputs: Readonly<Record<string, Tensor>>,
  nodes: readonly Node[],
  outputs: readonly string[],
  initializers: Readonly<Record<string, Tensor>> = {},
  opset = 14,
): Promise<number> {
  const forward = modelOf(inputs, nodes, outputs, initializers, opset)
  const shaped = await recordShapes(forward, inputs)
  const seeds = Object.fromEntries(outputs.map((name) => [`seed:${name}`, some(...shaped.shapes.get(name)!)]))
  const emit = new Emitter('gradient')
  const found = differentiate(emit, shaped, new Map(outputs.map((name) => [name, `seed:${name}`])), Object.keys(inputs))
  const backward = modelOf(
    { ...inputs, ...seeds },
    [...nodes, ...emit.nodes],
    [...found.values()],
    { ...initializers, ...Object.fromEntries(emit.initializers) },
    opset,
  )
  const [run, back] = [await openSession(writeModel(forward)), await openSession(writeModel(backward))]
  try {
    const gradients = await back.run({ ...inputs, ...seeds })
    let worst = 0
    let scale = 1e-6
    for (const name of Object.keys(inputs)) {
      const value = inputs[name] as Tensor<'float32'>
      const analytic = gradients[found.get(name)!]!.data as Float32Array
      if (gradients[found.get(name)!]!.dims.join() !== value.dims.join()) return Number.POSITIVE_INFINITY
      for (let i = 0; i < value.data.length; i++) {
        const numeric = await difference(run, inputs, name, i, seeds, outputs)
        worst = Math.max(worst, Math.abs(numeric - analytic[i]!))
        scale = Math.max(scale, Math.abs(numeric))
      }
    }
    return worst / scale
  } finally {
    await run.release()
    await back.release()
  }
}

async function difference(
  run: Awaited<ReturnType<typeof openSession>>,
  inputs: Readonly<Record<string, Tensor>>,
  name: string,
  index: number,
  seeds: Readonly<Record<string, Tensor>>,
  outputs: readonly string[],
): Promise<number> {
  const step = 1 / 128
  const at = async (by: number) => {
    const value = inputs[name] as Tensor<'float32'>
    const moved = value.data.slice()
    moved[index] = moved[index]! + by
    const result = await run.run({ ...inputs, [name]: floats(value.dims, moved) })
    let loss = 0
    for (const output of outputs) {
      const y = result[output]!.data as Float32Array
      const weight = seeds[`seed:${output}`]!.data as Float32Array
      for (let i = 0; i < y.length; i++) loss += y[i]! * weight[i]!
    }
    return loss
  }
  return ((await at(step)) - (await at(-step))) / (2 * step)
}
