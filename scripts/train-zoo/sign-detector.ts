import { openSession } from '../../src/engine/index.ts'
import { type Model, node, writeModel } from '../../src/onnx/index.ts'
import { type Evaluated, readCard, type Truth, taskFor } from '../../src/tasks/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { adam, foldNormalisation, Network, type Samples, train } from '../../src/trainer/index.ts'
import { type PackageFile, seeds, stateFile, writePackage } from './package.ts'
import { progressLine } from './progress.ts'
import { jpeg } from './scene.ts'
import { drawScene, groups, SCENE_SIZE, type Scene } from './sign-scenes.ts'

const STRIDE = 8
const CELLS = SCENE_SIZE / STRIDE
const BATCH = 16
const STEPS = 1800
const COUNTS = { training: 2400, choosing: 120, report: 300, calibration: 96, validation: 120 } as const
const SCORES = 1 + groups.length

/** Inverted residuals down to 1/16, joined again with 1/8 by Resize and Concat: a small feature pyramid with one level. */
function network(): Model {
  const net = new Network(21)
  let x = net.block(net.input('input', ['N', 3, SCENE_SIZE, SCENE_SIZE]), 16, { stride: 2 })
  x = net.block(x, 24, { stride: 2 })
  x = net.invertedResidual(x, 24, 2)
  x = net.invertedResidual(x, 40, 3, 2)
  const fine = net.invertedResidual(x, 40, 3)
  x = net.invertedResidual(fine, 64, 3, 2)
  x = net.invertedResidual(x, 64, 3)
  const coarse = net.block(net.invertedResidual(x, 64, 3), 40, { kernel: 1 })
  const joined = net.block(net.concat(fine, net.repeat(coarse, 2)), 48, { kernel: 1 })
  const boxes = net.conv(net.block(joined, 48), 4, 1)
  const scores = net.conv(net.block(joined, 48), SCORES, 1)
  return net.finish(
    'sign-detector',
    { boxes: net.rows(boxes), scores: net.rows(scores) },
    { boxes: ['N', CELLS * CELLS, 4], scores: ['N', CELLS * CELLS, SCORES] },
  )
}

/** Boxes and scores side by side, as the decoder `yolox` reads them. */
function joinedOutputs(model: Model): Model {
  const { graph } = model
  const dims = ['N', CELLS * CELLS, 4 + SCORES]
  return {
    ...model,
    graph: {
      ...graph,
      nodes: [...graph.nodes, node('Concat', ['boxes', 'scores'], ['output'], { axis: { kind: 'int', value: 2 } })],
      outputs: [{ name: 'output', fact: { type: 'float32', dims } }],
    },
  }
}

async function draw(purpose: keyof typeof COUNTS): Promise<Scene[]> {
  const scenes: Scene[] = []
  for (let i = 0; i < COUNTS[purpose]; i++) scenes.push(await drawScene(seeds[purpose] + i))
  return scenes
}

/** Scenes with what the network is to say about each cell: the box and kind of the sign whose middle part covers it. */
function samples(scenes: readonly Scene[]): Samples {
  const pixels = SCENE_SIZE * SCENE_SIZE
  return {
    count: scenes.length,
    batch(indices) {
      const input = new Float32Array(indices.length * 3 * pixels)
      const [boxes, boxMask] = [4, 4].map((width) => new Float32Array(indices.length * CELLS * CELLS * width))
      const [scores, scoreMask] = [0, 0].map(() => new Float32Array(indices.length * CELLS * CELLS * SCORES))
      for (let i = 0; i < scoreMask!.length; i += SCORES) scoreMask![i] = 1
      indices.forEach((index, i) => {
        const { picture, signs } = scenes[index]!
        for (let p = 0; p < pixels; p++) {
          for (let c = 0; c < 3; c++) input[(i * 3 + c) * pixels + p] = picture.data[p * 3 + c]! / 255
        }
        for (const { group, box } of signs) {
          const [w, h] = [box.xMax - box.xMin, box.yMax - box.yMin]
          const [cx, cy] = [(box.xMin + box.xMax) / 2 / STRIDE, (box.yMin + box.yMax) / 2 / STRIDE]
          for (const [column, row] of cellsNear(cx, cy, w / STRIDE, h / STRIDE)) {
            const cell = i * CELLS * CELLS + row * CELLS + column
            boxes!.set([cx - column, cy - row, Math.log(w / STRIDE), Math.log(h / STRIDE)], cell * 4)
            boxMask!.fill(1, cell * 4, cell * 4 + 4)
            scores!.fill(0, cell * SCORES, (cell + 1) * SCORES)
            scores![cell * SCORES] = 1
            scores![cell * SCORES + 1 + groups.indexOf(group)] = 1
            // signs are rare among cells: each counts for several
            scoreMask!.fill(4, cell * SCORES, (cell + 1) * SCORES)
          }
        }
      })
      const rows = (data: Float32Array, width: number) => floats([indices.length, CELLS * CELLS, width], data)
      return {
        input: floats([indices.length, 3, SCENE_SIZE, SCENE_SIZE], input),
        'target:boxes': rows(boxes!, 4),
        'mask:boxes': rows(boxMask!, 4),
        'target:scores': rows(scores!, SCORES),
        'mask:scores': rows(scoreMask!, SCORES),
      }
    },
  }
}

/** Cells whose middle lies in the inner part of a box, and always the one that holds its centre. */
function cellsNear(cx: number, cy: number, w: number, h: number): (readonly [number, number])[] {
  const found: (readonly [number, number])[] = []
  for (let row = 0; row < CELLS; row++) {
    for (let column = 0; column < CELLS; column++) {
      const near = Math.abs(column + 0.5 - cx) < w * 0.2 && Math.abs(row + 0.5 - cy) < h * 0.2
      const holds = Math.floor(cx) === column && Math.floor(cy) === row
      if (near || holds) found.push([column, row])
    }
  }
  return found
}

/** Mean average precision as blockscale itself reckons it. */
async function measure(model: Model, scenes: readonly Scene[]): Promise<number> {
  const json = { id: 'sign-detector', file: 'model.onnx', ...card, output: { ...card.output, labels: [...groups] } }
  const read = readCard(json)
  const task = taskFor(read)
  const session = await openSession(writeModel(model))
  const evaluated: Evaluated[] = []
  for (const { picture, signs } of scenes) {
    const prepared = task.prepare(picture, read)
    const outputs = await session.run(prepared.feeds)
    const boxes = signs.map(({ group, box }) => ({ label: group, index: groups.indexOf(group), ...box }))
    const truth: Truth = { kind: 'boxes', boxes }
    evaluated.push({ prepared, outputs, original: outputs, truth })
  }
  await session.release()
  return task.quality(evaluated, read).value
}

/** Trains the sign detector and writes its package. */
export async function trainSignDetector(): Promise<void> {
  const began = performance.now()
  const training = await draw('training')
  console.log(
    `sign-detector: ${training.length} pictures drawn in ${((performance.now() - began) / 1000).toFixed(0)} s`,
  )
  const trained = await train(network(), samples(training), {
    losses: [
      { kind: 'smooth-l1', output: 'boxes', masked: true },
      { kind: 'binary-cross-entropy', output: 'scores', masked: true, weight: 5 },
    ],
    method: adam(1e-4),
    rate: 4e-3,
    warmup: 50,
    batch: BATCH,
    steps: STEPS,
    normalise: true,
    heldOut: samples(await draw('choosing')),
    checkpoint: stateFile('sign-detector'),
    onProgress: progressLine('sign-detector', 'minus loss'),
  })
  const minutes = (performance.now() - began) / 60_000
  const model = joinedOutputs(foldNormalisation(trained.model))
  const precision = await measure(model, await draw('report'))
  console.log(`sign-detector: mAP@.5 ${precision.toFixed(3)} on ${COUNTS.report} pictures of other seeds`)
  await packageSignDetector(model, precision, minutes)
}

export async function packageSignDetector(model: Model, precision: number, minutes: number): Promise<void> {
  await writePackage('sign-detector', model, card, (packaged) => readme(precision, packaged, minutes), [
    { path: 'labels.txt', bytes: `${groups.join('\n')}\n` },
    ...(await folder('calibration')),
    ...(await folder('validation')),
  ])
}

async function folder(purpose: 'calibration' | 'validation'): Promise<PackageFile[]> {
  const scenes = await draw(purpose)
  const name = (i: number) => `${String(i).padStart(3, '0')}.jpg`
  const pictures = await Promise.all(
    scenes.map(async ({ picture }, i) => ({ path: `${purpose}/${name(i)}`, bytes: await jpeg(picture, 88) })),
  )
  const annotations = scenes.flatMap(({ signs }, i) =>
    signs.map(({ group, box }) => ({
      image_id: i,
      category_id: groups.indexOf(group),
      bbox: [box.xMin, box.yMin, box.xMax - box.xMin, box.yMax - box.yMin].map((v) => Math.round(v * 10) / 10),
    })),
  )
  const coco = {
    images: scenes.map((_, id) => ({ id, file_name: name(id), width: SCENE_SIZE, height: SCENE_SIZE })),
    annotations: annotations.map((each, id) => ({ id, ...each })),
    categories: groups.map((name, id) => ({ id, name })),
  }
  return [...pictures, { path: `${purpose}/instances.json`, bytes: `${JSON.stringify(coco)}\n` }]
}

const card = {
  title: 'Sign detector: five kinds of European road signs, 128×128',
  notes:
    'Trained by blockscale itself on drawn scenes. A demonstration: not for driving, and not measured on photographs.',
  task: 'detection',
  input: { name: 'input', size: [SCENE_SIZE, SCENE_SIZE], resize: 'letterbox', pad: 128, color: 'rgb', scale: 1 / 255 },
  output: {
    decoder: 'yolox',
    strides: [STRIDE],
    sigmoid: true,
    threshold: 0.3,
    nms: 0.45,
    labels: 'labels.txt' as string | string[],
  },
  data: { calibration: 'calibration', validation: 'validation' },
}

const readme = (precision: number, packaged: number, minutes: number): string => `# sign-detector

Finds road signs in a picture and tells their kind: ${groups.join(', ')}.

| | |
|---|---|
| input | \`input\` [N, 3, ${SCENE_SIZE}, ${SCENE_SIZE}], RGB, pixel/255 |
| output | \`output\` [N, ${CELLS * CELLS}, ${4 + SCORES}]: for each 8×8 cell centre, log size, object score, ${groups.length} class scores (before their sigmoid) |
| mAP@.5 | **${precision.toFixed(3)}** on ${COUNTS.report} drawn pictures of other seeds than those of training and of choosing the weights; ${packaged.toFixed(3)} on the JPEG pictures in \`validation/\` |
| structure | two convolutions, 6 inverted residuals down to 1/16, joined with 1/8 by Resize and Concat, two branches; BatchNormalization folded |
| made by | \`npm run train:zoo sign-detector\`: draws ${COUNTS.training} scenes, trains ${STEPS} steps of ${BATCH}; took ${minutes.toFixed(0)} minutes of one thread on a busy 2-core machine |

The scenes are drawn: up to three signs of 14 to 58 pixels in front of clutter, tilted, faded, badly exposed, blurred and noisy.
**Not for** driving or any use where an error matters: it has never seen a photograph. Signs under about 14 pixels of the 128 are
missed, and things that merely look like signs will be found.

\`calibration/\` and \`validation/\` hold ${COUNTS.calibration} and ${COUNTS.validation} pictures of further seeds with COCO annotations, so that \`blockscale build sign-detector\` needs no download.
`
