import { expect, test } from 'vitest'
import { describeWithAssets } from '../assets.ts'
import { wholeGradientError } from '../trainer/whole-gradient.ts'

/** Real structures: shuffles, gates, pyramids, dilations, transposed convolutions, folded and unfolded BatchNormalization. */
describeWithAssets('the gradient of a whole real network foretells its loss', (assets) => {
  test.each([
    ['cifar10-resnet56-bn', [3, 32, 32]],
    ['mobilenetv1-025', [3, 224, 224]],
    ['mobilenetv2', [3, 224, 224]],
    ['nanodet-m-320', [3, 320, 320]],
    ['shufflenetv2', [3, 224, 224]],
    ['sinet-portrait', [3, 320, 320]],
    ['ultraface-rfb-320', [3, 240, 320]],
    ['fastestdet', [3, 352, 352]],
    ['deeplabv3-257', [3, 257, 257]],
    ['ppocrv3-det', [3, 160, 160]],
  ] as const)('%s', async (name, dims) => {
    expect(await wholeGradientError(`${assets}/models/${name}.onnx`, dims)).toBeLessThan(0.03)
  })
})
