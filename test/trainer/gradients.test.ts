import { describe, expect, test } from 'vitest'
import { float, int, ints, type Node, node, string } from '../../src/onnx/index.ts'
import { floats, longs, type Tensor } from '../../src/tensor/index.ts'
import { type DifferentiableOp, differentiableOps } from '../../src/trainer/rules/index.ts'
import { distinct, gradientError, positive, some } from './finite-differences.ts'

/** Central differences in float32 are good to about three digits. */
const TOLERANCE = 5e-3

interface Case {
  readonly name: string
  readonly inputs: Readonly<Record<string, Tensor>>
  readonly nodes: readonly Node[]
  readonly outputs?: readonly string[]
  readonly initializers?: Readonly<Record<string, Tensor>>
  readonly opset?: number
}

const of = (name: string, inputs: Case['inputs'], made: Node, more: Partial<Case> = {}): Case => ({
  name,
  inputs,
  nodes: [made],
  ...more,
})
const simple = (op: string, x: Tensor, attributes: Node['attributes'] = {}) =>
  of('plain', { x }, node(op, ['x'], ['y'], attributes))
const scalar = (value: number) => floats([], [value])
const conv = (name: string, x: Tensor, w: Tensor, attributes: Node['attributes'], op = 'Conv') =>
  of(name, { x, w, b: some(op === 'Conv' ? w.dims[0]! : w.dims[1]!) }, node(op, ['x', 'w', 'b'], ['y'], attributes))
const resize = (name: string, scales: number[], attributes: Node['attributes']) =>
  of(name, { x: some(2, 2, 3, 4) }, node('Resize', ['x', '', 'scales'], ['y'], attributes), {
    initializers: { scales: floats([4], scales) },
  })

const cases: Readonly<Record<DifferentiableOp, readonly Case[]>> = {
  Abs: [simple('Abs', some(2, 3))],
  Add: [
    of('broadcast', { x: some(2, 3, 2, 2), b: some(3, 1, 1) }, node('Add', ['x', 'b'], ['y'])),
    of('with itself', { x: some(2, 3) }, node('Add', ['x', 'x'], ['y'])),
  ],
  AveragePool: [
    simple('AveragePool', some(2, 3, 4, 6), { kernel_shape: ints([2, 2]), strides: ints([2, 2]) }),
    of(
      'overlapping, padded',
      { x: some(1, 2, 5, 5) },
      node('AveragePool', ['x'], ['y'], {
        kernel_shape: ints([3, 3]),
        strides: ints([2, 2]),
        pads: ints([1, 1, 1, 1]),
      }),
    ),
    of(
      'pads counted',
      { x: some(1, 2, 5, 5) },
      node('AveragePool', ['x'], ['y'], {
        kernel_shape: ints([3, 3]),
        pads: ints([1, 1, 1, 1]),
        count_include_pad: int(1),
      }),
    ),
    of(
      'uncovered rest',
      { x: some(1, 2, 8, 7) },
      node('AveragePool', ['x'], ['y'], { kernel_shape: ints([3, 3]), strides: ints([3, 3]) }),
    ),
  ],
  BatchNormalization: [
    of(
      'constant statistics',
      { x: some(3, 2, 2, 2), s: some(2), b: some(2) },
      node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], ['y']),
      { initializers: { m: some(2), v: positive(2) } },
    ),
  ],
  Clip: [
    of('relu6', { x: distinct(4, 5) }, node('Clip', ['x', 'low', 'high'], ['y']), {
      initializers: { low: scalar(-0.4), high: scalar(0.4) },
    }),
  ],
  Concat: [of('channels', { a: some(2, 1, 2), b: some(2, 3, 2) }, node('Concat', ['a', 'b'], ['y'], { axis: int(1) }))],
  Conv: [
    conv('3×3', some(2, 3, 5, 4), some(4, 3, 3, 3), { pads: ints([1, 1, 1, 1]) }),
    conv('1×1', some(2, 3, 4, 4), some(5, 3, 1, 1), {}),
    conv('stride 2', some(2, 3, 7, 6), some(4, 3, 3, 3), { pads: ints([1, 1, 1, 1]), strides: ints([2, 2]) }),
    conv('1×1 stride 2', some(2, 3, 5, 6), some(4, 3, 1, 1), { strides: ints([2, 2]) }),
    conv('dilated', some(1, 2, 7, 7), some(3, 2, 3, 3), { pads: ints([2, 2, 2, 2]), dilations: ints([2, 2]) }),
    conv('grouped', some(2, 4, 5, 5), some(6, 2, 3, 3), { pads: ints([1, 1, 1, 1]), group: int(2) }),
    conv('grouped, stride 2', some(2, 4, 6, 6), some(6, 2, 3, 3), {
      pads: ints([1, 1, 1, 1]),
      group: int(2),
      strides: ints([2, 2]),
    }),
    conv('depthwise', some(2, 3, 5, 5), some(3, 1, 3, 3), { pads: ints([1, 1, 1, 1]), group: int(3) }),
    conv('depthwise, stride 2', some(2, 3, 6, 6), some(3, 1, 3, 3), {
      pads: ints([1, 1, 1, 1]),
      group: int(3),
      strides: ints([2, 2]),
    }),
    conv('two channels for each', some(2, 3, 4, 4), some(6, 1, 3, 3), { pads: ints([1, 1, 1, 1]), group: int(3) }),
    conv('5×3, uneven pads', some(1, 2, 6, 6), some(3, 2, 5, 3), { pads: ints([0, 1, 2, 0]) }),
    conv('pads beyond the kernel', some(1, 2, 4, 4), some(2, 2, 1, 1), { pads: ints([1, 1, 1, 1]) }),
    conv('same upper', some(1, 2, 6, 6), some(2, 2, 3, 3), { auto_pad: string('SAME_UPPER'), strides: ints([2, 2]) }),
  ],
  ConvTranspose: [
    conv(
      'stride 2',
      some(2, 3, 3, 3),
      some(3, 2, 4, 4),
      { strides: ints([2, 2]), pads: ints([1, 1, 1, 1]) },
      'ConvTranspose',
    ),
    conv(
      '9×9, output padding',
      some(1, 2, 3, 3),
      some(2, 1, 9, 9),
      { strides: ints([2, 2]), pads: ints([4, 4, 4, 4]), output_padding: ints([1, 1]) },
      'ConvTranspose',
    ),
  ],
  DepthToSpace: [
    simple('DepthToSpace', some(2, 8, 2, 3), { blocksize: int(2) }),
    simple('DepthToSpace', some(1, 8, 2, 2), { blocksize: int(2), mode: string('CRD') }),
  ],
  Div: [of('broadcast', { a: some(2, 3), b: positive(3) }, node('Div', ['a', 'b'], ['y']))],
  Dropout: [simple('Dropout', some(2, 3))],
  Exp: [simple('Exp', some(2, 3))],
  Expand: [
    of('rows', { x: some(3, 1) }, node('Expand', ['x', 'shape'], ['y']), { initializers: { shape: longs([2, 3, 4]) } }),
  ],
  Flatten: [simple('Flatten', some(2, 3, 2))],
  Gather: [
    of('shuffle', { x: some(2, 4, 2) }, node('Gather', ['x', 'i'], ['y'], { axis: int(1) }), {
      initializers: { i: longs([2, 0, 3, 1]) },
    }),
    of('some', { x: some(2, 4, 2) }, node('Gather', ['x', 'i'], ['y'], { axis: int(1) }), {
      initializers: { i: longs([2, 0]) },
    }),
  ],
  Gemm: [
    of('plain', { a: some(3, 4), b: some(4, 2), c: some(2) }, node('Gemm', ['a', 'b', 'c'], ['y'])),
    of(
      'transB, alpha, beta',
      { a: some(3, 4), b: some(2, 4), c: some(3, 2) },
      node('Gemm', ['a', 'b', 'c'], ['y'], { transB: int(1), alpha: float(0.5), beta: float(2) }),
    ),
    of('transA', { a: some(4, 3), b: some(4, 2) }, node('Gemm', ['a', 'b'], ['y'], { transA: int(1) })),
    of(
      'both transposed',
      { a: some(4, 3), b: some(2, 4) },
      node('Gemm', ['a', 'b'], ['y'], { transA: int(1), transB: int(1) }),
    ),
  ],
  GlobalAveragePool: [simple('GlobalAveragePool', some(2, 3, 3, 2))],
  GlobalMaxPool: [simple('GlobalMaxPool', distinct(2, 2, 3, 2))],
  HardSigmoid: [simple('HardSigmoid', some(5, 5), { alpha: float(1.1), beta: float(0.43) })],
  HardSwish: [
    of('three pieces', { x: distinct(4, 5) }, node('Mul', ['x', 'twelve'], ['z']), {
      nodes: [node('Mul', ['x', 'twelve'], ['z']), node('HardSwish', ['z'], ['y'])],
      initializers: { twelve: scalar(12) },
    }),
  ],
  Identity: [simple('Identity', some(2, 3))],
  LeakyRelu: [simple('LeakyRelu', some(3, 4), { alpha: float(0.2) })],
  Log: [simple('Log', positive(2, 3))],
  LogSoftmax: [simple('LogSoftmax', some(3, 4), { axis: int(-1) })],
  MatMul: [
    of('matrices', { a: some(2, 3), b: some(3, 4) }, node('MatMul', ['a', 'b'], ['y'])),
    of('one matrix for a batch', { a: some(2, 2, 3), b: some(3, 4) }, node('MatMul', ['a', 'b'], ['y'])),
    of('batches', { a: some(2, 2, 3), b: some(2, 3, 4) }, node('MatMul', ['a', 'b'], ['y'])),
    of('broadcast left', { a: some(2, 3), b: some(2, 3, 4) }, node('MatMul', ['a', 'b'], ['y'])),
    of('vector right', { a: some(2, 2, 3), b: some(3) }, node('MatMul', ['a', 'b'], ['y'])),
    of('vector left', { a: some(3), b: some(2, 3, 4) }, node('MatMul', ['a', 'b'], ['y'])),
  ],
  MaxPool: [
    simple('MaxPool', distinct(1, 2, 4, 6), { kernel_shape: ints([2, 2]), strides: ints([2, 2]) }),
    simple('MaxPool', distinct(1, 2, 6, 6), {
      kernel_shape: ints([3, 3]),
      strides: ints([2, 2]),
      pads: ints([1, 1, 1, 1]),
    }),
    simple('MaxPool', distinct(1, 1, 6, 6), { kernel_shape: ints([3, 3]), strides: ints([2, 2]), ceil_mode: int(1) }),
  ],
  Mul: [
    of('gate', { x: some(2, 3, 2, 2), g: some(2, 3, 1, 1) }, node('Mul', ['x', 'g'], ['y'])),
    of('square', { x: some(2, 3) }, node('Mul', ['x', 'x'], ['y'])),
  ],
  Neg: [simple('Neg', some(2, 3))],
  PRelu: [of('by channel', { x: some(2, 3, 2, 2), s: some(3, 1, 1) }, node('PRelu', ['x', 's'], ['y']))],
  Pad: [
    of('channels and borders', { x: some(1, 2, 2, 2) }, node('Pad', ['x', 'pads'], ['y']), {
      initializers: { pads: longs([0, 1, 0, 1, 0, 2, 1, 0]) },
    }),
  ],
  ReduceMean: [simple('ReduceMean', some(2, 3, 4), { axes: ints([-1, 1]), keepdims: int(0) })],
  ReduceSum: [
    of('one axis', { x: some(2, 3, 4) }, node('ReduceSum', ['x', 'axes'], ['y']), {
      initializers: { axes: longs([1]) },
    }),
  ],
  Relu: [simple('Relu', some(3, 4))],
  Reshape: [
    of('free size', { x: some(2, 6) }, node('Reshape', ['x', 'shape'], ['y']), {
      initializers: { shape: longs([0, 2, -1]) },
    }),
  ],
  Resize: [
    resize('nearest, twice', [1, 1, 2, 2], {
      mode: string('nearest'),
      coordinate_transformation_mode: string('asymmetric'),
      nearest_mode: string('floor'),
    }),
    resize('nearest, half pixel', [1, 1, 2, 3], { mode: string('nearest') }),
    resize('linear, twice', [1, 1, 2, 2], { mode: string('linear') }),
    resize('linear, corners', [1, 1, 3, 2], {
      mode: string('linear'),
      coordinate_transformation_mode: string('align_corners'),
    }),
    resize('linear, smaller', [1, 1, 1, 0.5], {
      mode: string('linear'),
      coordinate_transformation_mode: string('asymmetric'),
    }),
  ],
  Sigmoid: [simple('Sigmoid', some(3, 4))],
  Slice: [
    of('two axes', { x: some(2, 5, 4) }, node('Slice', ['x', 'from', 'to', 'axes'], ['y']), {
      initializers: { from: longs([1, -3]), to: longs([4, 100]), axes: longs([1, 2]) },
    }),
    of('step 2', { x: some(2, 5, 6) }, node('Slice', ['x', 'from', 'to', 'axes', 'steps'], ['y']), {
      initializers: { from: longs([0, 1]), to: longs([5, 6]), axes: longs([1, 2]), steps: longs([2, 2]) },
    }),
    of('backwards', { x: some(2, 5) }, node('Slice', ['x', 'from', 'to', 'axes', 'steps'], ['y']), {
      initializers: { from: longs([-1]), to: longs([-100]), axes: longs([1]), steps: longs([-2]) },
    }),
  ],
  Softmax: [simple('Softmax', some(3, 4), { axis: int(-1) }), simple('Softmax', some(2, 3, 2), { axis: int(1) })],
  Softplus: [simple('Softplus', some(3, 4))],
  SpaceToDepth: [simple('SpaceToDepth', some(1, 2, 4, 4), { blocksize: int(2) })],
  Split: [
    of('both parts', { x: some(2, 5) }, node('Split', ['x', 'sizes'], ['y', 'z'], { axis: int(1) }), {
      outputs: ['y', 'z'],
      initializers: { sizes: longs([2, 3]) },
    }),
    of('one part', { x: some(2, 5) }, node('Split', ['x', 'sizes'], ['y', 'z'], { axis: int(1) }), {
      outputs: ['z'],
      initializers: { sizes: longs([2, 3]) },
    }),
  ],
  Sqrt: [simple('Sqrt', positive(3, 4))],
  Squeeze: [
    of('one axis', { x: some(2, 1, 3) }, node('Squeeze', ['x', 'axes'], ['y']), { initializers: { axes: longs([1]) } }),
  ],
  Sub: [of('broadcast', { a: some(3), b: some(2, 3) }, node('Sub', ['a', 'b'], ['y']))],
  Sum: [of('three', { a: some(2, 3), b: some(2, 3), c: some(3) }, node('Sum', ['a', 'b', 'c'], ['y']))],
  Tanh: [simple('Tanh', some(3, 4))],
  Transpose: [
    simple('Transpose', some(2, 3, 4), { perm: ints([1, 2, 0]) }),
    of('reversed', { x: some(2, 3, 4) }, node('Transpose', ['x'], ['y'])),
  ],
  Unsqueeze: [
    of('one axis', { x: some(2, 3) }, node('Unsqueeze', ['x', 'axes'], ['y']), { initializers: { axes: longs([1]) } }),
  ],
}

describe('the gradient of every operator agrees with finite differences', () => {
  for (const op of differentiableOps) {
    for (const each of cases[op]) {
      test(`${op}: ${each.name}`, async () => {
        const error = await gradientError(each.inputs, each.nodes, each.outputs ?? ['y'], each.initializers, each.opset)
        expect(error).toBeLessThan(TOLERANCE)
      })
    }
  }
})
