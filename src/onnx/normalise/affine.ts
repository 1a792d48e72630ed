import { floats, isFloat, type Tensor } from '../../tensor/index.ts'
import {
  floatAttribute,
  type Graph,
  intAttribute,
  isOp,
  type Model,
  type Node,
  node,
  stringAttribute,
  valuesRead,
} from '../graph.ts'
import { freshNames, removeDead, withGraph } from '../rewrite.ts'

type Shapes = ReadonlyMap<string, readonly number[]>

/** y = scale · x + shift for each channel (axis 1). */
interface Affine {
  readonly scale: Float64Array
  readonly shift: Float64Array
}

/**
 * Folds BatchNormalization, and Mul, Add, Sub, Div by constants of one number per channel, into the layer before; where
 * there is none, into an unpadded layer after; what remains of BatchNormalization becomes Mul and Add.
 *
 * Unfolded, it makes an int8 graph several times slower.
 */
export function foldAffine(model: Model, shapes: Shapes): Model {
  let graph = matricesAsLayers(model.graph, shapes)
  for (;;) {
    const next = foldOnce(graph, shapes)
    if (!next) break
    graph = next
  }
  return withGraph(model, splitRest(graph, shapes))
}

/** A row of numbers times a constant matrix is a Gemm, which can take the bias that usually follows. */
function matricesAsLayers(graph: Graph, shapes: Shapes): Graph {
  const nodes = graph.nodes.map((each) => {
    const weight = graph.initializers.get(each.inputs[1] ?? '')
    const layer = isOp(each, 'MatMul') && shapes.get(each.inputs[0]!)?.length === 2 && weight?.dims.length === 2
    return layer && isFloat(weight) ? { ...each, op: 'Gemm' } : each
  })
  return { ...graph, nodes }
}

function foldOnce(graph: Graph, shapes: Shapes): Graph | undefined {
  const edit = new Edit(graph)
  for (const each of graph.nodes) {
    if (edit.touched.has(each.name)) continue
    const affine = affineOf(each, graph, shapes)
    if (!affine) continue
    const [from, to] = [affine.input, each.outputs[0]!]
    const reader = edit.onlyReader(to)
    if (edit.canAbsorb(from)) {
      edit.absorb(from, affine)
      edit.bypass(each, from)
    } else if (reader && canScaleInput(reader, graph, affine)) {
      edit.scaleInput(reader, affine)
      edit.bypass(each, from)
    }
  }
  return edit.result()
}

/** The affine map that a node is, and the value to which it applies. */
function affineOf(each: Node, graph: Graph, shapes: Shapes): (Affine & { input: string }) | undefined {
  const constant = (index: number) => {
    const value = graph.initializers.get(each.inputs[index] ?? '')
    return value && isFloat(value) ? value : undefined
  }
  if (isOp(each, 'BatchNormalization')) {
    const [gamma, beta, mean, variance] = [1, 2, 3, 4].map(constant)
    if (
      !gamma ||
      !beta ||
      !mean ||
      !variance ||
      each.outputs.length > 1 ||
      intAttribute(each, 'training_mode', 0) === 1
    )
      return undefined
    const epsilon = floatAttribute(each, 'epsilon', 1e-5)
    const scale = Float64Array.from(gamma.data, (value, c) => value / Math.sqrt(variance.data[c]! + epsilon))
    return {
      input: each.inputs[0]!,
      scale,
      shift: Float64Array.from(beta.data, (value, c) => value - mean.data[c]! * scale[c]!),
    }
  }
  if (!isOp(each, 'Mul', 'Add', 'Sub', 'Div')) return undefined
  const first = constant(0) !== undefined
  const input = each.inputs[first ? 1 : 0]!
  const shape = shapes.get(input)
  const value = constant(first ? 0 : 1)
  if (!shape || shape.length < 2 || !value || graph.initializers.has(input)) return undefined
  const channels = shape[1]!
  if (!isPerChannel(value.dims, shape.length, channels)) return undefined
  const of = (c: number) => value.data[value.data.length === 1 ? 0 : c]!
  const map = (scale: (c: number) => number, shift: (c: number) => number) => ({
    input,
    scale: Float64Array.from({ length: channels }, (_, c) => scale(c)),
    shift: Float64Array.from({ length: channels }, (_, c) => shift(c)),
  })
  if (each.op === 'Mul') return map(of, () => 0)
  if (each.op === 'Add') return map(() => 1, of)
  if (each.op === 'Sub')
    return first
      ? map(() => -1, of)
      : map(
          () => 1,
          (c) => -of(c),
        )
  return first
    ? undefined
    : map(
        (c) => 1 / of(c),
        () => 0,
      )
}

function isPerChannel(dims: readonly number[], rank: number, channels: number): boolean {
  if (dims.length > rank) return false
  const padded = [...Array<number>(rank - dims.length).fill(1), ...dims]
  return padded.every((dim, axis) => dim === 1 || (axis === 1 && dim === channels))
}

/** A layer that multiplies by constants and adds a constant or nothing. */
function isLayer(each: Node, graph: Graph): boolean {
  const constant = (index: number) =>
    each.inputs[index] === undefined ||
    each.inputs[index] === '' ||
    graph.initializers.get(each.inputs[index]!)?.type === 'float32'
  if (!isOp(each, 'Conv', 'ConvTranspose', 'Gemm') || !graph.initializers.has(each.inputs[1]!)) return false
  if (!constant(1) || !constant(2)) return false
  const bias = graph.initializers.get(each.inputs[2] ?? '')
  if (bias && ![1, outputChannels(each, graph.initializers.get(each.inputs[1]!)!)].includes(bias.data.length))
    return false
  return each.op !== 'Gemm' || (floatAttribute(each, 'alpha', 1) === 1 && floatAttribute(each, 'beta', 1) === 1)
}

function canScaleInput(reader: Node, graph: Graph, { shift }: Affine): boolean {
  if (!isOp(reader, 'Conv') || !isLayer(reader, graph)) return false
  const pads = reader.attributes.pads
  const padded =
    (pads?.kind === 'ints' && pads.value.some((pad) => pad !== 0)) ||
    !['NOTSET', 'VALID'].includes(stringAttribute(reader, 'auto_pad', 'NOTSET'))
  return !padded || shift.every((value) => value === 0)
}

/** One pass of changes over a graph; readers are counted once, at its start, so a changed node is not read again in it. */
class Edit {
  readonly touched = new Set<string>()
  readonly #graph: Graph
  readonly #nodes = new Map<string, Node>()
  readonly #makers = new Map<string, Node>()
  readonly #readers = new Map<string, Node[]>()
  readonly #uses = new Map<string, number>()
  readonly #ends: ReadonlySet<string>
  readonly #initializers: Map<string, Tensor>
  readonly #bypassed = new Map<string, string>()
  readonly #fresh: (wish: string) => string

  constructor(graph: Graph) {
    this.#graph = graph
    this.#initializers = new Map(graph.initializers)
    this.#ends = new Set(graph.outputs.map(({ name }) => name))
    this.#fresh = freshNames(graph)
    for (const each of graph.nodes) {
      this.#nodes.set(each.name, each)
      for (const output of each.outputs) this.#makers.set(output, each)
      for (const value of valuesRead(each)) {
        this.#readers.set(value, [...(this.#readers.get(value) ?? []), each])
        this.#uses.set(value, (this.#uses.get(value) ?? 0) + 1)
      }
    }
  }

  onlyReader(value: string): Node | undefined {
    const readers = this.#readers.get(value) ?? []
    const only = readers.length === 1 && this.#uses.get(value) === 1 && !this.#ends.has(value) ? readers[0] : undefined
    return only && !this.touched.has(only.name) && only.inputs[0] === value ? only : undefined
  }

  /** Whether all layers behind a value can take a factor and a summand, and nothing else reads what they make. */
  canAbsorb(value: string): boolean {
    const maker = this.#makers.get(value)
    if (!maker || this.touched.has(maker.name) || this.#uses.get(value) !== 1 || this.#ends.has(value)) return false
    if (isLayer(maker, this.#graph)) return true
    if (isOp(maker, 'Concat') && intAttribute(maker, 'axis', 1) === 1)
      return maker.inputs.every((input) => this.canAbsorb(input))
    if (isOp(maker, 'Add')) return maker.inputs.every((input) => this.canAbsorb(input)) && this.#sameWidth(maker)
    return false
  }

  /** Layers that an addition broadcasts cannot all take the same factors. */
  #sameWidth(add: Node): boolean {
    const width = (value: string): number | undefined => {
      const maker = this.#makers.get(value)!
      if (isOp(maker, 'Concat')) return maker.inputs.reduce((sum, input) => sum + (width(input) ?? Number.NaN), 0)
      if (isOp(maker, 'Add')) return width(maker.inputs[0]!)
      return outputChannels(maker, this.#graph.initializers.get(maker.inputs[1]!)!)
    }
    return width(add.inputs[0]!) === width(add.inputs[1]!)
  }

  absorb(value: string, { scale, shift }: Affine): number {
    const maker = this.#makers.get(value)!
    this.touched.add(maker.name)
    if (isOp(maker, 'Concat')) {
      let from = 0
      for (const input of maker.inputs)
        from += this.absorb(input, { scale: scale.subarray(from), shift: shift.subarray(from) })
      return from
    }
    if (isOp(maker, 'Add')) {
      this.absorb(maker.inputs[0]!, { scale, shift })
      return this.absorb(maker.inputs[1]!, { scale, shift: new Float64Array(shift.length) })
    }
    return this.#scaleOutput(maker, scale, shift)
  }

  #scaleOutput(layer: Node, scale: Float64Array, shift: Float64Array): number {
    const weight = this.#initializers.get(layer.inputs[1]!) as Tensor<'float32'>
    const channels = outputChannels(layer, weight)
    const channelOf = outputChannelOf(layer, weight)
    const scaled = Float32Array.from(weight.data, (value, index) => value * scale[channelOf(index)]!)
    const bias = this.#initializers.get(layer.inputs[2] ?? '') as Tensor<'float32'> | undefined
    const before = (c: number) => (bias ? bias.data[bias.data.length === 1 ? 0 : c]! : 0)
    const shifted = Float32Array.from({ length: channels }, (_, c) => before(c) * scale[c]! + shift[c]!)
    this.#replaceWeights(layer, floats(weight.dims, scaled), floats([channels], shifted))
    return channels
  }

  scaleInput(layer: Node, { scale, shift }: Affine): void {
    this.touched.add(layer.name)
    const weight = this.#initializers.get(layer.inputs[1]!) as Tensor<'float32'>
    const [outputs, perGroup] = weight.dims as [number, number]
    const area = weight.data.length / outputs / perGroup
    const group = outputs / intAttribute(layer, 'group', 1)
    const bias = this.#initializers.get(layer.inputs[2] ?? '') as Tensor<'float32'> | undefined
    const sums = Float64Array.from({ length: outputs }, (_, o) => bias?.data[o] ?? 0)
    const scaled = Float32Array.from(weight.data, (value, index) => {
      const output = Math.floor(index / area / perGroup)
      const input = Math.floor(output / group) * perGroup + (Math.floor(index / area) % perGroup)
      sums[output]! += value * shift[input]!
      return value * scale[input]!
    })
    this.#replaceWeights(layer, floats(weight.dims, scaled), floats([outputs], Float32Array.from(sums)))
  }

  #replaceWeights(layer: Node, weight: Tensor, bias: Tensor): void {
    const name = (index: number, wish: string) => {
      const own = layer.inputs[index]
      const free = own !== undefined && own !== '' && this.#uses.get(own) === 1
      return free ? own : this.#fresh(wish)
    }
    const [weightName, biasName] = [name(1, `${layer.outputs[0]}_weight`), name(2, `${layer.outputs[0]}_bias`)]
    this.#initializers.set(weightName, weight)
    this.#initializers.set(biasName, bias)
    this.#nodes.set(layer.name, { ...layer, inputs: [layer.inputs[0]!, weightName, biasName] })
  }

  /** Takes out a node that has been folded away. */
  bypass(folded: Node, input: string): void {
    this.touched.add(folded.name)
    this.#nodes.delete(folded.name)
    this.#bypassed.set(folded.outputs[0]!, input)
  }

  result(): Graph | undefined {
    if (this.#bypassed.size === 0) return undefined
    const nodes = [...this.#nodes.values()]
    // The folded node's value lives on under its own name, made by what was before it: it may be an output of the graph.
    const renamed = new Map<string, string>()
    const replaced = new Map<string, string>()
    for (const [output, input] of this.#bypassed) {
      if (this.#uses.get(input) === 1 && this.#makers.has(input) && !this.#ends.has(input)) renamed.set(input, output)
      else replaced.set(output, input)
    }
    const reading = (value: string) => renamed.get(replaced.get(value) ?? value) ?? replaced.get(value) ?? value
    return removeDead({
      ...this.#graph,
      initializers: this.#initializers,
      nodes: nodes.map((each) => ({
        ...each,
        inputs: each.inputs.map(reading),
        outputs: each.outputs.map((output) => renamed.get(output) ?? output),
      })),
    })
  }
}

function outputChannels(layer: Node, weight: Tensor): number {
  if (layer.op === 'Conv') return weight.dims[0]!
  if (layer.op === 'ConvTranspose') return weight.dims[1]! * intAttribute(layer, 'group', 1)
  return weight.dims[intAttribute(layer, 'transB', 0) === 1 ? 0 : 1]!
}

/** The output channel to which an element of the weights contributes. */
function outputChannelOf(layer: Node, weight: Tensor): (index: number) => number {
  const [first, second] = weight.dims as [number, number]
  const area = weight.data.length / first / second
  if (layer.op === 'Conv') return (index) => Math.floor(index / area / second)
  if (layer.op === 'ConvTranspose') {
    const perGroup = first / intAttribute(layer, 'group', 1)
    return (index) =>
      Math.floor(Math.floor(index / area / second) / perGroup) * second + (Math.floor(index / area) % second)
  }
  return intAttribute(layer, 'transB', 0) === 1 ? (index) => Math.floor(index / second) : (index) => index % second
}

/** BatchNormalization that no layer could take, as a product and a sum. */
function splitRest(graph: Graph, shapes: Shapes): Graph {
  const initializers = new Map(graph.initializers)
  const fresh = freshNames(graph)
  const nodes = graph.nodes.flatMap((each): readonly Node[] => {
    const affine = isOp(each, 'BatchNormalization') ? affineOf(each, graph, shapes) : undefined
    const rank = shapes.get(each.inputs[0] ?? '')?.length
    if (!affine || !rank) return [each]
    const dims = [affine.scale.length, ...Array<number>(rank - 2).fill(1)]
    const [scale, shift, scaled] = ['scale', 'shift', 'scaled'].map((what) => fresh(`${each.outputs[0]}_${what}`)) as [
      string,
      string,
      string,
    ]
    initializers.set(scale, floats(dims, Float32Array.from(affine.scale)))
    initializers.set(shift, floats(dims, Float32Array.from(affine.shift)))
    return [
      node('Mul', [affine.input, scale], [scaled]),
      { ...node('Add', [scaled, shift], [each.outputs[0]!]), name: each.name },
    ]
  })
  return removeDead({ ...graph, nodes, initializers })
}
