import { expect, test } from 'vitest'
import { openSession } from '../../src/engine/index.ts'
import { type Evaluated, loadCard, loadItems, openDataset, type Quality, taskFor } from '../../src/tasks/index.ts'
import { describeWithAssets } from '../assets.ts'

const catalog = new URL('../../model-zoo/catalog/', import.meta.url).pathname

/** What a model of the catalogue scores on every n-th picture of a folder. */
async function scoreOf(assets: string, model: string, folder: string, every = 1): Promise<Quality> {
  const card = await loadCard(`${catalog}${model}.json`)
  const task = taskFor(card)
  const { items } = await openDataset(`${assets}/images/${folder}`, card)
  const session = await openSession(`${assets}/models/${model}.onnx`)
  const samples: Evaluated[] = []
  try {
    for await (const item of loadItems(items.filter((_, i) => i % every === 0))) {
      const made = task.derive?.(item.picture, card) ?? item
      const prepared = task.prepare(made.picture, card)
      const outputs = await session.run(prepared.feeds)
      samples.push({ prepared, outputs, original: outputs, truth: made.truth })
    }
  } finally {
    await session.release()
  }
  const fidelity = task.fidelity(samples, card)
  expect(fidelity.value, 'a model agrees with itself').toBe(fidelity.metric.includes('psnr') ? 60 : 1)
  return task.quality(samples, card)
}

// bounds leave room for sampling: a few pictures stand for many
describeWithAssets('models of the catalogue are as good here as they are known to be', (assets) => {
  test('MobileNetV2 knows 4 of 5 pictures of ImageNet', async () => {
    const { value, details } = await scoreOf(assets, 'mobilenetv2', 'imagenet-validation', 4)
    expect(value).toBeGreaterThan(0.7)
    expect(details?.top5).toBeGreaterThan(0.88)
  })

  test('ResNet-20 knows 88 % of CIFAR-10', async () => {
    expect((await scoreOf(assets, 'cifar10-resnet20', 'cifar10-validation', 10)).value).toBeGreaterThan(0.84)
  })

  test('UltraFace finds 43 of 43 faces and nothing else', async () => {
    expect((await scoreOf(assets, 'ultraface-rfb-320', 'faces')).details).toMatchObject({ matched: 43, found: 43 })
  })

  test('YuNet finds the faces, one of them a little too small, and three things that are none', async () => {
    expect((await scoreOf(assets, 'yunet-n-320', 'faces')).details).toMatchObject({ matched: 42, found: 46 })
  })

  test('NanoDet has an mAP50 of about 45 % on COCO', async () => {
    expect((await scoreOf(assets, 'nanodet-m-320', 'coco128')).value).toBeGreaterThan(0.43)
  })

  test('FSRCNN reaches 35.7 dB on Set5', async () => {
    const { value, details } = await scoreOf(assets, 'fsrcnn-x2', 'sr-set5')
    expect(value).toBeCloseTo(35.74, 1)
    expect(details?.ssim).toBeGreaterThan(0.94)
  })
})
