import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { borders, cut, normalise, proposeCuts, readModel, writeModel } from '../../src/onnx/index.ts'
import { describeWithAssets } from '../assets.ts'
import { expectLaws, type Known } from './laws.ts'
import { run } from './runner.ts'

/** The quick ones; the others are in the long test. */
const models: Readonly<Record<string, Known>> = {
  'cifar10-resnet20': { free: 'batch size', macs: 40.6 },
  'cifar10-resnet56-bn': { free: 'batch size', macs: 125.5 },
  fastestdet: { free: 'batch size', macs: 121.5 },
  mnist: { free: 'batch', macs: 0.8 },
  'mobilenetv1-025': { free: 'batch size', macs: 41.0 },
  'nanodet-m-320': { free: 'size', macs: 342.2 },
  'ultraface-rfb-320': { free: 'batch', macs: 100.4 },
  vittrack: { free: 'batch', macs: 84.6 },
}

describeWithAssets('real models, normalised and cut', (assets) => {
  const load = (name: string) => readModel(readFileSync(`${assets}/models/${name}.onnx`))

  test.each(Object.entries(models))('%s', async (name, known) => {
    await expectLaws(load(name), known)
  })

  test('the same file gives the same blocks', async () => {
    const once = async () => {
      const normalised = await normalise(load('ultraface-rfb-320'), run)
      return cut(normalised, proposeCuts(normalised)).map(({ model }) =>
        Buffer.from(writeModel(model)).toString('base64'),
      )
    }
    expect(await once()).toEqual(await once())
  })

  test('mobilenetv2 can be cut into any number of blocks up to the number of its borders', async () => {
    const normalised = await normalise(load('mobilenetv2'), run)
    for (const blocks of [1, 2, 3, 5, 8, 16, 30]) {
      expect(cut(normalised, proposeCuts(normalised, { blocks })).length).toBe(blocks)
    }
    const notes: string[] = []
    const most = proposeCuts(normalised, { blocks: 1000, note: (text) => notes.push(text) }).length + 1
    expect(most).toBeLessThan(borders(normalised).length)
    expect(notes).toEqual([`1000 blocks were asked for; the graph can be cut into ${most} at most`])
  })

  test('by default mobilenetv2 and resnet20 become eight blocks with one tensor at each border', async () => {
    for (const name of ['mobilenetv2', 'cifar10-resnet20']) {
      const normalised = await normalise(load(name), run)
      const cuts = proposeCuts(normalised)
      expect(cuts.length).toBe(7)
      expect(cuts.map(({ values }) => values.length)).toEqual([1, 1, 1, 1, 1, 1, 1])
    }
  })

  test('a file without an operator set, and one with operators that do not exist here, are refused with the reason', async () => {
    expect(() => load('broken/no-opset')).toThrow(/operator set/)
    await expect(normalise(load('broken/custom-ops'), run)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' })
  })
})
