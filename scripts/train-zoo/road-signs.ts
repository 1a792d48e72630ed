import type { Model } from '../../src/onnx/index.ts'
import { foldNormalisation, Network, sgd, train } from '../../src/trainer/index.ts'
import { evaluate } from './evaluate.ts'
import { type PackageFile, seeds, stateFile, writePackage } from './package.ts'
import { type Labelled, labelledSamples, MEAN, SCALE, STD, top1 } from './pictures.ts'
import { progressLine } from './progress.ts'
import { jpeg } from './scene.ts'
import { drawSign, SIGN_SIZE, signClasses } from './signs.ts'

const EPOCHS = 16
const BATCH = 64
const PER_CLASS = { training: 320, choosing: 20, report: 100, calibration: 12, validation: 18 } as const

/** A small residual network: 12 million multiplications, 5 residual blocks. */
function network() {
  const net = new Network(11)
  let x = net.block(net.input('input', ['N', 3, SIGN_SIZE, SIGN_SIZE]), 16, { stride: 2 })
  x = net.residual(x, 16)
  for (const [channels, stride] of [
    [32, 2],
    [32, 1],
    [64, 2],
    [64, 1],
  ] as const) {
    x = net.residual(x, channels, stride)
  }
  const logits = net.linear(net.globalPool(x), signClasses.length)
  return net.finish('road-signs', { logits }, { logits: ['N', signClasses.length] })
}

async function draw(purpose: keyof typeof PER_CLASS): Promise<Labelled[]> {
  const items: Labelled[] = []
  for (let i = 0; i < PER_CLASS[purpose]; i++) {
    for (const [label, name] of signClasses.entries()) {
      items.push({ label, picture: await drawSign(name, seeds[purpose] + i * signClasses.length + label) })
    }
  }
  return items
}

/** Trains the road sign classifier and writes its package. */
export async function trainRoadSigns(): Promise<void> {
  const began = performance.now()
  const training = await draw('training')
  console.log(`road-signs: ${training.length} pictures drawn in ${((performance.now() - began) / 1000).toFixed(0)} s`)
  const quality = top1('logits')
  const trained = await train(network(), labelledSamples(training, 'logits', { shift: 4, light: 0.25 }), {
    losses: [{ kind: 'cross-entropy', output: 'logits', smoothing: 0.05 }],
    method: sgd(),
    rate: 0.1,
    warmup: 100,
    batch: BATCH,
    steps: EPOCHS * Math.floor(training.length / BATCH),
    normalise: true,
    heldOut: labelledSamples(await draw('choosing'), 'logits'),
    quality,
    checkpoint: stateFile('road-signs'),
    onProgress: progressLine('road-signs', 'top-1'),
  })
  const model = foldNormalisation(trained.model)
  const minutes = (performance.now() - began) / 60_000
  const report = await draw('report')
  const accuracy = await evaluate(model, labelledSamples(report, 'logits'), quality)
  console.log(`road-signs: top-1 ${(100 * accuracy).toFixed(1)} % on ${report.length} pictures of other seeds`)
  await packageRoadSigns(model, accuracy, minutes)
}

export async function packageRoadSigns(model: Model, accuracy: number, minutes: number): Promise<void> {
  await writePackage('road-signs', model, card, (packaged) => readme(accuracy, packaged, minutes), [
    { path: 'labels.txt', bytes: `${signClasses.join('\n')}\n` },
    ...(await folder('calibration')),
    ...(await folder('validation')),
  ])
}

async function folder(purpose: 'calibration' | 'validation'): Promise<PackageFile[]> {
  const items = await draw(purpose)
  return Promise.all(
    items.map(async ({ picture, label }, i) => ({
      path: `${purpose}/${signClasses[label]}/${String(Math.floor(i / signClasses.length)).padStart(3, '0')}.jpg`,
      bytes: await jpeg(picture, 88),
    })),
  )
}

const card = {
  title: 'Road signs: 21 European signs and "none", 48×48',
  notes:
    'Trained by blockscale itself on drawn pictures. A demonstration: not for driving, and not measured on photographs.',
  task: 'classification',
  input: {
    name: 'input',
    size: [SIGN_SIZE, SIGN_SIZE],
    resize: 'stretch',
    color: 'rgb',
    scale: SCALE,
    mean: [MEAN, MEAN, MEAN],
    std: [STD, STD, STD],
  },
  output: { decoder: 'softmax', labels: 'labels.txt' },
  data: { calibration: 'calibration', validation: 'validation' },
}

const readme = (accuracy: number, packaged: number, minutes: number): string => `# road-signs

Says which of 21 European road signs a small picture shows, or \`none\`.

| | |
|---|---|
| input | \`input\` [N, 3, ${SIGN_SIZE}, ${SIGN_SIZE}], RGB, (pixel/255 − ${MEAN})/${STD} |
| output | \`logits\` [N, ${signClasses.length}], classes in \`labels.txt\` |
| top-1 | **${(100 * accuracy).toFixed(1)} %** on ${PER_CLASS.report * signClasses.length} drawn pictures of other seeds than those of training and of choosing the weights; ${(100 * packaged).toFixed(1)} % on the JPEG pictures in \`validation/\` |
| structure | convolution, 5 residual blocks (16, 32, 32, 64, 64 channels), pooling, one linear layer; BatchNormalization folded |
| made by | \`npm run train:zoo road-signs\`: draws ${PER_CLASS.training * signClasses.length} pictures and trains ${EPOCHS} passes; took ${minutes.toFixed(0)} minutes of one thread on a busy 2-core machine |

The pictures are drawn: signs turned, tilted, faded, partly hidden, in front of clutter, then blurred, badly exposed and noisy as
a cheap camera would. **Not for** driving or any use where an error matters: it has never seen a photograph, so on real ones
expect it to do worse; it knows no other signs, and speed limits of 30, 50, 60, 80 and 100 only.

\`calibration/\` and \`validation/\` hold ${PER_CLASS.calibration * signClasses.length} and ${PER_CLASS.validation * signClasses.length} pictures of further seeds, by class, so that \`blockscale build road-signs\` needs no download.
`
