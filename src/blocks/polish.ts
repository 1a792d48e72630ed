import type { Model } from '../onnx/index.ts'
import { floats } from '../tensor/index.ts'
import type { Block, Samples, Tensors } from './block.ts'
import { gatherColumns, gatherPixels, Rows, resized } from './columns.ts'
import { outputAxis, readLayer, writeLayer } from './layer-weights.ts'
import type { LinearAlgebra } from './linear.ts'
import { record } from './record.ts'
import { addPixels, centre, pickPositions, type RowRule } from './reference.ts'
import { solve, transpose } from './refit.ts'
import { addedTo, layerOf, type UnitEnd, unitEnds } from './units.ts'

/** A block of a plan: what it was and what was chosen for it. */
export interface ChosenBlock {
  readonly original: Block
  readonly student: Model
}

export interface PolishOptions {
  readonly algebra: LinearAlgebra
  /** pictures at the end of the list that are only measured on */
  readonly heldOut: number
  /** weight of staying near the present weights, as a multiple of the mean diagonal of the Gram matrix; 4 unless given */
  readonly ridge?: number
  /** the last layers alone, or all but them */
  readonly only?: 'head' | 'sequence'
  readonly threads?: number
  /** asked before each layer; when it says no, the rest stays as it is */
  readonly timeLeft?: () => boolean
  readonly onBlock?: (index: number) => void
}

/** What became of one layer. */
export interface PolishedLayer {
  readonly block: string
  readonly layer: string
  readonly took: 'weights' | 'nothing'
  /** error power over signal power at the unit's end on the pictures held out, before and after */
  readonly before: number
  readonly after: number
}

/**
 * Solves again, in the order in which they run, the last layer of each unit of a chosen combination, on the inputs that the chosen
 * blocks before it really deliver, so that it gives what the original gives there: the errors of a combination do not add up.
 *
 * Least squares gives less spread than there was, the more so the worse a layer can follow, and over a network that adds up until the
 * answers fade (Jordan et al., REPAIR, ICLR 2023, have it for averaged networks). So each channel is stretched half of the way back to
 * the spread of the original: all of the way would stretch what is only error. Without it the refit makes MobileNetV2 worse where it is
 * pruned a lot; with it, it gains several points.
 *
 * Blocks that were not pruned stay as they are: their errors are rounding, and layers fitted to the errors of the blocks before them double
 * the divergence of MobileNetV2 on pictures held out. Of the others a layer stays where its fit is no better there. The
 * last unit and the head stay too: they see one row a picture, and their fit would follow the pictures.
 *
 * @param feeds inputs of the whole model, one picture each; the last `heldOut` of them are not fitted on
 * @returns the blocks' models, in order
 */
export async function polish(
  blocks: readonly ChosenBlock[],
  feeds: Samples,
  options: PolishOptions,
): Promise<{ models: Model[]; layers: PolishedLayer[] }> {
  const ends = blocks.map(({ original, student }) => unitEnds(original, student))
  const all = ends.flat()
  const last = new Set(all.slice(-Math.max(1, Math.min(HEAD, Math.floor(all.length / 4)))))
  const isAsked = (end: UnitEnd) => last.has(end) === (options.only === 'head')
  const models: Model[] = []
  const layers: PolishedLayer[] = []
  let truth: Samples = feeds
  let delivered: Samples = feeds
  let isSame = true
  for (const [index, { original, student }] of blocks.entries()) {
    const isOriginal = student === original.model
    const open = isSame && isOriginal ? [] : ends[index]!.filter(isAsked)
    const targets = await recordTargets(original, truth, open, options)
    let polished = student
    for (const target of targets.units) {
      if (options.timeLeft && !options.timeLeft()) break
      const result = await polishLayer(polished, original, delivered, target, options)
      polished = result.model
      layers.push({ block: original.id, layer: target.end.output, ...result.outcome })
    }
    models.push(polished)
    const needed = new Set(blocks.slice(index + 1).flatMap((later) => later.original.inputs.map(({ name }) => name)))
    isSame &&= isOriginal
    delivered = isSame ? targets.next : await advance(polished, delivered, needed, options)
    truth = isSame ? delivered : targets.next
    truth = truth.map((values) => only(values, needed))
    if (isSame) delivered = truth
    options.onBlock?.(index)
  }
  return { models, layers }
}

/** The classifier, and the last unit before it. */
const HEAD = 2
/** On MobileNetV2 half of it suits plans that are pruned a little, eight times as much those that are pruned a lot. */
const RIDGE = 4
/** How far the spread of what a layer gives is brought back to that of the original: 0 not at all, 1 wholly. */
const SPREAD = 0.5
/** What a channel is stretched or shrunk by at most. */
const MOST_STRETCH = 2
const ROWS: RowRule = { perUnknown: 12, least: 3000, mostBytes: 120e6 }

interface Target {
  readonly end: UnitEnd
  readonly positions: readonly (readonly number[])[]
  /** what the layer, with its shortcut, gives in the original: `[rows, channels]` */
  readonly rows: Rows
}

/** Runs the original block once: what its units give, and what the next blocks get. */
async function recordTargets(
  block: Block,
  samples: Samples,
  ends: readonly UnitEnd[],
  { threads }: PolishOptions,
): Promise<{ units: Target[]; next: Samples }> {
  const units = ends.map((end): Target => {
    const { columnLength, outputChannels } = end.shape
    const width = columnLength + outputChannels
    const layer = { output: end.output, plane: end.positions, columns: columnLength, width, pictures: samples.length }
    const positions = pickPositions(layer, ROWS)
    const count = positions.reduce((sum, { length }) => sum + length, 0)
    return { end, positions, rows: new Rows(count, outputChannels) }
  })
  const outputs = block.outputs.map(({ name }) => name)
  const wanted = ends.flatMap(({ output, shortcut }) => [output, ...(shortcut ? [shortcut] : [])])
  const next: Tensors[] = []
  await record(
    block.model,
    samples,
    [...outputs, ...wanted],
    (values, index) => {
      for (const { end, positions, rows } of units) {
        gatherPixels(rows, values[end.output]!, positions[index]!)
        if (end.shortcut) addPixels(rows, values[end.shortcut]!.data as Float32Array, positions[index]!, 1)
      }
      next.push({ ...samples[index], ...only(values, new Set(outputs)) })
    },
    threads,
  )
  return { units, next }
}

async function polishLayer(
  student: Model,
  { model: original }: Block,
  samples: Samples,
  { end, positions, rows: targets }: Target,
  { algebra, heldOut, ridge = RIDGE, threads, only: what }: PolishOptions,
): Promise<{ model: Model; outcome: Pick<PolishedLayer, 'took' | 'before' | 'after'> }> {
  const layer = layerOf(student.graph, end.output)
  const own = layer && readLayer(student.graph, layer)
  // A head also follows what the camera sees, whatever became of its block.
  const isRounding = what === 'head' ? own?.stored === 'int8' : true
  if (!layer || !own || (isRounding && !isPruned(original, student)))
    return { model: student, outcome: { took: 'nothing', before: Number.NaN, after: Number.NaN } }
  const shape = resized(end.shape, layer, own.weights.dims, outputAxis(layer))
  const shortcut = end.shortcut && addedTo(student.graph, layer)
  const x = new Rows(targets.rows, shape.columnLength)
  const y = new Rows(targets.rows, targets.width)
  y.data.set(targets.filled)
  await record(
    student,
    samples,
    [layer.inputs[0]!, ...(shortcut ? [shortcut] : [])],
    (values, index) => {
      const at = positions[index]!
      gatherColumns(x, values[layer.inputs[0]!]!, shape, at, end.outputWidth)
      y.rows = x.rows
      if (shortcut) addPixels(y, values[shortcut]!.data as Float32Array, at, -1)
    },
    threads,
  )
  const fitted = positions.slice(0, positions.length - heldOut).reduce((sum, { length }) => sum + length, 0)
  const o = targets.width
  const d = shape.columnLength
  const weights = outputAxis(layer) === 0 ? own.weights.data : transpose(own.weights.data, d, o)
  // Before anything is centred: what the pictures held out say.
  const errorOf = (candidate: { weights: Float32Array; bias: Float32Array }) =>
    outputError(algebra, x, y, fitted, candidate.weights, candidate.bias)
  const before = await errorOf({ weights, bias: own.bias })
  const nothing = { model: student, outcome: { took: 'nothing', before, after: before } } as const
  const [fitX, fitY] = [head(x, fitted), head(y, fitted)]
  const [meanX, meanY] = [centre(fitX), centre(fitY)]
  const solved = await solve(fitX.filled, fitY.filled, fitted, weights, ridge, algebra)
  if (!solved) return nothing
  const fresh = transpose(Float32Array.from(solved), d, o)
  // A fit that only follows its own pictures is no better for being stretched.
  if ((await errorOf({ weights: fresh, bias: biasFor(fresh, meanX, meanY) })) >= before) return nothing
  await stretch(algebra, fresh, fitX, fitY)
  const chosen = { weights: fresh, bias: biasFor(fresh, meanX, meanY) }
  const outcome = { took: 'weights', before, after: await errorOf(chosen) } as const
  const stored = outputAxis(layer) === 0 ? chosen.weights : transpose(chosen.weights, o, d)
  return { model: writeLayer(student, layer, floats(own.weights.dims, stored), chosen.bias), outcome }
}

/** Scales the weights of each channel so that what it gives is spread more nearly as it should be. @param x, y around their means */
async function stretch(algebra: LinearAlgebra, weights: Float32Array, x: Rows, y: Rows): Promise<void> {
  const [d, o] = [x.width, y.width]
  const given = await algebra.product(x.filled, transpose(weights, o, d), d)
  for (let k = 0; k < o; k++) {
    let [has, wants] = [0, 0]
    for (let row = k; row < given.length; row += o) {
      has += given[row]! ** 2
      wants += y.data[row]! ** 2
    }
    const factor = Math.sqrt(wants / Math.max(has, 1e-12)) ** SPREAD
    const bounded = Math.min(MOST_STRETCH, Math.max(1 / MOST_STRETCH, factor))
    for (let i = 0; i < d; i++) weights[k * d + i]! *= bounded
  }
}

/** The first rows, as a copy. */
function head(rows: Rows, count: number): Rows {
  const result = new Rows(count, rows.width)
  result.data.set(rows.data.subarray(0, count * rows.width))
  result.rows = count
  return result
}

function biasFor(weights: Float32Array, meanX: Float64Array, meanY: Float64Array): Float32Array {
  const d = meanX.length
  return Float32Array.from(meanY, (mean, k) => {
    let offset = mean
    for (let i = 0; i < d; i++) offset -= weights[k * d + i]! * meanX[i]!
    return offset
  })
}

/** ‖W·x + b − y‖² over ‖y‖² (around its mean) on the rows from `first` on. */
async function outputError(
  algebra: LinearAlgebra,
  x: Rows,
  y: Rows,
  first: number,
  weights: Float32Array,
  bias: Float32Array,
): Promise<number> {
  const o = y.width
  const d = x.width
  const given = await algebra.product(x.data.subarray(first * d, x.rows * d), transpose(weights, o, d), d)
  let error = 0
  let power = 0
  const means = new Float64Array(o)
  const count = Math.max(1, x.rows - first)
  for (let r = first; r < x.rows; r++) for (let k = 0; k < o; k++) means[k]! += y.data[r * o + k]! / count
  for (let r = first; r < x.rows; r++) {
    for (let k = 0; k < o; k++) {
      const wanted = y.data[r * o + k]!
      error += (given[(r - first) * o + k]! + bias[k]! - wanted) ** 2
      power += (wanted - means[k]!) ** 2
    }
  }
  return error / Math.max(power, 1e-12)
}

/** Whether a block lost channels. */
function isPruned(original: Model, student: Model): boolean {
  return original.graph.nodes.some((layer) => {
    const before = readLayer(original.graph, layer)
    const twin = before && layerOf(student.graph, layer.outputs[0]!)
    const after = twin && readLayer(student.graph, twin)
    return before !== undefined && after?.weights.dims.join() !== before.weights.dims.join()
  })
}

/** What the blocks behind get from a block. */
async function advance(
  model: Model,
  samples: Samples,
  needed: ReadonlySet<string>,
  { threads }: PolishOptions,
): Promise<Samples> {
  const names = model.graph.outputs.map(({ name }) => name)
  const next: Tensors[] = []
  await record(
    model,
    samples,
    names,
    (values, index) => next.push(only({ ...samples[index], ...only(values, new Set(names)) }, needed)),
    threads,
  )
  return next
}

const only = (values: Tensors, wanted: ReadonlySet<string>): Tensors =>
  Object.fromEntries(Object.entries(values).filter(([name]) => wanted.has(name)))
