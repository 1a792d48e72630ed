import { type Graph, isOp, type Model, type Node } from '../onnx/index.ts'
import { floats, type Tensor } from '../tensor/index.ts'
import type { Samples } from './block.ts'
import { gatherColumns, Rows, resized } from './columns.ts'
import { outputAxis } from './layer-weights.ts'
import { type LinearAlgebra, solveSymmetric } from './linear.ts'
import { record } from './record.ts'
import { addPixels, centre, type LayerTarget } from './reference.ts'

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
  references: readonly LayerTarget[],
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
  { output, input, shape: original, positions, outputWidth, shortcut, targets }: LayerTarget,
  kept: readonly number[] | undefined,
  algebra: LinearAlgebra,
): Promise<Model> {
  const layer = student.graph.nodes.find((node) => node.outputs[0] === output)
  if (!layer) return student
  const { dims } = student.graph.initializers.get(layer.inputs[1]!)!
  const shape = resized(original, layer, dims, outputAxis(layer))
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
  const solved = await solveRows(x, y, weights, algebra)
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
 * Weights `[D, outputs]` from centred rows, near the given ones `[outputs, D]`.
 *
 * With few rows for the unknowns (a last matrix sees one row a picture) the fit follows the pictures and not the network.
 * So the ridge is then chosen on rows that were held out of the fit.
 *
 * @returns undefined where keeping the weights, and correcting the bias alone, is best
 */
export async function solveRows(
  x: Rows,
  y: Rows,
  weights: Float32Array,
  algebra: LinearAlgebra,
): Promise<ArrayLike<number> | undefined> {
  const d = x.width
  if (x.rows >= AMPLE_ROWS * d) {
    return solve(x.filled, y.filled, x.rows, weights, RIDGE, algebra)
  }
  const residual = residualOf(x, y, weights)
  const fitted = Math.floor(x.rows * (1 - HELD_OUT))
  const [fitX, heldX] = [x.data.subarray(0, fitted * d), x.data.subarray(fitted * d, x.rows * d)]
  const [fitR, heldR] = [residual.subarray(0, fitted * y.width), residual.subarray(fitted * y.width)]
  const held = x.rows - fitted
  let best: { ridge: number; error: number } | undefined
  const asTheyAre = squared(heldR)
  const solver =
    fitted <= d ? await dualSolver(fitX, fitR, fitted, algebra) : await primalSolver(fitX, fitR, fitted, algebra)
  for (const ridge of RIDGES) {
    const change = await solver(ridge)
    if (!change) continue
    const given = await algebra.transposedProduct(transpose(heldX, held, d), change, d)
    let error = 0
    for (let i = 0; i < heldR.length; i++) error += (heldR[i]! - given[i]!) ** 2
    if (error < (best?.error ?? asTheyAre)) best = { ridge, error }
  }
  if (!best) return undefined
  const whole =
    x.rows <= d
      ? await dualSolver(x.filled, residual, x.rows, algebra)
      : await primalSolver(x.filled, residual, x.rows, algebra)
  const change = await whole(best.ridge)
  if (!change) return undefined
  for (let i = 0; i < d; i++) for (let k = 0; k < y.width; k++) change[i * y.width + k]! += weights[k * d + i]!
  return change
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
  return solvePrimal(await momentsOf(x, y, rows, algebra), weights, ridge, x.length / rows, y.length / rows)
}

interface Moments {
  readonly gram: Float32Array
  readonly cross: Float32Array
}

async function momentsOf(x: Float32Array, y: Float32Array, rows: number, algebra: LinearAlgebra): Promise<Moments> {
  return {
    gram: await algebra.transposedProduct(x, x, rows),
    cross: await algebra.transposedProduct(x, y, rows),
  }
}

function solvePrimal(
  { gram, cross }: Moments,
  weights: Float32Array | undefined,
  ridge: number,
  d: number,
  o: number,
): Float64Array | undefined {
  const weight = (ridge * trace(gram, d)) / d + 1e-9
  const left = Float64Array.from(gram)
  const right = Float64Array.from(cross)
  for (let i = 0; i < d; i++) {
    left[i * d + i]! += weight
    if (weights) for (let k = 0; k < o; k++) right[i * o + k]! += weight * weights[k * d + i]!
  }
  return solveSymmetric(left, right, d)
}

/** Gives, for a ridge, the change of the weights `[D, outputs]` that takes the residual away. */
type ChangeSolver = (ridge: number) => Promise<Float32Array | undefined>

async function primalSolver(
  x: Float32Array,
  residual: Float32Array,
  rows: number,
  algebra: LinearAlgebra,
): Promise<ChangeSolver> {
  const d = x.length / rows
  const moments = await momentsOf(x, residual, rows, algebra)
  return async (ridge) => {
    const change = solvePrimal(moments, undefined, ridge, d, residual.length / rows)
    return change && Float32Array.from(change)
  }
}

/** With fewer rows than unknowns: ΔW = Xᵀ(XXᵀ + λI)⁻¹R, a system of the rows. */
async function dualSolver(
  x: Float32Array,
  residual: Float32Array,
  rows: number,
  algebra: LinearAlgebra,
): Promise<ChangeSolver> {
  const d = x.length / rows
  const across = transpose(x, rows, d)
  const kernel = await algebra.transposedProduct(across, across, d)
  return async (ridge) => {
    const left = Float64Array.from(kernel)
    const weight = (ridge * trace(kernel, rows)) / d + 1e-9
    for (let i = 0; i < rows; i++) left[i * rows + i]! += weight
    const duals = solveSymmetric(left, residual, rows)
    return duals && algebra.transposedProduct(x, Float32Array.from(duals), rows)
  }
}

function trace(matrix: Float32Array, n: number): number {
  let sum = 0
  for (let i = 0; i < n; i++) sum += matrix[i * n + i]!
  return sum
}

const squared = (values: Float32Array): number => values.reduce((sum, value) => sum + value * value, 0)

/** What the present weights leave: `[rows, outputs]`. */
function residualOf(x: Rows, y: Rows, weights: Float32Array): Float32Array {
  const [d, o] = [x.width, y.width]
  const residual = y.filled.slice()
  for (let r = 0; r < x.rows; r++) {
    for (let k = 0; k < o; k++) {
      let sum = 0
      for (let i = 0; i < d; i++) sum += x.data[r * d + i]! * weights[k * d + i]!
      residual[r * o + k]! -= sum
    }
  }
  return residual
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
