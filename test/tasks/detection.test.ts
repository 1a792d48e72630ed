import { describe, expect, test } from 'vitest'
import { answerJson, type Box, type ModelCard, type Tensors, type Truth, taskFor } from '../../src/tasks/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { card } from './cards.ts'
import { plain, sample } from './samples.ts'

const labels = ['person', 'dog', 'cow']

const detector = (output: Record<string, unknown>, input: Record<string, unknown> = {}): ModelCard =>
  card({ task: 'detection', input: { name: 'i', size: [64, 96], ...input }, output: { labels, ...output } })

const boxesOf = (made: ModelCard, outputs: Tensors, width = 96, height = 64): readonly Box[] => {
  const { prepared } = sample(made, plain(width, height), outputs)
  const answer = taskFor(made).answer(outputs, prepared, made)
  return 'boxes' in answer ? answer.boxes : []
}

/** One dog from (16, 8) to (48, 40) in a network's input of 96 × 64, encoded as each decoder wants it. */
const dog = { xMin: 16, yMin: 8, xMax: 48, yMax: 40 }
const [cx, cy, w, h] = [32, 24, 32, 32]

const expectDog = (boxes: readonly Box[], score: number, digits = 3): void => {
  expect(boxes).toHaveLength(1)
  const [box] = boxes
  expect(box).toMatchObject({ label: 'dog', index: 1 })
  expect(box!.score).toBeCloseTo(score, digits)
  for (const side of ['xMin', 'yMin', 'xMax', 'yMax'] as const) expect(box![side]).toBeCloseTo(dog[side], digits)
}

const sigmoidOf = (share: number): number => Math.log(share / (1 - share))

describe('decoders find the box that was encoded', () => {
  test.each([
    ['corners', 'pixels', [16, 8, 48, 40]],
    ['corners', 'fraction', [16 / 96, 8 / 64, 48 / 96, 40 / 64]],
    ['corners-yx', 'pixels', [8, 16, 40, 48]],
    ['centre', 'pixels', [cx, cy, w, h]],
    ['corner-size', 'fraction', [16 / 96, 8 / 64, 32 / 96, 32 / 64]],
  ])('boxes as %s in %s', (form, unit, box) => {
    const made = detector({ decoder: 'boxes', form, unit, boxes: 'b', scores: 's' })
    expectDog(
      boxesOf(made, { b: floats([1, 2, 4], [...box, 0, 0, 1, 1]), s: floats([1, 2, 3], [0.1, 0.9, 0, 0, 0, 0]) }),
      0.9,
    )
  })

  test('boxes with background, softmax and sigmoid', () => {
    const b = floats([1, 1, 4], [16, 8, 48, 40])
    const common = { decoder: 'boxes', unit: 'pixels', boxes: 'b', scores: 's' }
    const soft = detector({ ...common, background: 0, activation: 'softmax' })
    expectDog(boxesOf(soft, { b, s: floats([1, 1, 4], [0, 0, Math.log(7), 0]) }), 0.7)
    const last = detector({ ...common, background: 3 })
    expectDog(boxesOf(last, { b, s: floats([1, 1, 4], [0.1, 0.6, 0.1, 0.2]) }), 0.6)
    const sig = detector({ ...common, activation: 'sigmoid' })
    expectDog(boxesOf(sig, { b, s: floats([1, 1, 3], [-9, sigmoidOf(0.8), -9]) }), 0.8)
  })

  test('boxes whose class has an output of its own', () => {
    const made = detector({ decoder: 'boxes', unit: 'pixels', boxes: 'b', scores: 's', classIndex: 'c' })
    const c = { type: 'int64', dims: [1], data: BigInt64Array.of(1n) } as const
    expectDog(boxesOf(made, { b: floats([1, 4], [16, 8, 48, 40]), s: floats([1], [0.5]), c }), 0.5)
  })

  test('joined, with an object score (YOLOv5) and transposed without (YOLOv8)', () => {
    const v5 = detector({ decoder: 'boxes', form: 'centre', unit: 'pixels', joined: 'y', objectness: true })
    expectDog(boxesOf(v5, { y: floats([1, 1, 8], [cx, cy, w, h, 0.8, 0.1, 0.5, 0.1]) }), 0.4)
    const v8 = detector({ decoder: 'boxes', form: 'centre', unit: 'pixels', joined: 'y', transposed: true })
    expectDog(boxesOf(v8, { y: floats([1, 7, 2], [cx, 0, cy, 0, w, 0, h, 0, 0.1, 0, 0.9, 0, 0.1, 0]) }), 0.9)
  })

  test('SSD priors, x first and y first', () => {
    const priors = [
      { grid: [1, 1], boxes: [[0.9, 0.9]] },
      {
        grid: [2, 3],
        boxes: [
          [0.25, 0.25],
          [0.5, 0.5],
        ],
      },
    ]
    // the second prior of the first cell of the second grid: centre (1/6, 1/4), size (.5, .5)
    const [tx, ty] = [(cx / 96 - 1 / 6) / 0.5 / 0.1, (cy / 64 - 1 / 4) / 0.5 / 0.1]
    const [tw, th] = [Math.log(w / 96 / 0.5) / 0.2, Math.log(h / 64 / 0.5) / 0.2]
    const scores = new Float32Array(13 * 4)
    scores[2 * 4 + 2] = 0.9
    for (const yFirst of [false, true]) {
      const offsets = new Float32Array(13 * 4)
      offsets.set(yFirst ? [ty, tx, th, tw] : [tx, ty, tw, th], 8)
      const made = detector({ decoder: 'ssd', boxes: 'b', scores: 's', priors, background: 0, yFirst })
      expectDog(boxesOf(made, { b: floats([1, 13, 4], offsets), s: floats([1, 13, 4], scores) }), 0.9)
    }
    const made = detector({ decoder: 'ssd', boxes: 'b', scores: 's', priors: [priors[0]] })
    expect(() => boxesOf(made, { b: floats([1, 13, 4], new Float32Array(52)), s: floats([1, 13, 4], scores) })).toThrow(
      /priors/,
    )
  })

  test('YOLOX', () => {
    // strides 16 and 32: 24 and 6 cells; the second cell of the second row of stride 16 is cell 7, at (1, 1)
    const data = new Float32Array(30 * 8)
    data.set([cx / 16 - 1, cy / 16 - 1, Math.log(w / 16), Math.log(h / 16), 0.9, 0, 0.5, 0], 7 * 8)
    expectDog(boxesOf(detector({ decoder: 'yolox', strides: [16, 32] }), { y: floats([1, 30, 8], data) }), 0.45)
  })

  test('NanoDet, with outputs in any order and under any name', () => {
    const cells = 24
    const scores = new Float32Array(cells * 3)
    const sides = new Float32Array(cells * 16).fill(-20)
    // cell 8 of 6 columns is at (2, 1): its middle, (40, 24), is 24 from the left side, 16 from the top, 8 and 16 from the others
    scores[8 * 3 + 1] = 0.8
    const bins = [24, 16, 8, 16].map((distance) => distance / 16)
    for (const [side, bin] of bins.entries()) {
      const low = Math.floor(bin)
      sides[8 * 16 + side * 4 + low] = Math.log(1 - (bin - low))
      if (bin > low) sides[8 * 16 + side * 4 + low + 1] = Math.log(bin - low)
    }
    const made = detector({ decoder: 'nanodet', strides: [16], bins: 4 })
    expectDog(boxesOf(made, { zzz: floats([cells, 16], sides), aaa: floats([1, cells, 3], scores) }), 0.8)
    expect(() => boxesOf(made, { aaa: floats([1, cells, 3], scores) })).toThrow(/stride 16/)
  })

  test('FastestDet', () => {
    const data = new Float32Array(8 * 4 * 6)
    const set = (channel: number, value: number): void => {
      // row 1, column 1 of 4 × 6 cells of 16 pixels
      data[channel * 24 + 7] = value
    }
    set(0, 0.9)
    set(1, Math.atanh(cx / 16 - 1 - 1e-9))
    set(2, Math.atanh(cy / 16 - 1))
    set(3, sigmoidOf(w / 96))
    set(4, sigmoidOf(h / 64))
    set(6, 0.7)
    const boxes = boxesOf(detector({ decoder: 'fastestdet' }), { y: floats([1, 8, 4, 6], data) })
    expectDog(boxes, 0.9 ** 0.6 * 0.7 ** 0.4, 2)
  })

  test('YuNet, with its five points in the pixels of the picture', async () => {
    const made = card({
      task: 'face-detection',
      input: { name: 'i', size: [64, 96] },
      output: { decoder: 'yunet', strides: [32] },
    })
    const one = (width: number, values: number[]) => floats([1, 6, width], [...values, ...new Array(5 * width).fill(0)])
    const outputs = {
      cls_32: one(1, [0.81]),
      obj_32: one(1, [1.2]),
      bbox_32: one(4, [1, 0.75, 0, 0]),
      kps_32: one(10, [1, 1, 2, 1, 0, 0, 1, 2, 2, 2]),
    }
    const { prepared } = sample(made, plain(192, 128), outputs)
    expect(await answerJson(taskFor(made).answer(outputs, prepared, made))).toEqual({
      boxes: [
        { label: 'face', score: 0.9, box: [32, 16, 96, 80], landmarks: [64, 64, 128, 64, 0, 0, 64, 128, 128, 128] },
      ],
    })
  })
})

describe('answers', () => {
  const made = detector(
    { decoder: 'boxes', unit: 'pixels', boxes: 'b', scores: 's', nms: 0.5 },
    { resize: 'letterbox' },
  )
  const outputs = (boxes: number[][], scores: number[][]): Tensors => ({
    b: floats([1, boxes.length, 4], boxes.flat()),
    s: floats([1, scores.length, 3], scores.flat()),
  })

  test('are in pixels of the upright picture, cut off at its edges', () => {
    // 400 × 100 into 96 × 64: scale .24, bars of 20 pixels above and below
    const [box] = boxesOf(made, outputs([[-10, 0, 48, 32]], [[0.9, 0, 0]]), 400, 100)
    expect(box).toMatchObject({ xMin: 0, yMin: 0, xMax: 200, yMax: 50 })
    expect(boxesOf(made, outputs([[0, 0, 96, 19]], [[0.9, 0, 0]]), 400, 100)).toEqual([])
  })

  test('drop what overlaps a better box of the same class, and only of the same', () => {
    const near = [
      [10, 10, 40, 40],
      [12, 12, 42, 42],
      [12, 12, 42, 42],
    ]
    const found = boxesOf(
      made,
      outputs(near, [
        [0.8, 0, 0],
        [0.9, 0, 0],
        [0, 0.7, 0],
      ]),
    )
    expect(found.map(({ label, score }) => [label, Number(score.toFixed(1))])).toEqual([
      ['person', 0.9],
      ['dog', 0.7],
    ])
  })
})

describe('quality and fidelity', () => {
  const made = detector({ decoder: 'boxes', unit: 'pixels', boxes: 'b', scores: 's', threshold: 0.5 })
  const task = taskFor(made)
  const found = (...boxes: [index: number, score: number, x: number][]): Tensors => ({
    b: floats(
      [1, boxes.length, 4],
      boxes.flatMap(([, , x]) => [x, 10, x + 10, 20]),
    ),
    s: floats(
      [1, boxes.length, 3],
      boxes.flatMap(([index, score]) => [0, 1, 2].map((c) => (c === index ? score : 0))),
    ),
  })
  const there = (...boxes: [index: number, x: number][]): Truth => ({
    kind: 'boxes',
    boxes: boxes.map(([index, x]) => ({ label: labels[index]!, index, xMin: x, yMin: 10, xMax: x + 10, yMax: 20 })),
  })
  const picture = plain(96, 64)

  test('all right is 1', () => {
    const one = sample(made, picture, found([0, 0.9, 10], [1, 0.3, 40]), there([0, 10], [1, 40]))
    expect(task.quality([one], made)).toMatchObject({ metric: 'map50', value: 1, details: { 'map50-95': 1 } })
  })

  test('COCO by hand: right, wrong, right of two is 51 recalls at 1 and 50 at 2/3', () => {
    const one = sample(made, picture, found([0, 0.9, 10], [0, 0.8, 70], [0, 0.7, 40]), there([0, 10], [0, 40]))
    expect(task.quality([one], made).value).toBeCloseTo((51 + (50 * 2) / 3) / 101, 10)
  })

  test('a second box on the same thing is wrong; classes count equally; a class that is nowhere counts nothing', () => {
    const twice = sample(made, picture, found([0, 0.9, 10], [0, 0.8, 13], [2, 0.9, 70]), there([0, 10], [1, 40]))
    const quality = task.quality([twice], made)
    expect(quality.value).toBeCloseTo(0.5, 10)
    expect(quality.perClass).toEqual([
      { label: 'person', value: 1, count: 1 },
      { label: 'dog', value: 0, count: 1 },
    ])
  })

  test('a box that is a third off is right at an IoU of .5 and wrong from .55 on', () => {
    const one = sample(made, picture, found([0, 0.9, 13]), there([0, 10]))
    expect(task.quality([one], made)).toMatchObject({ value: 1, details: { 'map50-95': 0.1 } })
  })

  test('boxes of one picture do not count for another', () => {
    const here = sample(made, picture, found([0, 0.9, 10]), there())
    const missing = sample(made, picture, found([0, 0.2, 70]), there([0, 10]))
    expect(task.quality([here, missing], made).value).toBe(0)
  })

  test('fidelity is F1 against the boxes of the original', () => {
    const same = sample(made, picture, found([0, 0.9, 10]), undefined, found([0, 0.6, 11]))
    const less = sample(made, picture, found([0, 0.9, 10]), undefined, found([0, 0.6, 10], [1, 0.6, 40]))
    const nothing = sample(made, picture, found([0, 0.1, 10]), undefined, found([0, 0.1, 10]))
    expect(task.fidelity([same], made)).toEqual({ metric: 'box-agreement', value: 1 })
    expect(task.fidelity([less], made).value).toBeCloseTo(2 / 3, 10)
    expect(task.fidelity([nothing], made).value).toBe(1)
  })

  test('an original that saw the picture at twice the size is compared in pixels of the picture', () => {
    const small = sample(made, picture, found([0, 0.9, 10]), undefined, {
      ...found([0, 0.9, 20]),
      b: floats([1, 1, 4], [20, 20, 40, 40]),
    })
    const { placement } = small.prepared
    const originalPlacement = {
      ...placement,
      networkWidth: 2 * placement.networkWidth,
      networkHeight: 2 * placement.networkHeight,
      scaleX: 2 * placement.scaleX,
      scaleY: 2 * placement.scaleY,
      offsetX: 2 * placement.offsetX,
      offsetY: 2 * placement.offsetY,
    }
    expect(task.fidelity([small], made).value).toBe(0)
    expect(task.fidelity([{ ...small, originalPlacement }], made).value).toBe(1)
  })
})
