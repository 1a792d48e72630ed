import { type Graph, isOp, type Model, type Node } from '../onnx/index.ts'
import { floats, type Tensor } from '../tensor/index.ts'
import type { Samples } from './block.ts'
import { gatherColumns, Rows, resized } from './columns.ts'
import { outputAxis } from './layer-weights.ts'
import { type LinearAlgebra, solveSymmetric } from './linear.ts'
import { record } from './record.ts'
import { addPixels, centre, type LayerReference } from './reference.ts'

/** Weight of staying near the present weights, as a fraction of the mean diagonal of the Gram matrix. */
const RIDGE = 1e-4
/** Rows for each unknown from which on that weight is right without looking. */
const AMPLE_ROWS = 8
const RIDGES = [1e-3, 1e-2, 0.1, 1, 10] as const
const HELD_OUT = 0.25

/**
 * Solves the weights of changed layers again, one after the other in graph order, so that on the inputs which the changed
 * block really delivers they give what the original layers gave:
 *
 *   min Σ ‖W′x̃ + b′ − y‖² + λ‖W′ − W‖²,  λ = RIDGE · mean diagonal
 *
 * Where a layer ends a residual branch, the target also makes up for the error that has come down the shortcut.
 *
 * @param student the changed block; values have the names that they have in the original
 * @param keptOutputs for a layer, the output channels of the original that the student still has (undefined: all)
 * @see arXiv 1707.06168 (least-squares reconstruction after channel pruning)
 */
export async function refit(
  student: Model,
  samples: Samples,
  references: readonly LayerReference[],
  keptOutputs: (value: string) => readonly number[] | undefined,
  algebra: LinearAlgebra,
): Promise<Model> {
  let current = student
  for (const reference of references) {
    current = await refitLayer(current, samples, reference, keptOutputs(reference.output), algebra)
  }
  return current
}

async function refitLayer(
  student: Model,
  samples: Samples,
  { output, input, shape: original, positions, outputWidth, shortcut, targets }: LayerReference,
  kept: readonly number[] | undefined,
  algebra: LinearAlgebra,
): Promise<Model> {
  const layer = student.graph.nodes.find((node) => node.outputs[0] === output)
  if (!layer) return student
  const { dims } = student.graph.initializers.get(layer.inputs[1]!)!
  const shape = resized(original, dims, isOp(layer, 'Conv'), outputAxis(layer))
  const x = new Rows(targets.rows, shape.columnLength)
  const y = selectColumns(targets, kept)
  let first = 0
  await record(student, samples, [input, ...(shortcut ? [shortcut] : [])], (values, index) => {
    const at = positions[index]!
    gatherColumns(x, values[input]!, shape, at, outputWidth)
    first += at.length
    y.rows = first
    if (shortcut) addPixels(y, values[shortcut]!.data as Float32Array, at, -1)
  })
  const meanX = centre(x)
  const meanY = centre(y)
  const d = shape.columnLength
  const o = shape.outputChannels
  const weights = weightsOf(layer, student.graph, o, d)
  const ridge = x.rows >= AMPLE_ROWS * d ? RIDGE : await chooseRidge(x, y, weights, algebra)
  const solved = ridge === undefined ? undefined : await solve(x.filled, y.filled, x.rows, weights, ridge, algebra)
  const refitted = new Float32Array(o * d)
  const bias = new Float32Array(o)
  for (let k = 0; k < o; k++) {
    let offset = meanY[k]!
    for (let i = 0; i < d; i++) {
      const w = solved ? solved[i * o + k]! : weights[k * d + i]!
      refitted[k * d + i] = w
      offset -= w * meanX[i]!
    }
    bias[k] = offset
  }
  return withWeights(student, layer, refitted, bias, o, d)
}

/**
 * Weights `[D, outputs]` from centred rows; undefined where they cannot be told.
 *
 * @param weights `[outputs, D]`, near which the solution stays
 */
export async function solve(
  x: Float32Array,
  y: Float32Array,
  rows: number,
  weights: Float32Array,
  ridge: number,
  algebra: LinearAlgebra,
): Promise<Float64Array | undefined> {
  const d = x.length / rows
  const o = y.length / rows
  const gram = await algebra.transposedProduct(x, x, rows)
  const cross = await algebra.transposedProduct(x, y, rows)
  let trace = 0
  for (let i = 0; i < d; i++) trace += gram[i * d + i]!
  const weight = (ridge * trace) / d + 1e-9
  const left = Float64Array.from(gram)
  const right = Float64Array.from(cross)
  for (let i = 0; i < d; i++) {
    left[i * d + i]! += weight
    for (let k = 0; k < o; k++) right[i * o + k]! += weight * weights[k * d + i]!
  }
  return solveSymmetric(left, right, d)
}

/**
 * With few rows for the unknowns (a last matrix sees one row a picture) the fit follows the pictures and not the network.
 * So the ridge is chosen on rows that were held out of the fit.
 *
 * @returns undefined where keeping the weights, and correcting the bias alone, is best
 */
async function chooseRidge(
  x: Rows,
  y: Rows,
  weights: Float32Array,
  algebra: LinearAlgebra,
): Promise<number | undefined> {
  const fitted = Math.floor(x.rows * (1 - HELD_OUT))
  const heldOut = (solution: ArrayLike<number>, step: readonly [number, number]) => {
    let error = 0
    for (let r = fitted; r < x.rows; r++) {
      for (let k = 0; k < y.width; k++) {
        let sum = -y.data[r * y.width + k]!
        for (let i = 0; i < x.width; i++) sum += x.data[r * x.width + i]! * solution[i * step[0] + k * step[1]]!
        error += sum * sum
      }
    }
    return error
  }
  let best: number | undefined
  let least = heldOut(weights, [1, x.width])
  const [fitX, fitY] = [x.data.subarray(0, fitted * x.width), y.data.subarray(0, fitted * y.width)]
  for (const ridge of RIDGES) {
    const solution = await solve(fitX, fitY, fitted, weights, ridge, algebra)
    const error = solution ? heldOut(solution, [y.width, 1]) : Number.POSITIVE_INFINITY
    if (error < least) {
      least = error
      best = ridge
    }
  }
  return best
}

function selectColumns(rows: Rows, kept: readonly number[] | undefined): Rows {
  const width = kept?.length ?? rows.width
  const result = new Rows(rows.rows, width)
  for (let r = 0; r < rows.rows; r++) {
    for (let c = 0; c < width; c++) result.data[r * width + c] = rows.data[r * rows.width + (kept ? kept[c]! : c)]!
  }
  return result
}

/** A layer's weights as `[outputs, columnLength]`. */
export function weightsOf(layer: Node, graph: Graph, outputs: number, columnLength: number): Float32Array {
  const { data } = graph.initializers.get(layer.inputs[1]!) as Tensor<'float32'>
  if (isOp(layer, 'Conv') || isTransposed(layer)) return data
  return transpose(data, columnLength, outputs)
}

/** Puts weights `[outputs, columnLength]` and a bias in place of a layer's own. */
export function withWeights(
  model: Model,
  layer: Node,
  weights: Float32Array,
  bias: Float32Array,
  outputs: number,
  columnLength: number,
): Model {
  const initializers = new Map(model.graph.initializers)
  const [input = '', oldWeights = '', oldBias = ''] = layer.inputs
  const output = layer.outputs[0]!
  const dims = initializers.get(oldWeights)!.dims
  const plain = isOp(layer, 'Conv') || isTransposed(layer)
  const weightName = `${output}/weights`
  const biasName = `${output}/bias`
  initializers.set(weightName, floats(dims, plain ? weights : transpose(weights, outputs, columnLength)))
  initializers.set(biasName, floats([outputs], bias))
  const changed: Node = isOp(layer, 'MatMul')
    ? { ...layer, op: 'Gemm', inputs: [input, weightName, biasName] }
    : { ...layer, inputs: [input, weightName, biasName] }
  const nodes = model.graph.nodes.map((node) => (node === layer ? changed : node))
  const read = new Set(nodes.flatMap((node) => node.inputs))
  for (const old of [oldWeights, oldBias]) if (!read.has(old)) initializers.delete(old)
  return { ...model, graph: { ...model.graph, nodes, initializers } }
}

const isTransposed = (layer: Node): boolean =>
  layer.attributes.transB?.kind === 'int' && layer.attributes.transB.value === 1

/** `[rows, columns]` to `[columns, rows]`. */
export function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(data.length)
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) result[c * rows + r] = data[r * columns + c]!
  return result
}
