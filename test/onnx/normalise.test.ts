import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Attributes,
  float,
  int,
  intAttribute,
  ints,
  type Model,
  type Node,
  node,
  normalise,
  string,
} from '../../src/onnx/index.ts'
import { largestDifference } from '../../src/onnx/normalise/record.ts'
import { sample } from '../../src/onnx/normalise/samples.ts'
import { floats, longs, type Tensor } from '../../src/tensor/index.ts'
import { run, runOptimised, tinyModel } from './runner.ts'

/** Folding rounds in another order than the unfolded layers do. */
const ROUNDING = 2e-5
/** Random rows may subtract nearly equal numbers, which blows rounding up. */
const CANCELLATION = 1e-3

const picture = { name: 'x', fact: { type: 'float32', dims: [1, 4, 6, 10] } } as const
const result = [{ name: 'y', fact: { type: 'float32' } }] as const

async function sameOutputs(model: Model, tolerance = ROUNDING) {
  const normalised = await normalise(model, run)
  const feeds = Object.fromEntries(
    model.graph.inputs.map(({ name, fact }) => [
      name,
      sample(
        fact!.type,
        fact!.dims!.map((dim) => (typeof dim === 'number' ? dim : 2)),
        5,
      ),
    ]),
  )
  const names = model.graph.outputs.map(({ name }) => name)
  const [before, after] = [await run(model, feeds, names), await run(normalised.model, feeds, names)]
  for (const name of names) expect(largestDifference(before[name]!, after[name]!)).toBeLessThanOrEqual(tolerance)
  return normalised
}

const ops = ({ graph }: Model): string[] => graph.nodes.map(({ op }) => op)

describe('an older operator set becomes version 13 and computes the same', () => {
  const cases: [string, number, Node[], Record<string, Tensor>][] = [
    ['Clip', 7, [node('Clip', ['x'], ['y'], { min: float(-0.2), max: float(0.3) })], {}],
    ['Pad', 9, [node('Pad', ['x'], ['y'], { pads: ints([0, 0, 1, 2, 0, 0, 3, 1]), value: float(0.5) })], {}],
    [
      'Slice',
      9,
      [node('Slice', ['x'], ['y'], { starts: ints([1, -4]), ends: ints([3, 100]), axes: ints([1, 3]) })],
      {},
    ],
    ['Split', 11, [node('Split', ['x'], ['a', 'y'], { axis: int(1), split: ints([1, 3]) })], {}],
    ['Squeeze', 11, [node('Squeeze', ['x'], ['y'], { axes: ints([0]) })], {}],
    ['Unsqueeze', 11, [node('Unsqueeze', ['x'], ['y'], { axes: ints([0, 2]) })], {}],
    ['ReduceSum', 11, [node('ReduceSum', ['x'], ['y'], { axes: ints([2, 3]), keepdims: int(0) })], {}],
    ['Softmax', 11, [node('Softmax', ['x'], ['y'], { axis: int(1) })], {}],
    ['LogSoftmax', 9, [node('LogSoftmax', ['x'], ['y'], { axis: int(2) })], {}],
    ['Softmax on the last axis', 11, [node('Softmax', ['x'], ['y'], { axis: int(3) })], {}],
    ['Upsample', 7, [node('Upsample', ['x'], ['y'], { scales: { kind: 'floats', value: [1, 1, 2, 3] } })], {}],
    [
      'Upsample with an input',
      9,
      [node('Upsample', ['x', 's'], ['y'], { mode: string('linear') })],
      { s: floats([4], [1, 1, 2, 2]) },
    ],
    ['Resize', 10, [node('Resize', ['x', 's'], ['y'], { mode: string('linear') })], { s: floats([4], [1, 1, 2, 2]) }],
    ['Dropout', 7, [node('Relu', ['x'], ['a']), node('Dropout', ['a'], ['y', 'mask'], { ratio: float(0.5) })], {}],
    ['Sum', 8, [node('Relu', ['x'], ['a']), node('Sum', ['x', 'a', 'x'], ['y'])], {}],
  ]
  test.each(cases)('%s', async (_, opset, nodes, initializers) => {
    const { model, notes } = await sameOutputs(
      tinyModel({ inputs: [picture], outputs: result, nodes, initializers }, opset),
    )
    expect(model.opsets.get('')).toBe(13)
    expect(notes).toEqual([])
  })

  test('what cannot be converted stays, with a note', async () => {
    const model = tinyModel(
      {
        inputs: [picture],
        outputs: [...result, { name: 'mask' }],
        nodes: [node('Dropout', ['x'], ['y', 'mask'], { ratio: float(0.5) })],
      },
      10,
    )
    const normalised = await normalise(model, run)
    expect(normalised.model.opsets.get('')).toBe(10)
    expect(normalised.notes.join()).toMatch(/operator set 10 is kept: Dropout/)
  })
})

/** A convolution of 4 to 6 channels, or another layer, with what may follow or precede it. */
function batchNorm(input: string, output: string, channels: number, seed: number) {
  const part = (index: number) => sample('float32', [channels], seed + index)
  const weights: Record<string, Tensor> = {
    [`${output}_gamma`]: part(0),
    [`${output}_beta`]: part(1),
    [`${output}_mean`]: part(2),
    [`${output}_var`]: floats(
      [channels],
      Array.from({ length: channels }, (_, c) => 0.3 + c * 0.2),
    ),
  }
  const nodes = [node('BatchNormalization', [input, ...Object.keys(weights)], [output], { epsilon: float(0.001) })]
  return { nodes, weights }
}

describe('BatchNormalization and its like are folded', () => {
  const folding =
    (layer: (nodes: Node[], attributes: Attributes) => Node, weight: readonly number[], channels: number) =>
    async (attributes: Attributes = {}) => {
      const norm = batchNorm('a', 'b', channels, 3)
      const initializers = {
        w: sample('float32', weight, 1),
        k: sample('float32', [channels, 1, 1], 2),
        ...norm.weights,
      }
      const nodes = [
        layer([], attributes),
        ...norm.nodes,
        node('Mul', ['k', 'b'], ['c']),
        node('Sub', ['c', 'k'], ['y']),
      ]
      const { model } = await sameOutputs(tinyModel({ inputs: [picture], outputs: result, nodes, initializers }))
      return ops(model)
    }
  test('into a convolution', async () => {
    const folded = folding((_, attributes) => node('Conv', ['x', 'w'], ['a'], attributes), [6, 4, 3, 3], 6)
    expect(await folded({ pads: ints([1, 1, 1, 1]) })).toEqual(['Conv'])
  })
  test('into a grouped convolution', async () => {
    const folded = folding((_, attributes) => node('Conv', ['x', 'w'], ['a'], attributes), [6, 2, 3, 3], 6)
    expect(await folded({ group: int(2) })).toEqual(['Conv'])
  })
  test('into a grouped transposed convolution', async () => {
    const folded = folding((_, attributes) => node('ConvTranspose', ['x', 'w'], ['a'], attributes), [4, 3, 2, 2], 6)
    expect(await folded({ group: int(2), strides: ints([2, 2]) })).toEqual(['ConvTranspose'])
  })

  test('through Concat and Add into all layers behind', async () => {
    const norm = batchNorm('s', 'y', 8, 3)
    const initializers = {
      w: sample('float32', [4, 4, 1, 1], 1),
      v: sample('float32', [8, 4, 1, 1], 2),
      ...norm.weights,
    }
    const nodes = [
      node('Conv', ['x', 'w'], ['a']),
      node('Conv', ['x', 'w'], ['b']),
      node('Concat', ['a', 'b'], ['c'], { axis: int(1) }),
      node('Conv', ['x', 'v'], ['d']),
      node('Add', ['c', 'd'], ['s']),
      ...norm.nodes,
    ]
    const { model } = await sameOutputs(tinyModel({ inputs: [picture], outputs: result, nodes, initializers }))
    expect(ops(model)).not.toContain('BatchNormalization')
    expect(ops(model)).not.toContain('Mul')
  })

  test('into the unpadded layer after it, but never through padding', async () => {
    const norm = batchNorm('r', 'b', 4, 3)
    const build = (pad: number) =>
      tinyModel({
        inputs: [picture],
        outputs: result,
        nodes: [
          node('Relu', ['x'], ['r']),
          ...norm.nodes,
          node('Conv', ['b', 'w'], ['y'], { pads: ints([pad, pad, pad, pad]) }),
        ],
        initializers: { w: sample('float32', [4, 4, 3, 3], 1), ...norm.weights },
      })
    expect(ops((await sameOutputs(build(0))).model)).toEqual(['Relu', 'Conv'])
    expect(ops((await sameOutputs(build(1))).model)).toEqual(['Relu', 'Mul', 'Add', 'Conv'])
  })

  test('not where somebody else reads the layer', async () => {
    const norm = batchNorm('a', 'b', 4, 3)
    const nodes = [node('Conv', ['x', 'w'], ['a']), ...norm.nodes, node('Concat', ['a', 'b'], ['y'], { axis: int(1) })]
    const initializers = { w: sample('float32', [4, 4, 1, 1], 1), ...norm.weights }
    const { model } = await sameOutputs(tinyModel({ inputs: [picture], outputs: result, nodes, initializers }))
    expect(ops(model)).toEqual(['Conv', 'Mul', 'Add', 'Concat'])
  })

  test('in any row of layers and channel-wise steps', async () => {
    const steps = ['Conv', 'BatchNormalization', 'Mul', 'Add', 'Sub', 'Div', 'Relu', 'Twin'] as const
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...steps), { minLength: 1, maxLength: 7 }), async (row) => {
        const nodes: Node[] = []
        const initializers: Record<string, Tensor> = {}
        let value = 'x'
        row.forEach((step, index) => {
          const [from, to] = [value, index === row.length - 1 ? 'y' : `v${index}`]
          value = to
          if (step === 'BatchNormalization') {
            const norm = batchNorm(from, to, 4, index)
            nodes.push(...norm.nodes)
            Object.assign(initializers, norm.weights)
          } else if (step === 'Conv') {
            initializers[`w${index}`] = sample('float32', [4, 4, 1, 1], index)
            nodes.push(node('Conv', [from, `w${index}`], [to]))
          } else if (step === 'Relu') nodes.push(node('Relu', [from], [to]))
          else if (step === 'Twin') nodes.push(node('Add', [from, from], [to]))
          else {
            initializers[`k${index}`] = floats([4, 1, 1], [1.5, -2, 0.7, 3])
            nodes.push(node(step, [from, `k${index}`], [to]))
          }
        })
        await sameOutputs(tinyModel({ inputs: [picture], outputs: result, nodes, initializers }), CANCELLATION)
      }),
      { numRuns: 25, seed: 1 },
    )
  })
})

test('a channel shuffle that was exported for one size becomes a Gather, and the graph runs at other batches and sizes', async () => {
  const build = tinyModel({
    inputs: [picture],
    outputs: result,
    nodes: [
      node('Relu', ['x'], ['a']),
      node('Reshape', ['a', 'apart'], ['b']),
      node('Transpose', ['b'], ['c'], { perm: ints([0, 2, 1, 3, 4]) }),
      node('Reshape', ['c', 'together'], ['y']),
    ],
    initializers: { apart: longs([1, 2, 2, 6, 10]), together: longs([1, 4, 6, 10]) },
  })
  const { model, freeBatch, freeSize } = await sameOutputs(build, 0)
  expect(ops(model)).toEqual(['Relu', 'Gather'])
  expect([freeBatch, freeSize]).toEqual([true, true])
  expect(model.graph.inputs[0]?.fact?.dims).toEqual(['N', 4, 'H', 'W'])
})

test('a Reshape that mixes pictures of a batch keeps the batch fixed', async () => {
  const mixing = tinyModel({
    inputs: [{ name: 'x', fact: { type: 'float32', dims: ['batch', 4, 6, 10] } }],
    outputs: result,
    nodes: [node('Relu', ['x'], ['a']), node('ReduceMean', ['a'], ['y'], { axes: ints([0]), keepdims: int(1) })],
  })
  expect((await normalise(mixing, run)).freeBatch).toBe(false)
})

test('shape computations become constants, or a Reshape target that copies the batch', async () => {
  const { model, freeBatch } = await sameOutputs(
    tinyModel({
      inputs: [{ name: 'x', fact: { type: 'float32', dims: ['batch', 4, 6, 10] } }],
      outputs: result,
      nodes: [
        node('Shape', ['x'], ['shape']),
        node('Gather', ['shape', 'zero'], ['batch'], { axis: int(0) }),
        node('Concat', ['batch', 'rest'], ['target'], { axis: int(0) }),
        node('Reshape', ['x', 'target'], ['flat']),
        node('Relu', ['flat'], ['y']),
      ],
      initializers: { zero: longs([0]), rest: longs([-1]) },
    }),
    0,
  )
  expect(freeBatch).toBe(true)
  expect(ops(model)).toEqual(['Reshape', 'Relu'])
})

test('bounds of Clip become 0-d, also where others share the constant', async () => {
  const { model } = await sameOutputs(
    tinyModel({
      inputs: [picture],
      outputs: result,
      nodes: [
        node('Clip', ['x', '', 'six'], ['a']),
        node('Clip', ['a', 'low', 'six'], ['b']),
        node('Relu', ['b'], ['y']),
      ],
      initializers: { low: floats([1], [-0.1]), six: floats([1], [0.4]) },
    }),
    0,
  )
  const bounds = model.graph.nodes
    .filter(({ op }) => op === 'Clip')
    .flatMap(({ inputs }) => inputs.slice(1).filter(Boolean))
  expect(bounds.length).toBe(3)
  for (const bound of bounds) expect(model.graph.initializers.get(bound)?.dims).toEqual([])
})

test('a pooling over the whole map frees the size, a prior baked into the graph does not', async () => {
  const pooled = (nodes: Node[], initializers: Record<string, Tensor> = {}) =>
    normalise(tinyModel({ inputs: [picture], outputs: result, nodes, initializers }), run)
  const pool = node('AveragePool', ['x'], ['y'], { kernel_shape: ints([6, 10]), strides: ints([1, 1]) })
  expect((await pooled([pool])).freeSize).toBe(true)
  expect((await pooled([node('Add', ['x', 'p'], ['y'])], { p: sample('float32', [1, 4, 6, 10], 1) })).freeSize).toBe(
    false,
  )
})

test('a nominal size is recorded where the graph runs at it, and refused with a note where it does not', async () => {
  const relu = tinyModel({ inputs: [picture], outputs: result, nodes: [node('Relu', ['x'], ['y'])] })
  expect((await normalise(relu, run, { nominalSize: [12, 20] })).nominal.get('y')).toEqual([1, 4, 12, 20])
  const fixed = tinyModel({
    inputs: [picture],
    outputs: result,
    nodes: [node('Mul', ['x', 'p'], ['y'])],
    initializers: { p: sample('float32', [1, 4, 6, 10], 1) },
  })
  const { nominal, notes } = await normalise(fixed, run, { nominalSize: [12, 20] })
  expect(nominal.get('y')).toEqual([1, 4, 6, 10])
  expect(notes.join()).toMatch(/does not run at 12x20/)
})

test('8-bit weights stay 8-bit', async () => {
  const int8 = tinyModel({
    inputs: [picture],
    outputs: result,
    nodes: [node('DequantizeLinear', ['q', 's', 'z'], ['w']), node('Conv', ['x', 'w'], ['y'])],
    initializers: {
      q: { type: 'int8', dims: [4, 4, 1, 1], data: Int8Array.from({ length: 16 }, (_, i) => i - 8) },
      s: floats([], [0.1]),
      z: { type: 'int8', dims: [], data: Int8Array.of(0) },
    },
  })
  const { model, quantised } = await sameOutputs(int8, 0)
  expect(quantised).toBe(true)
  expect(model.graph.initializers.get('q')?.type).toBe('int8')
})

test('every value has a fact, and the facts hold when the optimised graph runs at other sizes', async () => {
  const { model } = await normalise(
    tinyModel({
      inputs: [picture],
      outputs: result,
      nodes: [
        node('MaxPool', ['x'], ['a'], { kernel_shape: ints([2, 2]), strides: ints([2, 2]) }),
        node('Conv', ['a', 'w'], ['b'], {
          kernel_shape: ints([3, 3]),
          pads: ints([1, 1, 1, 1]),
          strides: ints([2, 2]),
        }),
        node('Relu', ['b'], ['y']),
      ],
      initializers: { w: sample('float32', [4, 4, 3, 3], 1) },
    }),
    run,
  )
  for (const each of model.graph.nodes) {
    for (const output of each.outputs) {
      expect(output === 'y' ? model.graph.outputs[0]?.fact : model.graph.facts.get(output)).toBeDefined()
    }
  }
  for (const size of [
    [6, 10],
    [7, 11],
    [33, 35],
  ] as const) {
    const { y } = await runOptimised(model, { x: sample('float32', [3, 4, ...size], 2) })
    expect(y?.dims).toEqual([3, 4, ...size.map((dim) => Math.ceil(Math.floor(dim / 2) / 2))])
  }
  expect(intAttribute(model.graph.nodes[1]!, 'group', 1)).toBe(1)
})

test('a matrix product and its bias become one Gemm', async () => {
  const { model } = await sameOutputs(
    tinyModel({
      inputs: [{ name: 'x', fact: { type: 'float32', dims: ['n', 5] } }],
      outputs: result,
      nodes: [node('MatMul', ['x', 'w'], ['a']), node('Add', ['k', 'a'], ['y'])],
      initializers: { w: sample('float32', [5, 3], 1), k: sample('float32', [3], 2) },
    }),
  )
  expect(ops(model)).toEqual(['Gemm'])
})

test('a branch that reads values from around it is left as it is, and its surroundings are cleaned', async () => {
  const branch = (op: string) => ({
    name: op,
    inputs: [],
    outputs: [{ name: `${op}_done`, fact: { type: 'float32' } as const }],
    nodes: [node(op, ['same'], [`${op}_done`])],
    initializers: new Map(),
    facts: new Map(),
  })
  const { model } = await sameOutputs(
    tinyModel({
      inputs: [picture],
      outputs: result,
      nodes: [
        node('Identity', ['x'], ['same']),
        node('ReduceMax', ['x'], ['top'], { keepdims: int(0) }),
        node('Greater', ['top', 'half'], ['loud']),
        node('If', ['loud'], ['y'], {
          then_branch: { kind: 'graph', value: branch('Relu') },
          else_branch: { kind: 'graph', value: branch('Sigmoid') },
        }),
      ],
      initializers: { half: floats([], [0.5]) },
    }),
    0,
  )
  expect(ops(model)).toEqual(['ReduceMax', 'Greater', 'If'])
})
