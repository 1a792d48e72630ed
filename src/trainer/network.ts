import { seededRandom } from '../base/index.ts'
import { type Attributes, int, ints, type Model, type Node, node, type ValueInfo } from '../onnx/index.ts'
import { elementCount, floats, longs, type Tensor } from '../tensor/index.ts'

export interface ConvolutionOptions {
  readonly stride?: number
  readonly group?: number
  /** off where a BatchNormalization follows */
  readonly bias?: boolean
  /** factor of the first weights, 1 unless given; 0 lets a branch begin as nothing */
  readonly scale?: number
}

/** A value of a network being built, with its number of channels. */
export interface Value {
  readonly name: string
  readonly channels: number
}

/**
 * Builds a network layer by layer, in operator set 13, with He's initialisation.
 *
 *     const net = new Network(1)
 *     const x = net.input('input', ['N', 3, 32, 32])
 *     const logits = net.linear(net.pool(net.block(x, 16)), 10)
 *     net.finish('tiny', { logits })
 */
export class Network {
  readonly #nodes: Node[] = []
  readonly #initializers = new Map<string, Tensor>()
  readonly #inputs: ValueInfo[] = []
  readonly #random: () => number
  #count = 0

  constructor(seed: number) {
    this.#random = seededRandom(seed)
  }

  input(name: string, dims: readonly [string, number, number | string, number | string]): Value {
    this.#inputs.push({ name, fact: { type: 'float32', dims } })
    return { name, channels: dims[1] }
  }

  /** A convolution with padding that keeps the size (for stride 1). */
  conv(x: Value, channels: number, kernel: number, options: ConvolutionOptions = {}): Value {
    const { stride = 1, group = 1, bias = true, scale = 1 } = options
    const pad = (kernel - 1) / 2
    const fanIn = (x.channels / group) * kernel * kernel
    const weight = this.#normal([channels, x.channels / group, kernel, kernel], fanIn, scale)
    const inputs = [x.name, weight, ...(bias ? [this.#filled([channels], 0)] : [])]
    const attributes = {
      kernel_shape: ints([kernel, kernel]),
      strides: ints([stride, stride]),
      pads: ints([pad, pad, pad, pad]),
      group: int(group),
    }
    return this.#add('Conv', inputs, channels, attributes)
  }

  /** @param scale 0 lets a residual branch begin as nothing, which trains more steadily */
  norm(x: Value, scale = 1): Value {
    const of = (value: number) => this.#filled([x.channels], value)
    return this.#add('BatchNormalization', [x.name, of(scale), of(0), of(0), of(1)], x.channels)
  }

  relu(x: Value): Value {
    return this.#add('Relu', [x.name], x.channels)
  }

  relu6(x: Value): Value {
    return this.#add('Clip', [x.name, this.#scalar(0), this.#scalar(6)], x.channels)
  }

  add(a: Value, b: Value): Value {
    return this.#add('Add', [a.name, b.name], a.channels)
  }

  concat(a: Value, b: Value): Value {
    return this.#add('Concat', [a.name, b.name], a.channels + b.channels, { axis: int(1) })
  }

  /** Convolution, normalisation, ReLU. */
  block(x: Value, channels: number, options: ConvolutionOptions & { kernel?: number } = {}): Value {
    return this.relu(this.norm(this.conv(x, channels, options.kernel ?? 3, { ...options, bias: false })))
  }

  /** Two 3×3 convolutions beside a shortcut, as in ResNet. */
  residual(x: Value, channels: number, stride = 1): Value {
    const inner = this.block(x, channels, { stride })
    const branch = this.norm(this.conv(inner, channels, 3, { bias: false }))
    const shortcut =
      stride === 1 && channels === x.channels ? x : this.norm(this.conv(x, channels, 1, { stride, bias: false }))
    return this.relu(this.add(branch, shortcut))
  }

  /** Expand, depthwise, project, as in MobileNetV2; with a shortcut where the shapes allow one. */
  invertedResidual(x: Value, channels: number, expand: number, stride = 1): Value {
    const inner = x.channels * expand
    const wide = this.relu6(this.norm(this.conv(x, inner, 1, { bias: false })))
    const seen = this.relu6(this.norm(this.conv(wide, inner, 3, { stride, group: inner, bias: false })))
    const narrow = this.norm(this.conv(seen, channels, 1, { bias: false }))
    return stride === 1 && channels === x.channels ? this.add(x, narrow) : narrow
  }

  globalPool(x: Value): Value {
    return this.#add('GlobalAveragePool', [x.name], x.channels)
  }

  /** `[N, C, 1, 1]` to logits `[N, channels]`. */
  linear(x: Value, channels: number): Value {
    const flat = this.#add('Flatten', [x.name], x.channels)
    const inputs = [flat.name, this.#normal([channels, x.channels], 2 * x.channels), this.#filled([channels], 0)]
    return this.#add('Gemm', inputs, channels, { transB: int(1) })
  }

  /** Channels to space: `[N, 4C, H, W]` to `[N, C, 2H, 2W]`. */
  depthToSpace(x: Value, size: number): Value {
    return this.#add('DepthToSpace', [x.name], x.channels / (size * size), { blocksize: int(size) })
  }

  /** Bicubic enlargement by a whole factor. */
  enlarge(x: Value, factor: number): Value {
    const scales = this.#tensor(floats([4], [1, 1, factor, factor]))
    return this.#add('Resize', [x.name, '', scales], x.channels, { mode: { kind: 'string', value: 'cubic' } })
  }

  /** Repeats each position `factor` times in both directions, as feature pyramids do. */
  repeat(x: Value, factor: number): Value {
    const scales = this.#tensor(floats([4], [1, 1, factor, factor]))
    return this.#add('Resize', [x.name, '', scales], x.channels, {
      mode: { kind: 'string', value: 'nearest' },
      coordinate_transformation_mode: { kind: 'string', value: 'asymmetric' },
      nearest_mode: { kind: 'string', value: 'floor' },
    })
  }

  /** `[N, C, H, W]` to `[N, H·W, C]`, the form in which detectors give their answers. */
  rows(x: Value): Value {
    const turned = this.#add('Transpose', [x.name], x.channels, { perm: ints([0, 2, 3, 1]) })
    return this.#add('Reshape', [turned.name, this.#tensor(longs([0, -1, x.channels]))], x.channels)
  }

  /**
   * The network with random weights.
   *
   * @param outputs by the names they are to have
   * @param dims of each output, where readers of the file should see them
   */
  finish(
    name: string,
    outputs: Readonly<Record<string, Value>>,
    dims: Readonly<Record<string, readonly (number | string)[]>> = {},
  ): Model {
    const renamed = new Map(Object.entries(outputs).map(([output, value]) => [value.name, output]))
    const rename = (value: string) => renamed.get(value) ?? value
    const nodes = this.#nodes.map((each) => ({
      ...each,
      inputs: each.inputs.map(rename),
      outputs: each.outputs.map(rename),
    }))
    const info = Object.keys(outputs).map((output) => ({
      name: output,
      fact: { type: 'float32' as const, ...(dims[output] ? { dims: dims[output] } : {}) },
    }))
    const graph = {
      name,
      inputs: this.#inputs,
      outputs: info,
      nodes,
      initializers: this.#initializers,
      facts: new Map(),
    }
    return { graph, opsets: new Map([['', 13]]), irVersion: 7, producer: '', metadata: new Map(), functions: [] }
  }

  #add(op: string, inputs: readonly string[], channels: number, attributes: Attributes = {}): Value {
    const name = `${op.toLowerCase()}_${this.#count++}`
    this.#nodes.push(node(op, inputs, [name], attributes))
    return { name, channels }
  }

  #tensor(value: Tensor): string {
    const name = `constant_${this.#count++}`
    this.#initializers.set(name, value)
    return name
  }

  #scalar(value: number): string {
    return this.#tensor(floats([], [value]))
  }

  #filled(dims: readonly number[], value: number): string {
    return this.#tensor(floats(dims, new Float32Array(elementCount(dims)).fill(value)))
  }

  /** Normal with variance 2 / `fanIn` (He), by Box and Muller. */
  #normal(dims: readonly number[], fanIn: number, scale = 1): string {
    const deviation = scale * Math.sqrt(2 / fanIn)
    const draw = () => Math.sqrt(-2 * Math.log(1 - this.#random())) * Math.cos(2 * Math.PI * this.#random()) * deviation
    return this.#tensor(floats(dims, Float32Array.from({ length: elementCount(dims) }, draw)))
  }
}
