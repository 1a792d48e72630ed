import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { seededRandom } from '../../src/base/index.ts'
import { openSession } from '../../src/engine/index.ts'
import { type Model, node, writeModel } from '../../src/onnx/index.ts'
import { floats, longs, type Tensor } from '../../src/tensor/index.ts'
import {
  adam,
  distill,
  foldNormalisation,
  Network,
  recordShapes,
  type Samples,
  sgd,
  type TrainOptions,
  train,
} from '../../src/trainer/index.ts'
import { some } from './finite-differences.ts'

const SIZE = 8

/** Four classes: where the bright quarter is, under noise. */
function quarters(count: number, seed: number): Samples {
  const random = seededRandom(seed)
  const labels = Array.from({ length: count }, () => Math.floor(random() * 4))
  const pictures = labels.map((label) =>
    Float32Array.from({ length: SIZE * SIZE }, (_, i) => {
      const quarter = (i % SIZE < SIZE / 2 ? 0 : 1) + (Math.floor(i / SIZE) < SIZE / 2 ? 0 : 2)
      return (quarter === label ? 0.6 : 0) + random()
    }),
  )
  return {
    count,
    batch: (indices) => ({
      input: floats(
        [indices.length, 1, SIZE, SIZE],
        indices.flatMap((i) => [...pictures[i]!]),
      ),
      'target:logits': {
        type: 'int64',
        dims: [indices.length],
        data: BigInt64Array.from(indices, (i) => BigInt(labels[i]!)),
      },
    }),
  }
}

function classifier(): Model {
  const net = new Network(3)
  let x = net.block(net.input('input', ['N', 1, SIZE, SIZE]), 8)
  x = net.residual(x, 8)
  x = net.invertedResidual(x, 8, 2, 2)
  // flattened by four strides and a pooled head would lose where the quarter is
  const wide = net.conv(x, 16, 3, { stride: 2 })
  return net.finish('quarters', { logits: net.linear(net.globalPool(net.relu(wide)), 4) }, { logits: ['N', 4] })
}

const options: TrainOptions = {
  losses: [{ kind: 'cross-entropy', output: 'logits' }],
  method: sgd(),
  rate: 0.05,
  steps: 60,
  batch: 32,
  normalise: true,
  measureEvery: 20,
  heldOut: quarters(64, 2),
}

const run = async (model: Model, feeds: Readonly<Record<string, Tensor>>, output: string) => {
  const session = await openSession(writeModel(model))
  const result = (await session.run(feeds))[output]!.data as Float32Array
  await session.release()
  return result
}
const weightsOf = (model: Model) =>
  [...model.graph.initializers.values()].map((value) => [...(value.data as Float32Array)])

test('a network learns from labels, and its folded form gives the same answers', async () => {
  const trained = await train(classifier(), quarters(256, 1), options)
  expect(trained.ended).toBe('done')
  // without having learned anything the loss is ln 4 = 1.39
  expect(-trained.before).toBeGreaterThan(1)
  expect(-trained.after).toBeLessThan(0.7)

  const folded = foldNormalisation(trained.model)
  expect(folded.graph.nodes.some((each) => each.op === 'BatchNormalization')).toBe(false)
  const input = some(5, 1, SIZE, SIZE)
  const [plain, merged] = [await run(trained.model, { input }, 'logits'), await run(folded, { input }, 'logits')]
  merged.forEach((value, i) => {
    expect(value).toBeCloseTo(plain[i]!, 3)
  })
})

test('an interrupted run goes on from its checkpoint to the very same weights', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'blockscale-'))
  const checkpoint = join(folder, 'state')
  const data = quarters(96, 1)
  const steps = { ...options, steps: 12, measureEvery: 4, method: adam(), rate: 0.01 }
  const whole = await train(classifier(), data, steps)
  const stop = new AbortController()
  const first = await train(classifier(), data, {
    ...steps,
    checkpoint,
    signal: stop.signal,
    onProgress: ({ step }) => step === 5 && stop.abort(),
  })
  expect(first).toMatchObject({ ended: 'interrupted', steps: 5 })
  const taken: number[] = []
  const second = await train(classifier(), data, { ...steps, checkpoint, onProgress: ({ step }) => taken.push(step) })
  expect(taken[0]).toBe(6)
  expect(weightsOf(second.model)).toEqual(weightsOf(whole.model))

  const other = await train(classifier(), data, {
    ...steps,
    rate: 0.02,
    checkpoint,
    onProgress: ({ step }) => taken.push(step),
  })
  expect(taken.at(-12)).toBe(1)
  expect(other.steps).toBe(12)
  await rm(folder, { recursive: true })
})

/** A student that begins as its teacher with noise on its weights. */
async function student(noise: number) {
  const teacher = foldNormalisation(classifier())
  const inputs = { input: some(80, 1, SIZE, SIZE) }
  const targets = { logits: floats([80, 4], await run(teacher, inputs, 'logits')) }
  const random = seededRandom(5)
  const initializers = new Map(
    [...teacher.graph.initializers].map(([name, value]): [string, Tensor] => [
      name,
      value.data.length > 1 && value.type === 'float32'
        ? floats(
            value.dims,
            (value.data as Float32Array).map((v) => v + (random() - 0.5) * noise),
          )
        : value,
    ]),
  )
  return { model: { ...teacher, graph: { ...teacher.graph, initializers } }, samples: { inputs, targets } }
}

test('distillation brings a student nearer to its teacher on samples that it has not seen', async () => {
  const { model, samples } = await student(0.2)
  const distilled = await distill(model, samples, { steps: 120, batch: 16, rate: 2e-3 })
  expect(distilled.heldOutAfter).toBeLessThan(distilled.heldOutBefore / 3)
})

test('a student that gives several rows for each sample learns them all', async () => {
  const { model, samples } = await student(0.2)
  const { graph } = model
  const initializers = new Map([...graph.initializers, ['pairs', longs([-1, 2])] as const])
  const nodes = [...graph.nodes, node('Reshape', ['logits', 'pairs'], ['listed'])]
  const listing = { ...model, graph: { ...graph, nodes, initializers, outputs: [{ name: 'listed' }] } }
  const { logits } = samples.targets
  const targets = { listed: floats([160, 2], logits!.data as Float32Array) }
  const distilled = await distill(listing, { inputs: samples.inputs, targets }, { steps: 120, batch: 16, rate: 2e-3 })
  expect(distilled.heldOutAfter).toBeLessThan(distilled.heldOutBefore / 3)
  const odd = { listed: floats([159, 2], (logits!.data as Float32Array).subarray(0, 318)) }
  await expect(distill(listing, { inputs: samples.inputs, targets: odd })).rejects.toThrow('80 and 159 samples')
})

test('distillation with a ruinous rate returns the student that came', async () => {
  const { model, samples } = await student(0)
  const distilled = await distill(model, samples, { steps: 20, batch: 16, rate: 10 })
  expect(distilled.heldOutAfter).toBeLessThanOrEqual(distilled.heldOutBefore)
  expect(weightsOf(distilled.model)).toEqual(weightsOf(model))
})

test('shapes are recorded for every value, and what follows from shapes alone is a constant', async () => {
  const model = classifier()
  const shaped = await recordShapes(model, { input: some(3, 1, SIZE, SIZE) })
  for (const each of model.graph.nodes)
    for (const output of each.outputs) expect(shaped.shapes.get(output)?.[0]).toBe(3)
})
