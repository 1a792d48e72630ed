import { expect, test } from 'vitest'
import { describeWithAssets } from '../assets.ts'
import { wholeGradientError } from './whole-gradient.ts'

describeWithAssets('the gradient of a whole real network foretells its loss', (assets) => {
  test.each([
    ['cifar10-resnet20', [3, 32, 32]],
    ['fsrcnn-x2', [1, 24, 24]],
    ['yunet-n-320', [3, 320, 320]],
  ] as const)('%s', async (name, dims) => {
    expect(await wholeGradientError(`${assets}/models/${name}.onnx`, dims)).toBeLessThan(0.03)
  })
})
