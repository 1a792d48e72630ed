/**
 * Runs the original models of the catalogue over labelled pictures and compares with the figures that came with them:
 *
 *     npx tsx bench/tasks.ts <assets folder> [model…]
 */
import { seededRandom } from '../src/base/index.ts'
import { openSession } from '../src/engine/index.ts'
import { type Evaluated, loadCard, loadItems, openDataset, taskFor } from '../src/tasks/index.ts'
import { countMatches, type Scene } from '../src/tasks/matching.ts'
import { median, type ResultRow, writeResult } from './result.ts'

/** Folder of pictures, and the figure that is expected, some of other pictures or annotations (see `remark`). */
const known: Readonly<Record<string, { folder: string; expected: number; remark?: string }>> = {
  mobilenetv2: { folder: 'imagenet-validation', expected: 0.788, remark: 'the figure is of more pictures of the kind' },
  'mobilenetv2-int8': {
    folder: 'imagenet-validation',
    expected: 0.677,
    remark: 'the figure is of more pictures of the kind',
  },
  shufflenetv2: {
    folder: 'imagenet-validation',
    expected: 0.845,
    remark: 'the figure is of more pictures of the kind',
  },
  'mobilenetv1-025': {
    folder: 'imagenet-validation',
    expected: 0.598,
    remark: 'the figure is of more pictures of the kind',
  },
  'cifar10-resnet20': { folder: 'cifar10-validation', expected: 0.88, remark: 'the figure is of 10,000 pictures' },
  'cifar10-resnet56-bn': { folder: 'cifar10-validation', expected: 0.832, remark: 'the figure is of 10,000 pictures' },
  'ultraface-rfb-320': { folder: 'faces', expected: 1 },
  'yunet-n-320': {
    folder: 'faces',
    expected: 1,
    remark: 'all 43 match at an IoU of .4, with 3 false, which is the figure; one of them overlaps by .46 only',
  },
  'nanodet-m-320': { folder: 'coco128', expected: 0.45 },
  fastestdet: {
    folder: 'coco128',
    expected: 0.37,
    remark:
      'the figure lies within two standard errors; no other kernel, NMS, power of the object score, order of colours or way to resize comes nearer than .324',
  },
  'deeplabv3-257': {
    folder: 'coco128',
    expected: 0.34,
    remark: 'only boxes are annotated here: no mask can come near 1, and the figure cannot be of these',
  },
  'sinet-portrait': {
    folder: 'coco128',
    expected: 0.5,
    remark: 'only boxes are annotated here: no mask can come near 1, and the figure cannot be of these',
  },
  'fsrcnn-x2': { folder: 'sr-set5', expected: 35.75 },
}

const [assets, ...wanted] = process.argv.slice(2)
if (!assets) throw new Error('name the assets folder')
const rows: ResultRow[] = []
for (const [model, { folder, expected, remark }] of Object.entries(known)) {
  if (wanted.length > 0 && !wanted.includes(model)) continue
  const row = { model, ...(await measure(assets, model, folder)), expected, ...(remark ? { remark } : {}) }
  rows.push(row)
  console.log(JSON.stringify(row))
}
if (wanted.length === 0) console.log(await writeResult('tasks', rows, 'npx tsx bench/tasks.ts <assets folder>'))

async function measure(assets: string, model: string, folder: string): Promise<ResultRow> {
  const card = await loadCard(new URL(`../model-zoo/catalog/${model}.json`, import.meta.url).pathname)
  const task = taskFor(card)
  const session = await openSession(`${assets}/models/${model}.onnx`)
  const { items } = await openDataset(`${assets}/images/${folder}`, card)
  const samples: Evaluated[] = []
  const scenes: Scene[] = []
  const prepareMs: number[] = []
  const answerMs: number[] = []
  for await (const item of loadItems(items)) {
    const made = task.derive?.(item.picture, card) ?? item
    const started = process.cpuUsage()
    const prepared = task.prepare(made.picture, card)
    prepareMs.push(cpuMs(started))
    const outputs = await session.run(prepared.feeds)
    const ran = process.cpuUsage()
    const answer = task.answer(outputs, prepared, card)
    answerMs.push(cpuMs(ran))
    if (item.truth?.kind === 'boxes' && 'boxes' in answer)
      scenes.push({ found: answer.boxes, present: item.truth.boxes })
    samples.push({ prepared, outputs, original: outputs, truth: made.truth })
  }
  await session.release()
  const { metric, value, details } = task.quality(samples, card)
  const rounded = Object.fromEntries(
    Object.entries(details ?? {}).map(([name, each]) => [name, Number(each.toFixed(4))]),
  )
  return {
    metric,
    measured: Number(value.toFixed(4)),
    ...rounded,
    ...(scenes.length > 0
      ? {
          matchedAt40: countMatches(scenes, 0.4).matched,
          standardError: Number(standardError(samples, (some) => task.quality(some, card).value).toFixed(4)),
        }
      : {}),
    pictures: samples.length,
    prepareCpuMs: Number(median(prepareMs).toFixed(2)),
    answerCpuMs: Number(median(answerMs).toFixed(2)),
  }
}

/** Of this process since `start`: other work on the machine does not count. */
function cpuMs(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1000
}

/** How much a figure changes from one set of as many pictures to the next: its spread over sets drawn from these. */
function standardError(samples: readonly Evaluated[], quality: (some: readonly Evaluated[]) => number): number {
  const random = seededRandom(1)
  const draws = Array.from({ length: 50 }, () =>
    quality(samples.map(() => samples[Math.floor(random() * samples.length)]!)),
  )
  const mean = draws.reduce((sum, each) => sum + each, 0) / draws.length
  return Math.sqrt(draws.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (draws.length - 1))
}
