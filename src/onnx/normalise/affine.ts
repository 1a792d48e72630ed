import { floats, isFloat } from '../../tensor/index.ts'
import { floatAttribute, type Graph, intAttribute, isOp, type Model, type Node, node } from '../graph.ts'
import { freshNames, removeDead, withGraph } from '../rewrite.ts'
import { type Affine, canScaleInput, LayerEdit } from './layer-edit.ts'

type Shapes = ReadonlyMap<string, readonly number[]>

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
  const edit = new LayerEdit(graph)
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
