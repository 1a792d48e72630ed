import { seededRandom } from '../../src/base/index.ts'
import { int, type Model, node } from '../../src/onnx/index.ts'
import type { Picture } from '../../src/tensor/index.ts'
import { Builder } from '../blocks/tiny-blocks.ts'

/** A small convolutional classifier of 32×32 colour pictures with random weights: stem, two residual units, head. */
export function tinyClassifier(): Model {
  const b = new Builder(42)
  b.conv('input', 'c0', 16, 3, 3, { stride: 2 })
  b.op('Relu', ['c0'], 'x0')
  for (const unit of [1, 2]) {
    b.conv(`x${unit - 1}`, `u${unit}a`, 32, 16)
    b.op('Relu', [`u${unit}a`], `u${unit}r`)
    b.conv(`u${unit}r`, `u${unit}b`, 16, 32)
    b.op('Add', [`u${unit}b`, `x${unit - 1}`], `s${unit}`)
    b.op('Relu', [`s${unit}`], `x${unit}`)
  }
  b.op('GlobalAveragePool', ['x2'], 'pool')
  b.op('Flatten', ['pool'], 'flat')
  b.nodes.push(
    node('Gemm', ['flat', b.weights('fc.w', [10, 16], 8), b.weights('fc.b', [10])], ['logits'], { transB: int(1) }),
  )
  const dims = (...rest: number[]) => ['N', ...rest]
  return {
    graph: {
      name: 'tiny',
      inputs: [{ name: 'input', fact: { type: 'float32', dims: dims(3, 32, 32) } }],
      outputs: [{ name: 'logits', fact: { type: 'float32', dims: dims(10) } }],
      nodes: b.nodes,
      initializers: b.initializers,
      facts: new Map(),
    },
    opsets: new Map([['', 13]]),
    irVersion: 8,
    producer: 'test',
    metadata: new Map(),
    functions: [],
  }
}

/** A picture of smooth colours; equal seeds give equal pictures. */
export function tinyPicture(seed: number): Picture {
  const random = seededRandom(seed + 1)
  const waves = Array.from({ length: 9 }, () => random() * 0.6)
  const data = new Uint8Array(32 * 32 * 3)
  for (let y = 0; y < 32; y++)
    for (let x = 0; x < 32; x++)
      for (let c = 0; c < 3; c++)
        data[(y * 32 + x) * 3 + c] = 128 + 120 * Math.sin(waves[c]! * x + waves[3 + c]! * y + 10 * waves[6 + c]!)
  return { width: 32, height: 32, data }
}
