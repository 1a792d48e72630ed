/**
 * Runs the original models of the catalogue over labelled pictures and prints how good they are, for comparison with
 * published figures: `npx tsx bench/tasks.ts <assets folder> [model…]`.
 */
import { openSession } from '../src/engine/index.ts'
import { type Evaluated, loadCard, loadItems, openDataset, taskFor } from '../src/tasks/index.ts'

const pictures: Readonly<Record<string, string>> = {
  mobilenetv2: 'imagenet-validation',
  'mobilenetv2-int8': 'imagenet-validation',
  shufflenetv2: 'imagenet-validation',
  'mobilenetv1-025': 'imagenet-validation',
  'cifar10-resnet20': 'cifar10-validation',
  'cifar10-resnet56-bn': 'cifar10-validation',
  'ultraface-rfb-320': 'faces',
  'yunet-n-320': 'faces',
  'nanodet-m-320': 'coco128',
  fastestdet: 'coco128',
  'deeplabv3-257': 'coco128',
  'sinet-portrait': 'coco128',
  'fsrcnn-x2': 'sr-set5',
}

const [assets, ...wanted] = process.argv.slice(2)
if (!assets) throw new Error('name the assets folder')
console.log('model | metric | measured | pictures | details')
for (const [model, folder] of Object.entries(pictures)) {
  if (wanted.length > 0 && !wanted.includes(model)) continue
  const card = await loadCard(new URL(`../model-zoo/catalog/${model}.json`, import.meta.url).pathname)
  const task = taskFor(card)
  const session = await openSession(`${assets}/models/${model}.onnx`)
  const dataset = await openDataset(`${assets}/images/${folder}`, card)
  const samples: Evaluated[] = []
  for await (const item of loadItems(dataset.items)) {
    const made = task.derive?.(item.picture, card) ?? item
    const prepared = task.prepare(made.picture, card)
    const outputs = await session.run(prepared.feeds)
    samples.push({ prepared, outputs, original: outputs, truth: made.truth })
  }
  const { metric, value, details } = task.quality(samples, card)
  console.log(`${model} | ${metric} | ${value.toFixed(4)} | ${samples.length} | ${JSON.stringify(details ?? {})}`)
  await session.release()
}
