import { seededRandom } from '../../src/base/index.ts'
import { type Model, writeModel } from '../../src/onnx/index.ts'
import { floats, type Tensor } from '../../src/tensor/index.ts'

/** Two 3×3 convolutions from `channels` to `width` and back, with random weights: input x, output y, `[1, channels, S, S]`. */
export function network(channels: number, width: number): Uint8Array {
  const random = seededRandom(width)
  const weights = (...dims: number[]): Tensor => {
    const count = dims.reduce((a, b) => a * b)
    return floats(
      dims,
      Array.from({ length: count }, () => (random() - 0.5) / 10),
    )
  }
  const conv = (name: string, input: string, weight: string, output: string) => ({
    name,
    op: 'Conv',
    domain: '',
    inputs: [input, weight],
    outputs: [output],
    attributes: { pads: { kind: 'ints' as const, value: [1, 1, 1, 1] } },
  })
  const fact = { type: 'float32' as const, dims: [1, channels, 'side', 'side'] }
  const model: Model = {
    graph: {
      name: 'two convolutions',
      inputs: [{ name: 'x', fact }],
      outputs: [{ name: 'y', fact }],
      nodes: [
        conv('first', 'x', 'w1', 'h'),
        { name: 'relu', op: 'Relu', domain: '', inputs: ['h'], outputs: ['r'], attributes: {} },
        conv('second', 'r', 'w2', 'y'),
      ],
      initializers: new Map([
        ['w1', weights(width, channels, 3, 3)],
        ['w2', weights(channels, width, 3, 3)],
      ]),
      facts: new Map(),
    },
    opsets: new Map([['', 17]]),
    irVersion: 8,
    producer: 'test',
    metadata: new Map(),
    functions: [],
  }
  return writeModel(model)
}

export const picture = (channels: number, side: number): Tensor =>
  floats(
    [1, channels, side, side],
    Float32Array.from({ length: channels * side * side }, (_, i) => Math.sin(i)),
  )
