import { descendantId } from '../../base/index.ts'
import { check, freshNames, type Graph, int, ints, isOp, type Model, type Node, node } from '../../onnx/index.ts'
import { elementCount, floats } from '../../tensor/index.ts'
import type { Block, Descendant, Samples } from '../block.ts'
import { isConsumer } from '../channels.ts'
import { type Eigen, symmetricEigen } from '../eigen.ts'
import { cholesky, type LinearAlgebra, withRidge } from '../linear.ts'
import { type LayerReference, recordReference, recordTargets } from '../reference.ts'
import { refit, transpose, weightsOf } from '../refit.ts'
import { chooseWidths, type GroupCost } from '../widths.ts'

/** Fractions of the operations of the layers that can be split which are kept. */
export const RANK_LEVELS = [0.65, 0.4] as const
/** Narrower layers gain nothing from a second one; wider ones take minutes to analyse. */
const LEAST_CHANNELS = 32
const MOST_CHANNELS = 1024

interface Split {
  readonly layer: Node
  readonly reference: LayerReference
  readonly weights: Float32Array
  /** directions of the layer's output, the strongest first, as rows */
  readonly directions: Float64Array
  readonly cost: GroupCost
}

/** Looks once at how many directions the output of each dense layer has. */
export async function analyseRanks(block: Block, samples: Samples, algebra: LinearAlgebra): Promise<readonly Split[]> {
  const { graph } = block.model
  const layers = graph.nodes.filter((each) => isConsumer(each, graph) && isSplittable(each, graph))
  const references = await recordReference(
    block,
    samples,
    layers.map((each) => each.outputs[0]!),
    algebra,
  )
  const splits: Split[] = []
  for (const layer of layers) {
    const reference = references.get(layer.outputs[0]!)
    if (!reference) continue
    const { columnLength: d, outputChannels: o } = reference.shape
    const weights = weightsOf(layer, graph, o, d)
    const { values, vectors } = await outputDirections(weights, reference.gram, o, d, algebra)
    const positions = elementCount((block.nominal.get(layer.outputs[0]!) ?? []).slice(2))
    splits.push({
      layer,
      reference,
      weights,
      directions: vectors,
      cost: costOf(values, breakEven(d, o), (d + o) * positions),
    })
  }
  return splits
}

/**
 * Eigenvectors, as rows, of the covariance `W·G·Wᵀ` of a layer's outputs, the strongest first. Where the layer reads fewer
 * channels than it makes, by way of the smaller `LᵀWᵀ·W·L` of G = L·Lᵀ, which has the same eigenvalues but for zeros.
 */
async function outputDirections(
  weights: Float32Array,
  gram: Float32Array,
  o: number,
  d: number,
  algebra: LinearAlgebra,
): Promise<Eigen> {
  // Channels that say the same make moments that are not positive definite, by rounding.
  const factor = d < o ? cholesky(withRidge(gram, d, 1e-7), d) : undefined
  if (!factor) {
    const projected = await algebra.transposedProduct(gram, transpose(weights, o, d), d)
    return symmetricEigen(await algebra.transposedProduct(transpose(weights, o, d), projected, d), o)
  }
  const half = await algebra.product(weights, Float32Array.from(factor), d)
  const { values, vectors } = symmetricEigen(await algebra.transposedProduct(half, half, o), d)
  const outputs = await algebra.product(Float32Array.from(vectors), transpose(half, o, d), d)
  const unit = Float64Array.from(outputs)
  for (let r = 0; r < d; r++) {
    const row = unit.subarray(r * o, (r + 1) * o)
    const length = Math.hypot(...row)
    for (let k = 0; k < o; k++) row[k] = length > 0 ? row[k]! / length : 0
  }
  return { values, vectors: unit }
}

const isSplittable = (layer: Node, graph: Graph): boolean => {
  const { dims } = graph.initializers.get(layer.inputs[1]!)!
  const [a = 0, b = 0] = dims
  return (
    Math.min(a, b) >= LEAST_CHANNELS &&
    Math.max(a, b) <= (isOp(layer, 'Conv') ? MOST_CHANNELS : 2 * MOST_CHANNELS) &&
    outputsOf(layer, a, b) <= MOST_CHANNELS
  )
}

const outputsOf = (layer: Node, a: number, b: number): number =>
  isOp(layer, 'Conv') || (layer.attributes.transB?.kind === 'int' && layer.attributes.transB.value === 1) ? a : b

/** The rank above which two layers cost more than one. */
const breakEven = (d: number, o: number): number => Math.floor((d * o) / (d + o))

/** Ranks as widths: `size` stands for the layer as it is, which loses nothing. */
function costOf(values: Float64Array, size: number, macsPerChannel: number): GroupCost {
  const total = values.reduce((sum, value) => sum + Math.max(0, value), 0) || 1
  const tail = new Float64Array(values.length + 1)
  for (let r = values.length - 1; r >= 0; r--) tail[r] = tail[r + 1]! + Math.max(0, values[r]!) / total
  const loss = Array.from({ length: size + 1 }, (_, removed) => (removed === 0 ? 0 : tail[size - removed]!))
  return { size, macsPerChannel, ranking: { order: [], loss } }
}

/**
 * Splits dense layers in two: the first gives the strongest directions of the layer's output on real inputs, the second,
 * 1×1, brings them back and is solved by least squares on what the changed block delivers.
 *
 * @param keep fraction of the operations of the layers that can be split, in (0, 1); each layer takes its share by sensitivity
 * @returns undefined where no layer gains from it
 * @see Zhang et al., arXiv 1505.06798 (response reconstruction by channel decomposition)
 */
export async function lowRank(
  block: Block,
  samples: Samples,
  splits: readonly Split[],
  keep: number,
  algebra: LinearAlgebra,
): Promise<Descendant | undefined> {
  const ranks = chooseWidths(
    splits.map(({ cost }) => cost),
    keep,
  )
  const taken = splits.filter(({ cost }, index) => ranks[index]! < cost.size)
  if (taken.length === 0) return undefined
  let model = block.model
  for (const split of taken) model = splitLayer(model, split, ranks[splits.indexOf(split)]!)
  const wanted = taken.map(({ reference: { output, shape } }) => {
    const rank = ranks[splits.findIndex(({ reference }) => reference.output === output)]!
    const pixels = { kernel: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0, 0] } as const
    const second = { ...shape, ...pixels, inputChannels: rank, columnLength: rank }
    return { output, input: directionsOf(output), shape: second }
  })
  const targets = await recordTargets(block, samples, wanted)
  return {
    block: block.id,
    id: descendantId(`rank${Math.round(100 * keep)}`),
    kind: 'low-rank',
    parameters: {
      keep,
      layers: taken.map(({ layer }) => layer.outputs[0]!).join(' '),
      ranks: taken.map((split) => ranks[splits.indexOf(split)]!).join(' '),
    },
    model: await refit(model, samples, targets, () => undefined, algebra),
    added: new Map(
      wanted.map(({ input, output, shape }) => {
        const [batch = 1, , ...plane] = block.nominal.get(output) ?? []
        return [input, [batch, shape.inputChannels, ...plane]]
      }),
    ),
  }
}

const directionsOf = (output: string): string => `${output}/directions`

function splitLayer(model: Model, { layer, reference, weights, directions }: Split, rank: number): Model {
  const { columnLength: d, outputChannels: o } = reference.shape
  const output = layer.outputs[0]!
  const first = new Float32Array(rank * d)
  const second = new Float32Array(o * rank)
  for (let r = 0; r < rank; r++) {
    for (let k = 0; k < o; k++) {
      const u = directions[r * o + k]!
      second[k * rank + r] = u
      if (u !== 0) for (let i = 0; i < d; i++) first[r * d + i]! += u * weights[k * d + i]!
    }
  }
  const initializers = new Map(model.graph.initializers)
  const fresh = freshNames(model.graph)
  const constant = (wish: string, dims: readonly number[], data: Float32Array) => {
    const name = fresh(wish)
    initializers.set(name, floats(dims, data))
    return name
  }
  const middle = directionsOf(output)
  const bias = layer.inputs[2] ? [layer.inputs[2]] : []
  const conv = isOp(layer, 'Conv')
  const dims = model.graph.initializers.get(layer.inputs[1]!)!.dims
  const pair = conv
    ? [
        {
          ...node('Conv', [layer.inputs[0]!, constant(`${output}/down`, [rank, ...dims.slice(1)], first)], [middle]),
          attributes: layer.attributes,
        },
        node('Conv', [middle, constant(`${output}/up`, [o, rank, 1, 1], second), ...bias], [output], {
          kernel_shape: ints([1, 1]),
        }),
      ]
    : [
        node('Gemm', [layer.inputs[0]!, constant(`${output}/down`, [rank, d], first)], [middle], { transB: int(1) }),
        node('Gemm', [middle, constant(`${output}/up`, [o, rank], second), ...bias], [output], { transB: int(1) }),
      ]
  const nodes = model.graph.nodes.flatMap((each) => (each.outputs[0] === output ? pair : [each]))
  const read = new Set(nodes.flatMap((each) => each.inputs))
  for (const name of [...initializers.keys()]) if (!read.has(name)) initializers.delete(name)
  return check({ ...model, graph: { ...model.graph, nodes, initializers, facts: new Map() } })
}
