import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'vitest'
import { readModel } from '../../src/onnx/index.ts'
import { describeWithAssets } from '../assets.ts'
import { expectLaws, type Known } from '../onnx/laws.ts'

const known: Readonly<Record<string, Known>> = {
  'cifar10-resnet20': { free: 'batch size', macs: 40.6 },
  'cifar10-resnet56-bn': { free: 'batch size', macs: 125.5 },
  'deeplabv3-257': { free: 'batch size', macs: 725.8 },
  fastestdet: { free: 'batch size', macs: 121.5 },
  'fsrcnn-x2': { free: 'batch size', macs: 409.0 },
  mnist: { free: 'batch', macs: 0.8 },
  'mobilenetv1-025': { free: 'batch size', macs: 41.0 },
  mobilenetv2: { free: 'batch size', macs: 300.8 },
  'mobilenetv2-int8': { free: 'batch size', macs: 300.8 },
  'nanodet-m-320': { free: 'size', macs: 342.2 },
  'ppocrv3-det': { free: 'size', macs: 234.2 },
  shufflenetv2: { free: 'batch size', macs: 144.9 },
  'sinet-portrait': { free: 'batch size', macs: 130.3 },
  'ultraface-rfb-320': { free: 'batch', macs: 100.4 },
  vittrack: { free: 'batch', macs: 84.6 },
  'yunet-n-320': { free: 'batch size', macs: 135.6 },
  'structure/light_inception_v1': { free: 'batch', macs: 1431.6 },
  'structure/light_resnet50': { free: 'batch size', macs: 4089.2 },
  'structure/light_shufflenet': { free: 'batch size', macs: 124.7 },
  'structure/light_squeezenet': { free: 'batch size', macs: 349.2 },
}

describeWithAssets('every real model, normalised, cut and stitched', (assets) => {
  const files = ['', 'structure/'].flatMap((folder) =>
    readdirSync(`${assets}/models/${folder}`)
      .filter((file) => file.endsWith('.onnx'))
      .map((file) => folder + file.slice(0, -'.onnx'.length)),
  )
  test.each(files)('%s', async (name) => {
    const expected = known[name]
    if (!expected) throw new Error(`${name} is new in the assets folder: say here what is known of it`)
    await expectLaws(readModel(readFileSync(`${assets}/models/${name}.onnx`)), expected)
  })
})
