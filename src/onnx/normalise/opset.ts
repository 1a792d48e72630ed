import { floats, longs, type Tensor } from '../../tensor/index.ts'
import {
  type Attributes,
  floatAttribute,
  type Graph,
  int,
  intAttribute,
  intsAttribute,
  type Model,
  type Node,
  node,
  string,
  stringAttribute,
  subgraphs,
} from '../graph.ts'
import { freshNames, withGraph } from '../rewrite.ts'

/** The operator set that everything after works with: from it on, DequantizeLinear knows channels. */
export const OPSET = 13

type Shapes = (value: string) => readonly number[] | undefined

interface Context {
  readonly from: number
  readonly shapeOf: Shapes
  /** stores a constant and gives its name */
  readonly constant: (wish: string, value: Tensor) => string
  readonly value: (wish: string) => string
}

/** What stands for the node in operator set 13, or why that cannot be said. */
type Converter = (node: Node, context: Context) => readonly Node[] | string

/**
 * Rewrites a model of an older operator set in version 13; a newer one stays as it is.
 *
 * @param shapeOf recorded shapes of the values of this model
 * @returns the model, unchanged when some node cannot be converted, and then the reason
 */
export function convertOpset(model: Model, shapeOf: Shapes): { model: Model; note?: string } {
  const from = model.opsets.get('') ?? 1
  if (from >= OPSET) return { model }
  const stays = (why: string) => ({ model, note: `operator set ${from} is kept: ${why}` })
  if (from < 7) return stays('operators of sets before 7 broadcast differently')
  const initializers = new Map(model.graph.initializers)
  const value = freshNames(model.graph)
  const context: Context = {
    from,
    shapeOf,
    value,
    constant(wish, tensor) {
      const name = value(wish)
      initializers.set(name, tensor)
      return name
    },
  }
  const nodes: Node[] = []
  for (const each of model.graph.nodes) {
    if (each.domain !== '') {
      nodes.push(each)
      continue
    }
    if (subgraphs(each).length > 0) return stays(`${each.op} (${each.name}) holds graphs of its own`)
    const converted = converters[each.op]?.(each, context) ?? [each]
    if (typeof converted === 'string') return stays(`${each.op} (${each.name}): ${converted}`)
    nodes.push(...converted)
  }
  const graph: Graph = { ...model.graph, nodes, initializers }
  return {
    model: {
      ...withGraph(model, graph),
      opsets: new Map([...model.opsets, ['', OPSET]]),
      irVersion: Math.max(model.irVersion, 7),
    },
  }
}

const converters: Readonly<Record<string, Converter>> = {
  BatchNormalization: (each) =>
    intAttribute(each, 'spatial', 1) === 0
      ? 'it normalises each position by itself'
      : [{ ...each, attributes: without(each.attributes, 'spatial'), outputs: each.outputs.slice(0, 1) }],
  Clip: (each, { from, constant }) => {
    if (from >= 11) return [each]
    const bound = (name: 'min' | 'max') =>
      each.attributes[name] ? constant(`${each.outputs[0]}_${name}`, floats([], [floatAttribute(each, name, 0)])) : ''
    return [{ ...each, inputs: trimmed([each.inputs[0]!, bound('min'), bound('max')]), attributes: {} }]
  },
  Dropout: (each, { from }) =>
    from < 12 && each.outputs.length > 1
      ? 'its mask is used'
      : [{ ...each, attributes: without(each.attributes, 'ratio') }],
  Hardmax: (each, context) => onLastAxis(each, context),
  LogSoftmax: (each, context) => onLastAxis(each, context),
  Softmax: (each, context) => onLastAxis(each, context),
  Pad: (each, { from, constant }) => {
    if (from >= 11) return [each]
    const pads = constant(`${each.outputs[0]}_pads`, longs(intsAttribute(each, 'pads') ?? []))
    const fill = constant(`${each.outputs[0]}_value`, floats([], [floatAttribute(each, 'value', 0)]))
    return [{ ...each, inputs: [each.inputs[0]!, pads, fill], attributes: without(each.attributes, 'pads', 'value') }]
  },
  ReduceSum: (each, context) => axesAsInput(each, context),
  Squeeze: (each, context) => axesAsInput(each, context),
  Unsqueeze: (each, context) => axesAsInput(each, context),
  Resize: (each, { from }) => (from >= 11 ? [each] : [asResize(each, each.inputs[1]!)]),
  Upsample: (each, { constant }) => {
    const scales = each.attributes.scales
    if (scales?.kind !== 'floats') return [asResize(each, each.inputs[1]!)]
    return [asResize(each, constant(`${each.outputs[0]}_scales`, floats([scales.value.length], scales.value)))]
  },
  Scatter: (each) => [{ ...each, op: 'ScatterElements' }],
  Slice: (each, { from, constant }) => {
    if (from >= 10) return [each]
    const [starts, ends, axes] = ['starts', 'ends', 'axes'].map((name) => intsAttribute(each, name))
    const inputs = [each.inputs[0]!]
    inputs.push(constant(`${each.outputs[0]}_starts`, longs(starts ?? [])))
    inputs.push(constant(`${each.outputs[0]}_ends`, longs(ends ?? [])))
    if (axes) inputs.push(constant(`${each.outputs[0]}_axes`, longs(axes)))
    return [{ ...each, inputs, attributes: {} }]
  },
  Split: (each, { constant }) => {
    const sizes = intsAttribute(each, 'split')
    if (!sizes) return [each]
    const split = constant(`${each.outputs[0]}_split`, longs(sizes))
    return [{ ...each, inputs: [each.inputs[0]!, split], attributes: without(each.attributes, 'split') }]
  },
  TopK: (each, { from, constant }) => {
    if (from >= 10) return [each]
    const k = constant(`${each.outputs[0]}_k`, longs([intAttribute(each, 'k', 1)]))
    return [{ ...each, inputs: [each.inputs[0]!, k], attributes: without(each.attributes, 'k') }]
  },
}

function without(attributes: Attributes, ...names: readonly string[]): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([name]) => !names.includes(name)))
}

function trimmed(inputs: readonly string[]): string[] {
  const last = inputs.findLastIndex((input) => input !== '')
  return inputs.slice(0, last + 1)
}

function axesAsInput(each: Node, { constant }: Context): readonly Node[] {
  const axes = intsAttribute(each, 'axes')
  if (!axes) return [each]
  const name = constant(`${each.outputs[0]}_axes`, longs(axes))
  return [{ ...each, inputs: [each.inputs[0]!, name], attributes: without(each.attributes, 'axes') }]
}

/** Before version 11 there was one way to map positions: output / scale, rounded down. */
function asResize(each: Node, scales: string): Node {
  const mode = stringAttribute(each, 'mode', 'nearest')
  return {
    ...each,
    op: 'Resize',
    inputs: [each.inputs[0]!, '', scales],
    attributes: {
      mode: string(mode === 'bilinear' ? 'linear' : mode),
      coordinate_transformation_mode: string('asymmetric'),
      nearest_mode: string('floor'),
    },
  }
}

/** Before version 13 Softmax and its like took everything from `axis` on as one; now they take one axis. */
function onLastAxis(each: Node, { shapeOf, value, constant }: Context): readonly Node[] | string {
  const shape = shapeOf(each.inputs[0]!)
  if (!shape) return 'the shape of its input is not known'
  const given = intAttribute(each, 'axis', 1)
  const axis = given < 0 ? given + shape.length : given
  const wide = shape.map((size, index) => (index >= axis && size !== 1 ? index : -1)).filter((index) => index >= 0)
  if (wide.length <= 1) return [{ ...each, attributes: { axis: int(wide[0] ?? axis) } }]
  const [input, output] = [each.inputs[0]!, each.outputs[0]!]
  const [sizes, flat, done] = [value(`${output}_shape`), value(`${output}_flat`), value(`${output}_done`)]
  const target = constant(`${output}_target`, longs([...shape.slice(0, axis).map(() => 0), -1]))
  return [
    node('Shape', [input], [sizes]),
    node('Reshape', [input, target], [flat]),
    { ...node(each.op, [flat], [done], { axis: int(axis) }), name: each.name },
    { ...node('Reshape', [done, sizes], [output]), name: `${each.name}_restored` },
  ]
}
