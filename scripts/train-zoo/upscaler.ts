import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openSession, type Tensors } from '../../src/engine/index.ts'
import { type Model, writeModel } from '../../src/onnx/index.ts'
import { decodePicture, floats, lumaOf, type Tensor } from '../../src/tensor/index.ts'
import { adam, Network, type Samples, train } from '../../src/trainer/index.ts'
import { type PackageFile, seeds, stateFile, writePackage } from './package.ts'
import { progressLine } from './progress.ts'
import { double, half, type Plane, psnr } from './scaling.ts'
import { jpeg } from './scene.ts'
import { drawTexture } from './textures.ts'

const SIZE = 128
const PATCH = 24
const BATCH = 16
const STEPS = 2200
const COUNTS = { training: 500, choosing: 24, report: 100, calibration: 32, validation: 40 } as const
const CHANNELS = 24

/** Luma in, luma of twice the size out: features at the small size, four residual blocks, pixels from channels. */
function network(): Model {
  const net = new Network(5)
  const picture = net.input('input', ['N', 1, 'H', 'W'])
  let x = net.relu(net.conv(picture, CHANNELS, 5))
  for (let block = 0; block < 4; block++) {
    x = net.add(x, net.conv(net.relu(net.conv(x, CHANNELS, 3)), CHANNELS, 3))
  }
  // begins as nothing, so that training starts from plain bicubic
  const detail = net.depthToSpace(net.conv(x, 4, 3, { scale: 0 }), 2)
  const output = net.add(net.enlarge(picture, 2), detail)
  return net.finish('upscaler-x2', { output }, { output: ['N', 1, 'H2', 'W2'] })
}

/** Mean PSNR in dB. */
export interface Figures {
  readonly ours: number
  readonly cubic: number
}

interface Pair {
  readonly low: Plane
  readonly high: Plane
}

async function draw(purpose: 'training' | 'choosing' | 'report'): Promise<Pair[]> {
  const pairs: Pair[] = []
  for (let i = 0; i < COUNTS[purpose]; i++) {
    const { width, height, data } = await drawTexture(seeds[purpose] + i, SIZE, true)
    const high = { width, height, data: Float32Array.from(data, (value) => value / 255) }
    pairs.push({ high, low: half(high) })
  }
  return pairs
}

/** Patches at random places, turned and mirrored in training; whole pictures when `whole`. */
function patches(pairs: readonly Pair[], whole: boolean): Samples {
  return {
    count: whole ? pairs.length : pairs.length * 4,
    batch(indices, random) {
      const side = whole ? SIZE / 2 : PATCH
      const low = new Float32Array(indices.length * side * side)
      const high = new Float32Array(indices.length * side * side * 4)
      indices.forEach((index, i) => {
        const pair = pairs[index % pairs.length]!
        const [left, top] = whole ? [0, 0] : [0, 0].map(() => Math.floor(random() * (SIZE / 2 - side + 1)))
        const way = whole ? 0 : Math.floor(random() * 8)
        cut(pair.low, left!, top!, side, way, low.subarray(i * side * side))
        cut(pair.high, left! * 2, top! * 2, side * 2, way, high.subarray(i * side * side * 4))
      })
      return {
        input: floats([indices.length, 1, side, side], low),
        'target:output': floats([indices.length, 1, side * 2, side * 2], high),
      }
    },
  }
}

/** A square of a plane, in one of its eight orientations. */
function cut(from: Plane, left: number, top: number, side: number, way: number, into: Float32Array): void {
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      let [sx, sy] = way & 1 ? [y, x] : [x, y]
      if (way & 2) sx = side - 1 - sx
      if (way & 4) sy = side - 1 - sy
      into[y * side + x] = from.data[(top + sy) * from.width + left + sx]!
    }
  }
}

/** Mean over the pictures of a batch, in dB. */
function meanPsnr(outputs: Tensors, feeds: Tensors): number {
  const [given, wanted] = [outputs.output!, feeds['target:output']!]
  const [count, , height, width] = given.dims as [number, number, number, number]
  const plane = (of: Tensor, i: number): Plane => {
    const data = (of.data as Float32Array).subarray(i * height * width, (i + 1) * height * width)
    return { width, height, data }
  }
  let sum = 0
  for (let i = 0; i < count; i++) sum += psnr(plane(given, i), plane(wanted, i))
  return sum / count
}

async function measure(model: Model, pairs: readonly Pair[]): Promise<Figures> {
  const session = await openSession(writeModel(model))
  let [ours, cubic] = [0, 0]
  for (const { low, high } of pairs) {
    const { output } = await session.run({ input: floats([1, 1, low.height, low.width], low.data) })
    ours += psnr({ ...high, data: output!.data as Float32Array }, high) / pairs.length
    cubic += psnr(double(low), high) / pairs.length
  }
  await session.release()
  return { ours, cubic }
}

/** Trains the upscaler and writes its package. */
export async function trainUpscaler(): Promise<void> {
  const began = performance.now()
  const training = await draw('training')
  const { model } = await train(network(), patches(training, false), {
    losses: [{ kind: 'charbonnier', output: 'output' }],
    method: adam(),
    rate: 1.5e-3,
    warmup: 50,
    batch: BATCH,
    steps: STEPS,
    heldOut: patches(await draw('choosing'), true),
    quality: meanPsnr,
    checkpoint: stateFile('upscaler-x2'),
    onProgress: progressLine('upscaler-x2', 'dB'),
  })
  const minutes = (performance.now() - began) / 60_000
  const quality = await measure(model, await draw('report'))
  console.log(`upscaler-x2: ${quality.ours.toFixed(2)} dB, bicubic ${quality.cubic.toFixed(2)} dB`)
  await packageUpscaler(model, quality, minutes)
}

/** @see `BLOCKSCALE_PHOTOGRAPHS`: a folder of photographs to measure on as well, named in the card by their number */
export async function packageUpscaler(model: Model, quality: Figures, minutes: number): Promise<void> {
  const folderOfPhotographs = process.env.BLOCKSCALE_PHOTOGRAPHS
  const real = folderOfPhotographs ? await measurePhotographs(model, folderOfPhotographs) : undefined
  const photographs = real
    ? `\n| on photographs | **${real.ours.toFixed(2)} dB**, bicubic ${real.cubic.toFixed(2)} dB (${real.count} photographs that are not in this package, made small by plain cubic interpolation) |`
    : ''
  await writePackage('upscaler-x2', model, card, (packaged) => readme(quality, packaged, photographs, minutes), [
    ...(await folder('calibration')),
    ...(await folder('validation')),
  ])
}

async function folder(purpose: 'calibration' | 'validation'): Promise<PackageFile[]> {
  return Promise.all(
    Array.from({ length: COUNTS[purpose] }, async (_, i) => ({
      path: `${purpose}/${String(i).padStart(3, '0')}.jpg`,
      bytes: await jpeg(await drawTexture(seeds[purpose] + i, SIZE, false), 95),
    })),
  )
}

/** Measures an upscaler on the photographs of a folder, which it has never seen the like of. */
export async function measurePhotographs(model: Model, folder: string): Promise<Figures & { readonly count: number }> {
  const files = (await readdir(folder)).filter((file) => /\.(png|jpe?g|webp)$/i.test(file))
  const pairs = await Promise.all(
    files.map(async (file): Promise<Pair> => {
      const picture = await decodePicture(join(folder, file))
      const luma = lumaOf(picture)
      const [width, height] = [picture.width & ~1, picture.height & ~1]
      const data = Float32Array.from({ length: width * height }, (_, i) => {
        return luma[Math.floor(i / width) * picture.width + (i % width)]! / 255
      })
      const high = { width, height, data }
      return { high, low: half(high) }
    }),
  )
  return { ...(await measure(model, pairs)), count: files.length }
}

const card = {
  title: 'Upscaler: twice the width and height, luma',
  notes:
    'Trained by blockscale itself on drawn textures. Sharper than bicubic; it restores edges, it does not invent detail.',
  task: 'super-resolution',
  input: { name: 'input', size: [SIZE / 2, SIZE / 2], resize: 'none', color: 'luma', scale: 1 / 255 },
  output: { decoder: 'upscale', scale: 2 },
  data: { calibration: 'calibration', validation: 'validation' },
}

const readme = (
  { ours, cubic }: Figures,
  packaged: number,
  photographs: string,
  minutes: number,
): string => `# upscaler-x2

Doubles the width and height of a picture: one channel (luma) in, one channel of twice the size out.

| | |
|---|---|
| input | \`input\` [N, 1, H, W], luma/255 (BT.601); any H and W |
| output | \`output\` [N, 1, 2H, 2W] |
| PSNR | **${ours.toFixed(2)} dB** on ${COUNTS.report} drawn pictures of other seeds than those of training and of choosing the weights; bicubic ${cubic.toFixed(2)} dB; ${packaged.toFixed(2)} dB on the JPEG pictures in \`validation/\` |${photographs}
| structure | 5×5 convolution to ${CHANNELS} channels, 4 residual blocks, 3×3 convolution, DepthToSpace, added to a bicubic enlargement |
| made by | \`npm run train:zoo upscaler-x2\`: draws ${COUNTS.training} pictures, trains ${STEPS} steps of ${BATCH} patches; took ${minutes.toFixed(0)} minutes of one thread on a busy 2-core machine |

Trained on drawn edges, lines, writing, stripes and rough surfaces, made small by cubic interpolation. **Not for** restoring what
is no longer in the picture (faces, number plates, evidence): it makes edges sharper and adds no knowledge. JPEG artefacts are
enlarged with the rest.

\`calibration/\` and \`validation/\` hold ${COUNTS.calibration} and ${COUNTS.validation} pictures of further seeds, so that \`blockscale build upscaler-x2\` needs no download.
`
