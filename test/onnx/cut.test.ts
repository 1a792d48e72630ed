import { expect, test } from 'vitest'
import { borders, cut, int, ints, node, normalise, proposeCuts } from '../../src/onnx/index.ts'
import { sample } from '../../src/onnx/normalise/samples.ts'
import { run, tinyModel } from './runner.ts'

const picture = { name: 'x', fact: { type: 'float32', dims: [1, 8, 16, 24] } } as const

/** Two residual units and a long skip to the end: conv, relu, conv, add, relu. */
function residual() {
  const nodes = [node('Conv', ['x', 'w'], ['stem']), node('Relu', ['stem'], ['u0'])]
  for (const unit of [1, 2]) {
    const same = { pads: ints([1, 1, 1, 1]) }
    nodes.push(node('Conv', [`u${unit - 1}`, 'v'], [`a${unit}`], same), node('Relu', [`a${unit}`], [`b${unit}`]))
    nodes.push(
      node('Conv', [`b${unit}`, 'v'], [`c${unit}`], same),
      node('Add', [`u${unit - 1}`, `c${unit}`], [`s${unit}`]),
    )
    nodes.push(node('Relu', [`s${unit}`], [`u${unit}`]))
  }
  nodes.push(node('Concat', ['u0', 'u2'], ['y'], { axis: int(1) }))
  return tinyModel({
    inputs: [picture],
    outputs: [{ name: 'y', fact: { type: 'float32' } }],
    nodes,
    initializers: { w: sample('float32', [8, 8, 1, 1], 1), v: sample('float32', [8, 8, 3, 3], 2) },
  })
}

test('a border tells what crosses it, in bytes', async () => {
  const found = borders(await normalise(residual(), run))
  const bytes = 4 * 8 * 16 * 24
  expect(found.find(({ values }) => values.includes('u1'))).toEqual({
    position: 7,
    values: ['u0', 'u1'],
    bytes: 2 * bytes,
  })
  expect(found[0]).toEqual({ position: 1, values: ['stem'], bytes })
})

test('no border separates a layer or an addition from its activation', async () => {
  const normalised = await normalise(residual(), run)
  const crossing = proposeCuts(normalised, { blocks: 100 }).flatMap(({ values }) => values)
  for (const value of ['stem', 'a1', 'a2', 's1', 's2']) expect(crossing).not.toContain(value)
  expect(crossing).toContain('u1')
})

test('a block takes long skips from any earlier block, and copies the weights that it shares', async () => {
  const normalised = await normalise(residual(), run)
  const blocks = cut(
    normalised,
    borders(normalised).filter(({ position }) => [2, 7].includes(position)),
  )
  expect(
    blocks.map(({ id, inputs, outputs }) => [id, inputs.map(({ name }) => name), outputs.map(({ name }) => name)]),
  ).toEqual([
    ['b0', ['x'], ['u0']],
    ['b1', ['u0'], ['u1']],
    ['b2', ['u0', 'u1'], ['y']],
  ])
  expect(blocks.map(({ model }) => model.graph.initializers.size)).toEqual([1, 1, 1])
  expect(blocks[1]?.nominal.get('b1')).toEqual([1, 8, 16, 24])
})

test('a cut outside the graph is refused', async () => {
  const normalised = await normalise(residual(), run)
  expect(() => cut(normalised, [{ position: 99, values: [], bytes: 0 }])).toThrow(/cannot cut before node 99/)
})

test('integers stay inside a block', async () => {
  const model = tinyModel({
    inputs: [{ name: 'x', fact: { type: 'float32', dims: ['n', 8, 'h', 'w'] } }],
    outputs: [{ name: 'y', fact: { type: 'float32' } }],
    nodes: [
      node('Shape', ['x'], ['size']),
      node('Conv', ['x', 'v'], ['a'], { strides: ints([2, 2]) }),
      node('Relu', ['a'], ['b']),
      node('Conv', ['b', 'w'], ['c']),
      node('Resize', ['c', '', '', 'size'], ['d']),
      node('Relu', ['d'], ['y']),
    ],
    initializers: { w: sample('float32', [8, 8, 1, 1], 1), v: sample('float32', [8, 8, 3, 3], 2) },
  })
  const normalised = await normalise(model, run, { nominalSize: [24, 32] })
  expect(normalised.freeSize).toBe(true)
  const blocks = cut(normalised, proposeCuts(normalised, { blocks: 3 }))
  expect(blocks.length).toBe(3)
  for (const { fact } of blocks.flatMap(({ inputs }) => inputs)) expect(fact.type).toBe('float32')
  // The size is computed where it is used, from the graph's own input.
  expect(blocks.at(-1)?.inputs.map(({ name }) => name)).toContain('x')
})
