/**
 * What training costs and what it reaches.
 *
 *     npx tsx bench/trainer.ts            the cost of a step against its forward pass (seconds)
 *     npx tsx bench/trainer.ts scratch    a ResNet-20 from scratch on 3,000 CIFAR-10 pictures (many minutes)
 *
 * Needs the assets folder (`BLOCKSCALE_ASSETS`) for all but the plain convolution. Costs are CPU time of the one thread, the least
 * of several rounds that take turns, because wall time says little on a busy machine.
 */
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { seededRandom } from '../src/base/index.ts'
import { openSession, type Tensors } from '../src/engine/index.ts'
import { type Model, normalise, readModel, writeModel } from '../src/onnx/index.ts'
import { decodePicture, elementCount, floats, type Tensor } from '../src/tensor/index.ts'
import {
  adam,
  buildStep,
  foldNormalisation,
  type Loss,
  type Method,
  Network,
  recordShapes,
  type Samples,
  sgd,
  train,
  trainableWeights,
} from '../src/trainer/index.ts'
import { assets } from '../test/assets.ts'
import { type ResultRow, writeResult } from './result.ts'

const random = seededRandom(1)
const noise = (...dims: number[]): Tensor<'float32'> =>
  floats(
    dims,
    Float32Array.from({ length: elementCount(dims) }, () => random() * 2 - 1),
  )

/** CPU milliseconds of one call of each, the least of `rounds` in turn. */
async function cpuTimes(calls: readonly (() => Promise<unknown>)[], rounds = 9): Promise<number[]> {
  const least = calls.map(() => Number.POSITIVE_INFINITY)
  for (let round = 0; round < rounds + 2; round++) {
    for (const [i, call] of calls.entries()) {
      const before = process.cpuUsage()
      await call()
      const { user, system } = process.cpuUsage(before)
      if (round > 1) least[i] = Math.min(least[i]!, (user + system) / 1000)
    }
  }
  return least
}

/** A training step against the forward pass of the network as it is run, and as it stands in the step (weights as inputs). */
async function stepCost(
  name: string,
  model: Model,
  feeds: Tensors,
  loss: Loss,
  method: Method,
  deployed = model,
): Promise<ResultRow> {
  const data = Object.fromEntries(model.graph.inputs.map((input) => [input.name, feeds[input.name]!]))
  const shaped = await recordShapes(model, data)
  const step = buildStep(model, shaped, [loss], trainableWeights(model.graph), method, deployed !== model)
  const vectors: Record<string, Tensor> = {}
  for (const { name: input, fact } of step.train.graph.inputs) {
    if (input in feeds) continue
    const dims = (fact?.dims ?? []) as readonly number[]
    vectors[input] = floats(dims, new Float32Array(elementCount(dims)).fill(input.endsWith('weights') ? 0.01 : 0))
  }
  const state = Object.fromEntries(
    step.evaluate.graph.inputs.flatMap(({ name: input }) => (input in vectors ? [[input, vectors[input]!]] : [])),
  )
  const forward = await openSession(writeModel(deployed))
  const evaluate = await openSession(writeModel(step.evaluate))
  const session = await openSession(writeModel(step.train))
  const [plain, inStep, whole] = await cpuTimes([
    () => forward.run(data),
    () => evaluate.run({ ...state, ...feeds }),
    () => session.run({ ...vectors, ...feeds }),
  ])
  for (const each of [forward, evaluate, session]) await each.release()
  const row = {
    what: name,
    forwardMs: round(plain!),
    forwardInStepMs: round(inStep!),
    stepMs: round(whole!),
    stepPerForward: round(whole! / plain!),
    stepPerForwardInStep: round(whole! / inStep!),
  }
  console.log(JSON.stringify(row))
  return row
}

const round = (value: number): number => Math.round(value * 100) / 100

function plainConvolution(): Model {
  const net = new Network(1)
  return net.finish('conv', { output: net.conv(net.input('input', ['N', 64, 32, 32]), 64, 3) })
}

function resnet20(): Model {
  const net = new Network(1)
  let x = net.block(net.input('input', ['N', 3, 32, 32]), 16)
  for (const [channels, stride] of [16, 32, 64].flatMap((c, stage) => [
    [c, stage === 0 ? 1 : 2] as const,
    [c, 1] as const,
    [c, 1] as const,
  ])) {
    x = net.residual(x, channels, stride)
  }
  return net.finish('resnet20', { logits: net.linear(net.globalPool(x), 10) }, { logits: ['N', 10] })
}

async function costs(): Promise<ResultRow[]> {
  const mse: Loss = { kind: 'mse', output: 'output' }
  const conv = { input: noise(32, 64, 32, 32), 'target:output': noise(32, 64, 32, 32) }
  const labels: Tensor = {
    type: 'int64',
    dims: [64],
    data: BigInt64Array.from({ length: 64 }, (_, i) => BigInt(i % 10)),
  }
  const scratch = resnet20()
  const pictures = noise(64, 3, 32, 32)
  const rows = [
    await stepCost('64→64 3×3 at 32×32 alone, batch 32, Adam', plainConvolution(), conv, mse, adam()),
    await stepCost('64→64 3×3 with the gradient of its input', withLayerBefore(), conv, mse, adam()),
    await stepCost(
      'ResNet-20 from scratch, batch 64, SGD',
      scratch,
      { input: pictures, 'target:logits': labels },
      { kind: 'cross-entropy', output: 'logits' },
      sgd(),
      foldNormalisation(scratch),
    ),
  ]
  if (!assets) return rows
  const read = readModel(await readFile(`${assets}/models/cifar10-resnet20.onnx`))
  const { model } = await normalise(read, runOnce)
  const [input, output] = [model.graph.inputs[0]!.name, model.graph.outputs[0]!.name]
  rows.push(
    await stepCost(
      'cifar10-resnet20 distilled, batch 64, Adam',
      model,
      { [input]: pictures, [`target:${output}`]: noise(64, 10) },
      { kind: 'mse', output },
      adam(),
    ),
  )
  return rows
}

function withLayerBefore(): Model {
  const net = new Network(1)
  const x = net.conv(net.input('input', ['N', 64, 32, 32]), 64, 3)
  return net.finish('convs', { output: net.conv(net.relu(x), 64, 3) })
}

const runOnce = async (model: Model, feeds: Tensors, outputs: readonly string[]): Promise<Tensors> => {
  const asked = { ...model, graph: { ...model.graph, outputs: outputs.map((name) => ({ name })) } }
  const session = await openSession(writeModel(asked), { optimization: 'disabled' })
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

interface Labelled {
  readonly pixels: Float32Array
  readonly label: number
}

const MEAN = [0.485, 0.456, 0.406]
const STD = [0.229, 0.224, 0.225]

async function readPicture(path: string, label: number): Promise<Labelled> {
  const { data } = await decodePicture(path)
  const pixels = new Float32Array(3 * 1024)
  for (let i = 0; i < 1024; i++) {
    for (let c = 0; c < 3; c++) pixels[c * 1024 + i] = (data[i * 3 + c]! / 255 - MEAN[c]!) / STD[c]!
  }
  return { pixels, label }
}

async function cifar(folder: string): Promise<{ training: Labelled[]; validation: Labelled[] }> {
  const classes = (await readdir(join(folder, 'cifar10-validation'))).sort()
  const training: Labelled[] = []
  for (const file of await readdir(join(folder, 'cifar10-calibration'))) {
    const label = classes.indexOf(basename(file).replace(/_\d+\.\w+$/, ''))
    training.push(await readPicture(join(folder, 'cifar10-calibration', file), label))
  }
  const validation: Labelled[] = []
  for (const [label, name] of classes.entries()) {
    for (const file of await readdir(join(folder, 'cifar10-validation', name))) {
      validation.push(await readPicture(join(folder, 'cifar10-validation', name, file), label))
    }
  }
  return { training, validation }
}

/** Random flip and shift by up to 4 pixels, zeros beyond the border (of the normalised values, as PyTorch pads after normalising). */
function samples(items: readonly Labelled[], augment: boolean): Samples {
  return {
    count: items.length,
    batch(indices, dice) {
      const data = new Float32Array(indices.length * 3072)
      indices.forEach((index, i) => {
        const { pixels } = items[index]!
        const flip = augment && dice() < 0.5
        const [dx, dy] = augment ? [Math.floor(dice() * 9) - 4, Math.floor(dice() * 9) - 4] : [0, 0]
        for (let row = 0; row < 96; row++) {
          const y = (row % 32) + dy
          if (y < 0 || y > 31) continue
          for (let x = 0; x < 32; x++) {
            const sx = (flip ? 31 - x : x) + dx
            if (sx >= 0 && sx < 32) data[i * 3072 + row * 32 + x] = pixels[(row - (row % 32) + y) * 32 + sx]!
          }
        }
      })
      const labels = BigInt64Array.from(indices, (index) => BigInt(items[index]!.label))
      return {
        input: floats([indices.length, 3, 32, 32], data),
        'target:logits': { type: 'int64', dims: [indices.length], data: labels },
      }
    },
  }
}

async function top1(model: Model, items: readonly Labelled[]): Promise<number> {
  const session = await openSession(writeModel(model))
  const source = samples(items, false)
  let hits = 0
  for (let from = 0; from < items.length; from += 100) {
    const indices = Array.from({ length: Math.min(100, items.length - from) }, (_, i) => from + i)
    const { input } = (await source.batch(indices, random)) as { input: Tensor }
    const logits = (await session.run({ input })).logits!.data as Float32Array
    indices.forEach((index, i) => {
      const row = logits.subarray(i * 10, i * 10 + 10)
      if (row.indexOf(Math.max(...row)) === items[index]!.label) hits++
    })
  }
  await session.release()
  return hits / items.length
}

/** The recipe of the issue: batch 64, 60 passes, SGD with Nesterov momentum 0.9, rate 0.1 along a cosine, decay 5e-4. */
async function fromScratch(folder: string): Promise<ResultRow> {
  const { training, validation } = await cifar(folder)
  const steps = 60 * Math.floor(training.length / 64)
  const before = process.cpuUsage()
  const trained = await train(resnet20(), samples(training, true), {
    losses: [{ kind: 'cross-entropy', output: 'logits' }],
    method: sgd(5e-4),
    rate: 0.1,
    batch: 64,
    steps,
    normalise: true,
    onProgress: ({ step, loss, msPerStep, etaMs }) => {
      if (step % 92 === 0)
        console.log(
          `${step}/${steps}: loss ${loss.toFixed(3)}, ${msPerStep.toFixed(0)} ms a step, ${Math.ceil(etaMs / 1000)} s left`,
        )
    },
  })
  const { user, system } = process.cpuUsage(before)
  const accuracy = await top1(foldNormalisation(trained.model), validation)
  const row = {
    what: 'ResNet-20 from scratch on 3,000 CIFAR-10 pictures, 60 passes',
    top1: round(accuracy * 1000) / 1000,
    pictures: validation.length,
    wallSeconds: Math.round(trained.ms / 1000),
    cpuSeconds: Math.round((user + system) / 1e6),
    pytorch: { top1: 0.615, wallSeconds: 200 },
  }
  console.log(JSON.stringify(row))
  return row
}

const long = process.argv[2] === 'scratch'
if (long && !assets) throw new Error('training from scratch needs the pictures of the assets folder')
const rows = long ? [await fromScratch(`${assets}/images`)] : await costs()
console.log(
  await writeResult(long ? 'trainer-scratch' : 'trainer', rows, `npx tsx bench/trainer.ts${long ? ' scratch' : ''}`),
)
