import { expect, test } from 'vitest'
import { inputSizes } from '../../src/pipeline/sizes.ts'
import { card } from '../tasks/cards.ts'

const sized = (size: readonly [number, number], change: Record<string, unknown> = {}) =>
  card({ input: { name: 'i', size, resize: 'stretch', ...((change.input as object) ?? {}) }, ...withoutInput(change) })

const withoutInput = ({ input: _, ...rest }: Record<string, unknown>) => rest

const detection = { task: 'detection', output: { decoder: 'boxes', boxes: 'b', scores: 's', unit: 'pixels' } }
const segmentation = { task: 'segmentation', output: { decoder: 'argmax' } }

test('two or three smaller sizes of what strides divide, the own one first', () => {
  expect(inputSizes(sized([224, 224]), true)).toEqual([
    [224, 224],
    [192, 192],
    [160, 160],
  ])
  expect(inputSizes(sized([320, 320], detection), true)).toEqual([
    [320, 320],
    [288, 288],
    [256, 256],
    [224, 224],
  ])
})

test('a network that counts corners keeps its odd pixel', () => {
  expect(inputSizes(sized([257, 257], segmentation), true)).toEqual([
    [257, 257],
    [225, 225],
    [193, 193],
  ])
})

test('one size where the graph, the picture or the answer hangs on it', () => {
  expect(inputSizes(sized([224, 224]), false)).toEqual([[224, 224]])
  expect(inputSizes(sized([224, 224], { input: { resize: 'none' } }), true)).toEqual([[224, 224]])
  expect(inputSizes(sized([32, 32]), true)).toEqual([[32, 32]])
  const ssd = { decoder: 'ssd', boxes: 'b', scores: 's', priors: [{ grid: [2, 2], boxes: [[0.5, 0.5]] }] }
  expect(inputSizes(sized([320, 320], { task: 'detection', output: ssd }), true)).toEqual([[320, 320]])
  expect(inputSizes(sized([224, 224], { task: 'generic', output: { decoder: 'none' } }), true)).toEqual([[224, 224]])
})
