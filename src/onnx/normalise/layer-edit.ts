import { floats, type Tensor } from '../../tensor/index.ts'
import { floatAttribute, type Graph, intAttribute, isOp, type Node, stringAttribute, valuesRead } from '../graph.ts'
import { freshNames, removeDead } from '../rewrite.ts'

/** y = scale · x + shift for each channel (axis 1). */
export interface Affine {
  readonly scale: Float64Array
  readonly shift: Float64Array
}

/** One pass of changes over a graph; readers are counted once, at its start, so a changed node is not read again in it. */
export class LayerEdit {
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

export function canScaleInput(reader: Node, graph: Graph, { shift }: Affine): boolean {
  if (!isOp(reader, 'Conv') || !isLayer(reader, graph)) return false
  const pads = reader.attributes.pads
  const padded =
    (pads?.kind === 'ints' && pads.value.some((pad) => pad !== 0)) ||
    !['NOTSET', 'VALID'].includes(stringAttribute(reader, 'auto_pad', 'NOTSET'))
  return !padded || shift.every((value) => value === 0)
}
