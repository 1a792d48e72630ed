import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BlockscaleError, sha256OfFile } from '../../src/base/index.ts'
import { guessCard, inputsOf, loadCard, readCard, taskFor, type ValueFact } from '../../src/tasks/index.ts'
import { describeWithAssets } from '../assets.ts'
import { card, json } from './cards.ts'

const faultOf = (value: unknown): string => {
  try {
    readCard(value)
  } catch (error) {
    if (error instanceof BlockscaleError && error.code === 'MODEL_CARD_INVALID') return error.message
    throw error
  }
  return 'accepted'
}

describe('a card is checked', () => {
  test('defaults are filled in, so that what is kept says all', () => {
    const [input] = inputsOf(card())
    expect(input).toMatchObject({ resize: 'stretch', color: 'rgb', scale: 1, mean: 0, std: 1, layout: 'nchw', pad: 0 })
    expect(readCard(card())).toEqual(card())
  })

  test.each([
    [
      'an unknown field, with what is allowed',
      json({ labels: 'x.txt' }),
      /unknown field "labels"; allowed are .*output/,
    ],
    [
      'one inside',
      json({ input: { name: 'i', size: [1, 1], color: 'rgb', cropp: 1 } }),
      /^model.json: input: unknown field "cropp"/,
    ],
    ['a wrong value, with its path', json({ input: { name: 'i', size: [0, 1] } }), /input\.size\[0\]/],
    ['an unknown task', json({ task: 'poetry' }), /task: .*classification/],
    ['an unknown decoder', json({ output: { decoder: 'magic' } }), /output\.decoder: expected one of softmax, .*yunet/],
    [
      "another decoder's parameter",
      json({ output: { decoder: 'softmax', nms: 0.5 } }),
      /output: unknown field "nms"; allowed are .*labels/,
    ],
    [
      'a decoder that does not suit the task',
      json({ task: 'segmentation' }),
      /softmax.* segmentation; argmax, binary do/,
    ],
    ['a path out of the folder', json({ file: '../secret.onnx' }), /file: /],
    ['an absolute path', json({ file: '/etc/passwd' }), /file: /],
    [
      'means that are not one for each channel',
      json({ input: { name: 'i', size: [1, 1], mean: [1, 2] } }),
      /input\.mean: 2 values for the 3 channels/,
    ],
    ['a division by zero', json({ input: { name: 'i', size: [1, 1], std: [1, 0, 1] } }), /input\.std/],
    [
      'resizeTo where it has no meaning',
      json({ input: { name: 'i', size: [1, 1], resizeTo: 9 } }),
      /resizeTo: only .*cover/,
    ],
    [
      'resizeTo smaller than the input',
      json({ input: { name: 'i', size: [9, 9], resize: 'cover', resizeTo: 8 } }),
      /resizeTo/,
    ],
    [
      'a half-named pair of outputs',
      json({ task: 'detection', output: { decoder: 'boxes', boxes: 'b' } }),
      /"boxes" and "scores"/,
    ],
    [
      'contradicting checksums',
      json({ sha256: 'a'.repeat(64), source: { sha256: 'b'.repeat(64), licence: 'MIT' } }),
      /sha256: differs/,
    ],
    ['something that is no object', [], /expected object/i],
    ['nothing', {}, /id: .*task: .*file: .*input: .*output: /],
  ])('%s', (_name, value, message) => {
    expect(faultOf(value)).toMatch(message)
  })

  test('the checksum of the source is that of the file', () => {
    expect(card({ source: { sha256: 'c'.repeat(64), licence: 'MIT' } }).sha256).toBe('c'.repeat(64))
  })
})

describe('a card is loaded', () => {
  test('with its labels, from a package and from a file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'card-'))
    await mkdir(join(folder, 'lists'))
    await writeFile(join(folder, 'lists', 'labels.txt'), 'one\r\ntwo, or 2\n\n')
    await writeFile(
      join(folder, 'model.json'),
      JSON.stringify(json({ output: { decoder: 'softmax', labels: 'lists/labels.txt' } })),
    )
    const expected = { decoder: 'softmax', labels: ['one', 'two, or 2'] }
    expect((await loadCard(folder)).output).toEqual(expected)
    expect((await loadCard(join(folder, 'model.json'))).output).toEqual(expected)
  })

  test('and says what is missing or leaves the folder', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'card-'))
    await expect(loadCard(folder)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await writeFile(join(folder, 'model.json'), '{"id": ')
    await expect(loadCard(folder)).rejects.toMatchObject({ code: 'MODEL_CARD_INVALID' })
    for (const labels of ['../labels.txt', '/etc/hostname', 'nowhere.txt']) {
      await writeFile(join(folder, 'model.json'), JSON.stringify(json({ output: { decoder: 'softmax', labels } })))
      await expect(loadCard(folder)).rejects.toMatchObject({ code: 'MODEL_CARD_INVALID' })
    }
  })
})

const catalog = new URL('../../model-zoo/catalog/', import.meta.url).pathname
const entries = (await readdir(catalog)).filter((name) => name.endsWith('.json'))

describe('the catalogue', () => {
  test.each(entries)('%s is a card, named after its file, with a licence and a task', async (name) => {
    const entry = await loadCard(join(catalog, name))
    expect(`${entry.id}.json`).toBe(name)
    expect(entry.source?.licence).toBeTruthy()
    expect(taskFor(entry).name).toBe(entry.task)
    if (entry.source?.url) expect(entry.source.url).toMatch(/\/[0-9a-f]{40}\//)
  })
})

describeWithAssets('the catalogue and the files', (assets) => {
  test.each(entries)('%s has the checksum of the file, or an address', async (name) => {
    const entry = await loadCard(join(catalog, name))
    if (!existsSync(`${assets}/models/${entry.id}.onnx`)) return expect(entry.source?.url).toBeTruthy()
    expect(await sha256OfFile(`${assets}/models/${entry.id}.onnx`)).toBe(entry.sha256)
  })
})

describe('a card for a bare .onnx', () => {
  const value = (name: string, dims: ValueFact['dims'], type: ValueFact['type'] = 'float32'): ValueFact => ({
    name,
    type,
    dims,
  })

  test('one row of numbers is a classifier; everything guessed is told', () => {
    const { card: made, guessed } = guessCard(
      'models/my net (v2).onnx',
      [value('x', ['N', 3, 160, 128])],
      [value('y', ['N', 7])],
    )
    expect(made).toMatchObject({
      id: 'my-net-v2-',
      task: 'classification',
      input: { name: 'x', size: [160, 128], resize: 'cover', resizeTo: 146, layout: 'nchw', color: 'rgb' },
      output: { decoder: 'softmax' },
    })
    expect(guessed.join('\n')).toMatch(/classification.*7/)
    expect(guessed.join('\n')).toMatch(/ImageNet/)
    expect(guessed.join('\n')).toMatch(/my-net-v2/)
  })

  test('layout, size and colour come from the shape', () => {
    const inputOf = (dims: ValueFact['dims'], type?: ValueFact['type']) =>
      guessCard('m.onnx', [value('x', dims, type)], [value('y', [1, 5])]).card.input
    expect(inputOf([1, 48, 64, 3])).toMatchObject({ layout: 'nhwc', size: [48, 64], color: 'rgb' })
    expect(inputOf([1, 1, 28, 28])).toMatchObject({ color: 'gray', size: [28, 28] })
    expect(inputOf([1, 3, 'H', 'W'])).toMatchObject({ size: [224, 224] })
    expect(inputOf([1, 3, 224, 224], 'uint8')).toMatchObject({ type: 'uint8', scale: 1, mean: 0 })
  })

  test('maps are segmentation, larger pictures super-resolution, the rest generic', () => {
    const taskOf = (input: ValueFact['dims'], ...outputs: ValueFact['dims'][]) =>
      guessCard(
        'm',
        [value('x', input)],
        outputs.map((dims, i) => value(`y${i}`, dims)),
      ).card.task
    expect(taskOf([1, 3, 64, 64], [1, 21, 64, 64])).toBe('segmentation')
    expect(taskOf([1, 1, 32, 48], [1, 1, 96, 144])).toBe('super-resolution')
    expect(taskOf([1, 3, 64, 64], [1, 10], [1, 4])).toBe('generic')
    expect(taskOf([1, 3, 64, 64], [1, 255, 8, 8])).toBe('generic')
    expect(taskOf([1, 3, 64, 64], undefined)).toBe('generic')
  })

  test('families of detectors are known by their shapes, and fed as their projects do', () => {
    const guessOf = (size: number, ...outputs: (readonly [string, ...number[]])[]) =>
      guessCard(
        'm',
        [value('x', [1, 3, size, size])],
        outputs.map(([name, ...dims]) => value(name, dims)),
      )
    const outputOf = (...args: Parameters<typeof guessOf>) => guessOf(...args).card.output
    const yolov8 = guessOf(640, ['output0', 1, 84, 8400])
    expect(yolov8.card.output).toMatchObject({ decoder: 'boxes', joined: 'output0', form: 'centre', transposed: true })
    expect(yolov8.card.input).toMatchObject({ resize: 'letterbox', pad: 114, color: 'rgb', mean: 0 })
    expect(yolov8.card.input).not.toHaveProperty('resizeTo')
    expect(yolov8.guessed.join('\n')).toMatch(/80 classes[\s\S]*divided by 255/)
    expect(yolov8.guessed.join('\n')).not.toMatch(/ImageNet/)
    expect(outputOf(320, ['o', 1, 6300, 85])).toMatchObject({ decoder: 'boxes', objectness: true, transposed: false })
    expect(outputOf(416, ['o', 1, 3549, 85])).toMatchObject({ decoder: 'yolox', output: 'o', sigmoid: false })
    const strides = [8, 16, 32, 64]
    const plus = strides.flatMap((s) => [
      [`c${s}`, 1, Math.ceil(416 / s) ** 2, 80] as const,
      [`d${s}`, 1, Math.ceil(416 / s) ** 2, 32] as const,
    ])
    expect(outputOf(416, ...plus)).toMatchObject({ decoder: 'nanodet', strides, bins: 8 })
    // three quarters of the cells, or another number of outputs, is none of them
    expect(outputOf(640, ['o', 1, 84, 6300])).toEqual({ decoder: 'none' })
    expect(outputOf(416, ...plus.slice(1))).toEqual({ decoder: 'none' })
  })

  test('what takes no picture is refused with the reason', () => {
    const refusal = (dims: ValueFact['dims'], type?: ValueFact['type']) => () =>
      guessCard('m', [value('x', dims, type)], [value('y', [1, 2])])
    expect(refusal([1, 128])).toThrow(/four dimensions/)
    expect(refusal([1, 64, 32, 32])).toThrow(/1 or 3 channels/)
    expect(refusal([1, 3, 32, 32], 'int64')).toThrow(/int64/)
    expect(() => guessCard('m', [], [])).toThrow(/no input/)
  })
})
