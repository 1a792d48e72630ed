import { describe, expect, test } from 'vitest'
import { answerJson, answerPicture, drawAnswer, type ModelCard, type Tensors, taskFor } from '../../src/tasks/index.ts'
import { decodePicture, floats, lumaOf, type Picture } from '../../src/tensor/index.ts'
import { card } from './cards.ts'
import { plain, sample } from './samples.ts'

describe('segmentation', () => {
  const made = card({
    task: 'segmentation',
    input: { name: 'i', size: [4, 4] },
    output: { decoder: 'argmax', labels: ['nothing', 'dog', 'cow'], background: 0 },
  })
  const task = taskFor(made)
  /** Scores that make each pixel of 4 × 4 the class given. */
  const scores = (...classes: number[]): Tensors => ({
    y: floats(
      [1, 3, 4, 4],
      [0, 1, 2].flatMap((c) => classes.map((is) => (is === c ? 5 : 0))),
    ),
  })
  const half = scores(...[0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1])

  test('gives every pixel of the picture a class, with straight edges', async () => {
    const { prepared } = sample(made, plain(40, 20), half)
    const answer = task.answer(half, prepared, made)
    if (answer.task !== 'segmentation') throw new Error('another task')
    expect(answer.mask).toEqual(Uint8Array.from({ length: 800 }, (_, i) => (i % 40 < 20 ? 0 : 1)))
    const json = (await answerJson(answer)) as { mask: string; classes: unknown }
    expect(json).toMatchObject({
      width: 40,
      height: 20,
      classes: [
        { index: 0, label: 'nothing', share: 0.5 },
        { index: 1, label: 'dog', share: 0.5 },
      ],
    })
    const mask = await decodePicture(Buffer.from(json.mask, 'base64'))
    expect(mask.data[3 * 25]).toBe(1)
  })

  test('interpolates scores, so that outlines are not the network’s squares', () => {
    const corner = scores(...[1, 0, 0, 0, ...new Array(12).fill(0)])
    const { prepared } = sample(made, plain(64, 64), corner)
    const answer = task.answer(corner, prepared, made)
    if (answer.task !== 'segmentation') throw new Error('another task')
    const lengths = Array.from(
      { length: 16 },
      (_, y) => answer.mask.subarray(64 * y, 64 * y + 64).filter((c) => c === 1).length,
    )
    expect(lengths[0]).toBe(16)
    expect(new Set(lengths).size).toBeGreaterThan(4)
  })

  test('mIoU by hand, without background and without what is not to be judged', () => {
    const truth = {
      kind: 'mask',
      width: 4,
      height: 4,
      mask: Uint8Array.from([0, 1, 1, 255, 0, 1, 1, 255, 0, 0, 1, 1, 2, 2, 1, 1]),
    } as const
    const quality = task.quality([sample(made, plain(4, 4), half, truth)], made)
    // dog: 6 both, 2 only true, 0 only said; cow: never said
    expect(quality).toMatchObject({ metric: 'miou', value: (6 / 8 + 0) / 2 })
    expect(quality.perClass?.map(({ label }) => label)).toEqual(['nothing', 'dog', 'cow'])
  })

  test('fidelity is 1 for the same mask and less for another; divergence is 0 for the same scores', () => {
    const other = scores(...[0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1])
    expect(task.fidelity([sample(made, plain(9, 9), half)], made)).toEqual({ metric: 'miou-to-original', value: 1 })
    expect(task.fidelity([sample(made, plain(9, 9), other, undefined, half)], made).value).toBeCloseTo(
      (7 / 8 + 8 / 9) / 2,
      10,
    )
    expect(task.divergence(half, half, made)).toBe(0)
    expect(task.divergence(half, other, made)).toBeGreaterThan(0)
  })

  test('masks of two input sizes are compared on the grid of the original', () => {
    const picture = plain(9, 9)
    const eight = [0, 1, 2].flatMap((c) => Array.from({ length: 64 }, (_, i) => (c === (i % 8 < 4 ? 0 : 1) ? 5 : 0)))
    const originalPlacement = task.prepare(picture, made, [8, 8]).placement
    const seen = {
      ...sample(made, picture, half, undefined, { y: floats([1, 3, 8, 8], eight) }),
      originalPlacement,
    }
    expect(task.fidelity([seen], made).value).toBe(1)
    // the same masks of pictures that lie four pixels apart
    const apart = { ...originalPlacement, offsetX: originalPlacement.offsetX - 4 }
    expect(task.fidelity([{ ...seen, originalPlacement: apart }], made).value).toBeLessThan(0.5)
  })

  test('one map with a threshold', () => {
    const binary = card({
      task: 'segmentation',
      input: { name: 'i', size: [2, 2] },
      output: { decoder: 'binary', threshold: 0.3 },
    })
    const outputs = { y: floats([1, 1, 2, 2], [0.1, 0.9, 0.1, 0.9]) }
    const { prepared } = sample(binary, plain(2, 2), outputs)
    expect(taskFor(binary).answer(outputs, prepared, binary)).toMatchObject({ mask: Uint8Array.of(0, 1, 0, 1) })
  })
})

/** A picture with detail in all colours, so that misplaced tiles are seen. */
function detailed(width: number, height: number): Picture {
  const data = new Uint8Array(width * height * 3)
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)]
    data.set([128 + 90 * Math.sin(x / 3), 128 + 90 * Math.cos(y / 4), 128 + 60 * Math.sin((x + y) / 5)], 3 * i)
  }
  return { width, height, data }
}

describe('super-resolution', () => {
  const upscaler = (color: string, output: Record<string, unknown> = {}): ModelCard =>
    card({
      task: 'super-resolution',
      input: { name: 'i', size: [24, 32], resize: 'none', color, scale: 1 / 255 },
      output: { decoder: 'upscale', scale: 2, overlap: 4, ...output },
    })

  /** Stands for a network: every pixel four times. */
  const repeat = async (feeds: Tensors): Promise<Tensors> => {
    const { dims, data } = feeds.i!
    const [, channels = 1, height = 1, width = 1] = dims
    const large = new Float32Array(channels * height * width * 4)
    for (let i = 0; i < large.length; i++) {
      const [x, y, c] = [
        i % (2 * width),
        Math.floor(i / (2 * width)) % (2 * height),
        Math.floor(i / (4 * width * height)),
      ]
      large[i] = (data as Float32Array)[c * width * height + (y >> 1) * width + (x >> 1)]!
    }
    return { y: floats([1, channels, 2 * height, 2 * width], large) }
  }

  test.each([
    [32, 24],
    [20, 10],
    [33, 24],
    [90, 71],
    [31, 60],
  ])('tiles of a picture of %i × %i join without a seam', async (width, height) => {
    const picture = detailed(width, height)
    const made = upscaler('rgb')
    const answer = await answerPicture(picture, made, repeat)
    if (answer.task !== 'super-resolution') throw new Error('another task')
    expect([answer.picture.width, answer.picture.height]).toEqual([2 * width, 2 * height])
    const expected = new Uint8Array(width * height * 12)
    for (let i = 0; i < width * height * 4; i++) {
      const [x, y] = [i % (2 * width), Math.floor(i / (2 * width))]
      expected.set(
        picture.data.subarray(3 * ((y >> 1) * width + (x >> 1)), 3 * ((y >> 1) * width + (x >> 1)) + 3),
        3 * i,
      )
    }
    expect(Buffer.compare(answer.picture.data, expected)).toBe(0)
  })

  test('a network of luma keeps the colours of the picture', async () => {
    const picture = detailed(40, 30)
    const answer = await answerPicture(picture, upscaler('luma'), repeat)
    if (answer.task !== 'super-resolution') throw new Error('another task')
    const [from, to] = [lumaOf(picture), lumaOf(answer.picture)]
    for (let i = 0; i < to.length; i++) {
      const [x, y] = [i % 80, Math.floor(i / 80)]
      expect(Math.abs(to[i]! - from[(y >> 1) * 40 + (x >> 1)]!)).toBeLessThan(1.5)
    }
    const chroma = (p: Picture, i: number): number => p.data[3 * i]! - p.data[3 * i + 2]!
    expect(Math.abs(chroma(answer.picture, 40 * 80 + 40) - chroma(picture, 20 * 40 + 20))).toBeLessThan(12)
  })

  test('PSNR and SSIM: perfect is capped, an error of 8 grey levels is what the formula says', () => {
    const made = upscaler('luma')
    const task = taskFor(made)
    const large = detailed(64, 48)
    const { picture, truth } = task.derive!(large, made)
    expect([picture.width, picture.height]).toEqual([32, 24])
    const said = (offset: number): Tensors => ({
      y: floats(
        [1, 1, 48, 64],
        Float32Array.from(lumaOf(large), (value) => (Math.round(value) + offset) / 255),
      ),
    })
    const perfect = task.quality([sample(made, picture, said(0), truth)], made)
    expect(perfect.value).toBeGreaterThan(58)
    expect(perfect.details?.ssim).toBeCloseTo(1, 3)
    const off = task.quality([sample(made, picture, said(8), truth)], made)
    // 8 of 255 are 8 · 219/255 in the range of video
    expect(off.value).toBeCloseTo(20 * Math.log10(255 / ((8 * 219) / 255)), 1)
    expect(off.details!.ssim).toBeLessThan(1)
  })

  test('fidelity is PSNR against the output of the original, 60 dB when equal', () => {
    const made = upscaler('luma')
    const task = taskFor(made)
    const outputs = { y: floats([1, 1, 48, 64], new Float32Array(3072).fill(0.5)) }
    const other = { y: floats([1, 1, 48, 64], new Float32Array(3072).fill(0.6)) }
    expect(task.fidelity([sample(made, plain(32, 24), outputs)], made)).toEqual({
      metric: 'psnr-to-original',
      value: 60,
    })
    expect(task.fidelity([sample(made, plain(32, 24), outputs, undefined, other)], made).value).toBeCloseTo(20, 3)
  })
})

describe('drawn answers are pictures of the same size', () => {
  const picture = detailed(160, 90)
  const box = {
    label: 'a <b> & "c"\u0000',
    index: 1,
    score: 0.5,
    xMin: 10,
    yMin: 20,
    xMax: 60,
    yMax: 70,
    landmarks: [20, 30],
  }

  test.each([
    ['labels', { task: 'classification', labels: [{ label: 'tench, Tinca tinca', index: 0, score: 0.04 }] }],
    ['boxes', { task: 'detection', boxes: [box] }],
    [
      'a mask',
      {
        task: 'segmentation',
        width: 160,
        height: 90,
        mask: new Uint8Array(14400).fill(1),
        classes: [{ index: 1, label: 'dog', share: 1 }],
      },
    ],
  ] as const)('%s', async (_name, answer) => {
    const drawn = await decodePicture(await drawAnswer(picture, answer))
    expect([drawn.width, drawn.height]).toEqual([160, 90])
    expect(Buffer.compare(drawn.data, picture.data)).not.toBe(0)
  })

  test('outputs without a meaning leave the picture as it is', async () => {
    const drawn = await decodePicture(await drawAnswer(picture, { task: 'generic', outputs: {} }))
    expect(Buffer.compare(drawn.data, picture.data)).toBe(0)
  })
})
