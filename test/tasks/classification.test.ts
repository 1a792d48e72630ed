import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { answerJson, taskFor } from '../../src/tasks/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { card } from './cards.ts'
import { logits, plain, sample } from './samples.ts'

const own = card()
const task = taskFor(own)
const picture = plain(8, 8)

describe('classification', () => {
  test('answers with probabilities, best first, by name', async () => {
    const { prepared, outputs } = sample(own, picture, logits(0, Math.log(3), -100))
    expect(await answerJson(task.answer(outputs, prepared, own))).toEqual({
      labels: [
        { label: 'dog', index: 1, score: 0.75 },
        { label: 'cat', index: 0, score: 0.25 },
        { label: 'cow', index: 2, score: 0 },
      ],
    })
  })

  test('outputs that are probabilities already are taken as they are', () => {
    const made = card({ output: { decoder: 'probabilities', output: 'p' } })
    const { prepared, outputs } = sample(made, picture, { q: floats([1, 2], [9, 9]), p: floats([1, 2], [0.4, 0.6]) })
    const answer = task.answer(outputs, prepared, made)
    expect(answer).toMatchObject({ labels: [{ label: '1', index: 1 }, { index: 0 }] })
  })

  test('an output that the model lacks is named', () => {
    const made = card({ output: { decoder: 'softmax', output: 'scores' } })
    expect(() => task.divergence(logits(1), logits(1), made)).toThrow(/"scores".* has "y"/)
  })

  test('top-1, top-5 and classes; of equal scores the first wins', () => {
    const truth = (index: number) => ({ kind: 'class', index }) as const
    const samples = [
      sample(own, picture, logits(5, 1, 1), truth(0)),
      sample(own, picture, logits(5, 1, 1), truth(1)),
      sample(own, picture, logits(2, 2, 1), truth(0)),
      sample(own, picture, logits(2, 2, 1), truth(1)),
    ]
    expect(task.quality(samples, own)).toEqual({
      metric: 'top1',
      value: 0.5,
      details: { top5: 1 },
      perClass: [
        { label: 'cat', value: 1, count: 2, takenFor: [] },
        { label: 'dog', value: 0, count: 2, takenFor: [{ label: 'cat', count: 2 }] },
      ],
    })
  })

  test('what a class is taken for, the most frequent first', () => {
    const says = (index: number) => logits(...[0, 1, 2].map((each) => (each === index ? 5 : 1)))
    const samples = [2, 1, 2, 0, 2].map((index) => sample(own, picture, says(index), { kind: 'class', index: 0 }))
    expect(task.quality(samples, own).perClass).toEqual([
      {
        label: 'cat',
        value: 0.2,
        count: 5,
        takenFor: [
          { label: 'cow', count: 3 },
          { label: 'dog', count: 1 },
        ],
      },
    ])
  })

  test('fidelity is the share of equal first answers', () => {
    const samples = [
      sample(own, picture, logits(3, 1, 0), undefined, logits(9, 8, 7)),
      sample(own, picture, logits(1, 3, 0), undefined, logits(9, 8, 7)),
    ]
    expect(task.fidelity(samples, own)).toEqual({ metric: 'top1-agreement', value: 0.5 })
  })

  test('divergence is 0 for the same answer, positive for another, and knows no common offset of logits', () => {
    const values = fc.array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 3, maxLength: 3 })
    fc.assert(
      fc.property(values, values, (a, b) => {
        expect(task.divergence(logits(...a), logits(...a), own)).toBe(0)
        expect(task.divergence(logits(...a), logits(...b), own)).toBeGreaterThanOrEqual(0)
        expect(task.divergence(logits(...a), logits(...a.map((value) => value + 3)), own)).toBeLessThan(1e-5)
      }),
    )
    expect(task.divergence(logits(5, 0, 0), logits(0, 5, 0), own)).toBeGreaterThan(4)
  })
})

describe('models of unknown meaning', () => {
  const made = card({ task: 'generic', output: { decoder: 'none' } })
  const generic = taskFor(made)

  test('are compared as signals: 20 dB is a tenth of the amplitude', () => {
    const signal = Array.from({ length: 1000 }, (_, i) => Math.sin(i))
    const noisy = signal.map((value, i) => value + 0.1 * Math.cos(i))
    const one = sample(made, picture, { y: floats([1000], noisy) }, undefined, { y: floats([1000], signal) })
    expect(generic.fidelity([one], made).value).toBeCloseTo(20, 1)
    expect(generic.divergence(one.original, one.outputs, made)).toBeCloseTo(0.01, 3)
    expect(generic.fidelity([{ ...one, outputs: one.original }], made)).toEqual({ metric: 'snr', value: 60 })
  })

  test('are summed up in JSON', async () => {
    const { prepared, outputs } = sample(made, picture, { y: floats([1, 4], [1, 2, 3, 6]) })
    expect(await answerJson(generic.answer(outputs, prepared, made))).toEqual({
      outputs: [{ name: 'y', type: 'float32', dims: [1, 4], min: 1, max: 6, mean: 3 }],
    })
  })

  test('of several inputs each gets the picture in its own way', () => {
    const input = [
      { name: 'a', size: [8, 8] },
      { name: 'b', size: [4, 6], color: 'gray' },
    ]
    const two = card({ task: 'generic', output: { decoder: 'none' }, input })
    const { feeds } = generic.prepare(picture, two, [16, 16])
    expect(Object.entries(feeds).map(([name, { dims }]) => [name, dims])).toEqual([
      ['a', [1, 3, 16, 16]],
      ['b', [1, 1, 4, 6]],
    ])
  })
})

test('a smaller input sees the same part of the picture', () => {
  const cropped = card({ input: { name: 'i', size: [224, 224], resize: 'cover', resizeTo: 256 } })
  const large = task.prepare(plain(512, 512), cropped).placement
  const small = task.prepare(plain(512, 512), cropped, [112, 112]).placement
  expect(small.networkWidth).toBe(112)
  expect(small.offsetX / small.scaleX).toBeCloseTo(large.offsetX / large.scaleX, 6)
})
