import { blockId, seededRandom } from '../../src/base/index.ts'
import type { Block, Samples } from '../../src/blocks/index.ts'
import { openSession } from '../../src/engine/index.ts'
import { type Graph, int, ints, type Model, type Node, node, writeModel } from '../../src/onnx/index.ts'
import { floats, longs, type Tensor } from '../../src/tensor/index.ts'

/** A small graph under construction, with random weights. */
export class Builder {
  readonly nodes: Node[] = []
  readonly initializers = new Map<string, Tensor>()
  readonly random: () => number

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  weights(name: string, dims: readonly number[], scale?: number): string {
    const fan = dims.slice(1).reduce((product, dim) => product * dim, 1)
    const size = dims.reduce((product, dim) => product * dim, 1)
    const spread = scale ?? Math.sqrt(6 / Math.max(fan, 1))
    this.initializers.set(
      name,
      floats(
        dims,
        Float32Array.from({ length: size }, () => (this.random() - 0.5) * spread),
      ),
    )
    return name
  }

  conv(
    input: string,
    output: string,
    channels: number,
    from: number,
    kernel = 3,
    options: { group?: number; stride?: number } = {},
  ): string {
    const group = options.group ?? 1
    const pad = Math.floor(kernel / 2)
    this.nodes.push(
      node(
        'Conv',
        [
          input,
          this.weights(`${output}.w`, [channels, from / group, kernel, kernel]),
          this.weights(`${output}.b`, [channels], 0.2),
        ],
        [output],
        {
          kernel_shape: ints([kernel, kernel]),
          pads: ints([pad, pad, pad, pad]),
          strides: ints([options.stride ?? 1, options.stride ?? 1]),
          group: int(group),
        },
      ),
    )
    return output
  }

  op(name: string, inputs: readonly string[], output: string, attributes: Node['attributes'] = {}): string {
    this.nodes.push(node(name, inputs, [output], attributes))
    return output
  }

  relu6(input: string, output: string): string {
    this.initializers.set('zero', { type: 'float32', dims: [], data: Float32Array.of(0) })
    this.initializers.set('six', { type: 'float32', dims: [], data: Float32Array.of(6) })
    return this.op('Clip', [input, 'zero', 'six'], output)
  }

  split(input: string, outputs: readonly string[], sizes: readonly number[]): void {
    this.initializers.set(`${outputs[0]}.sizes`, longs(sizes))
    this.nodes.push({ ...node('Split', [input, `${outputs[0]}.sizes`], outputs, { axis: int(1) }) })
  }

  /** The graph as a block with recorded shapes, and random smooth samples for it. */
  async block(
    inputDims: readonly number[],
    output: string,
    pictures = 96,
  ): Promise<{ block: Block; samples: Samples }> {
    const graph: Graph = {
      name: 'tiny',
      inputs: [{ name: 'x', fact: { type: 'float32', dims: inputDims } }],
      outputs: [{ name: output }],
      nodes: this.nodes,
      initializers: this.initializers,
      facts: new Map(),
    }
    const model: Model = {
      graph,
      opsets: new Map([['', 13]]),
      irVersion: 8,
      producer: '',
      metadata: new Map(),
      functions: [],
    }
    const samples = Array.from({ length: pictures }, () => ({ x: this.picture(inputDims) }))
    const nominal = await shapes(model, samples[0]!)
    const fact = { type: 'float32' as const, dims: nominal.get(output)! }
    const complete = { ...model, graph: { ...graph, outputs: [{ name: output, fact }] } }
    const inputs = [{ name: 'x', fact: { type: 'float32' as const, dims: inputDims } }]
    return {
      block: { id: blockId('b0'), model: complete, inputs, outputs: [{ name: output, fact }], nominal },
      samples,
    }
  }

  /** Values that are correlated over space and channels, as those of real pictures are. */
  private picture(dims: readonly number[]): Tensor {
    const [, channels = 1, height = 1, width = 1] = dims
    const waves = Array.from({ length: 6 }, () => [
      this.random() * 2,
      this.random() * 2,
      this.random() * 6,
      this.random(),
    ])
    const mix = Array.from({ length: channels }, () => waves.map(() => this.random() - 0.4))
    const data = new Float32Array(channels * height * width)
    for (let c = 0; c < channels; c++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++)
          data[(c * height + y) * width + x] = waves.reduce(
            (sum, [fx = 0, fy = 0, phase = 0, weight = 0], k) =>
              sum + mix[c]![k]! * weight * Math.sin(fx * x + fy * y + phase),
            0.05 * (this.random() - 0.5),
          )
    return floats(dims, data)
  }
}

async function shapes(
  model: Model,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<ReadonlyMap<string, readonly number[]>> {
  const values = model.graph.nodes.flatMap(({ outputs }) => outputs)
  const session = await openSession(
    writeModel({ ...model, graph: { ...model.graph, outputs: values.map((name) => ({ name })) } }),
    {
      optimization: 'disabled',
    },
  )
  const results = await session.run(feeds)
  await session.release()
  return new Map([...Object.entries(feeds), ...Object.entries(results)].map(([name, { dims }]) => [name, dims]))
}

/** conv–relu–conv beside a shortcut, as in ResNet. */
export function residual(width = 32, inner = 64): Promise<{ block: Block; samples: Samples }> {
  const b = new Builder(1)
  b.conv('x', 'c1', inner, width)
  b.op('Relu', ['c1'], 'r1')
  b.conv('r1', 'c2', width, inner)
  b.op('Add', ['c2', 'x'], 'sum')
  b.op('Relu', ['sum'], 'y')
  return b.block([1, width, 8, 8], 'y')
}

/** expand–depthwise–project, as in MobileNetV2. */
export function inverted(): Promise<{ block: Block; samples: Samples }> {
  const b = new Builder(2)
  b.conv('x', 'expand', 96, 16, 1)
  b.relu6('expand', 'e6')
  b.conv('e6', 'depthwise', 96, 96, 3, { group: 96 })
  b.relu6('depthwise', 'd6')
  b.conv('d6', 'project', 16, 96, 1)
  b.op('Add', ['project', 'x'], 'y')
  return b.block([1, 16, 8, 8], 'y')
}

/** squeeze, two expansions side by side, concatenated and read by one layer, as in SqueezeNet. */
export function fire(): Promise<{ block: Block; samples: Samples }> {
  const b = new Builder(3)
  b.conv('x', 'squeeze', 32, 32, 1)
  b.op('Relu', ['squeeze'], 's')
  b.conv('s', 'left', 32, 32, 1)
  b.conv('s', 'right', 32, 32, 3)
  b.op('Concat', ['left', 'right'], 'both', { axis: int(1) })
  b.op('Relu', ['both'], 'r')
  b.conv('r', 'y', 16, 64, 1)
  return b.block([1, 32, 8, 8], 'y')
}

/** A squeeze-and-excite gate on the inner channels. */
export function gated(): Promise<{ block: Block; samples: Samples }> {
  const b = new Builder(4)
  b.conv('x', 'c', 64, 16, 1)
  b.op('Relu', ['c'], 'r')
  b.op('GlobalAveragePool', ['r'], 'pool')
  b.conv('pool', 'down', 16, 64, 1)
  b.op('Relu', ['down'], 'downr')
  b.conv('downr', 'up', 64, 16, 1)
  b.op('Sigmoid', ['up'], 'gate')
  b.op('Mul', ['r', 'gate'], 'scaled')
  b.conv('scaled', 'y', 16, 64, 1)
  return b.block([1, 16, 8, 8], 'y')
}

/** A split whose halves go different ways, and a head with a pool, a flattening and a matrix. */
export function splitHead(): Promise<{ block: Block; samples: Samples }> {
  const b = new Builder(5)
  b.conv('x', 'c', 64, 16, 3)
  b.op('Relu', ['c'], 'r')
  b.split('r', ['a', 'b'], [32, 32])
  b.conv('b', 'd', 32, 32, 3, { group: 32 })
  b.op('Concat', ['a', 'd'], 'cat', { axis: int(1) })
  b.op('GlobalAveragePool', ['cat'], 'pool')
  b.op('Flatten', ['pool'], 'flat')
  b.nodes.push(node('Gemm', ['flat', b.weights('fc.w', [10, 64]), b.weights('fc.b', [10])], ['y'], { transB: int(1) }))
  return b.block([1, 16, 8, 8], 'y')
}

/** A channel shuffle, as normalising writes it, before a depthwise convolution. */
export function shuffled(): Promise<{ block: Block; samples: Samples }> {
  const b = new Builder(6)
  b.conv('x', 'c', 64, 16, 1)
  b.op('Relu', ['c'], 'r')
  b.initializers.set('order', longs(Array.from({ length: 64 }, (_, i) => (i % 2) * 32 + Math.floor(i / 2))))
  b.op('Gather', ['r', 'order'], 's', { axis: int(1) })
  b.conv('s', 'd', 64, 64, 3, { group: 64 })
  b.conv('d', 'y', 16, 64, 1)
  return b.block([1, 16, 8, 8], 'y')
}
