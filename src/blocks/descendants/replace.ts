import { descendantId } from '../../base/index.ts'
import { check, freshNames, ints, type Model, macsByNode, node } from '../../onnx/index.ts'
import { floats } from '../../tensor/index.ts'
import type { Block, Descendant, Samples } from '../block.ts'
import { type Branch, branchesOf } from '../branches.ts'
import { type LayerShape, Rows } from '../columns.ts'
import type { LinearAlgebra } from '../linear.ts'
import { centre, isBearable, recordTargets, type WantedLayer } from '../reference.ts'
import { refit, solveRows } from '../refit.ts'

/**
 * Branches with what one layer in their place would lose. `drop`: a residual branch goes and a 1×1 layer beside the shortcut
 * makes up for it linearly; `merge`: its convolutions become one 3×3.
 */
export interface Replacement {
  readonly kind: 'drop' | 'merge'
  readonly branch: Branch
  readonly shape: LayerShape
  /** share of the power of what the branch gives (with its shortcut) that the layer misses */
  readonly loss: number
  readonly savedMacs: number
}

/** A layer that saves less of its branch than this is not worth what it loses. */
const LEAST_SAVED = 0.2

/** Solves each possible replacement by itself, on what the original block delivers. */
export async function analyseReplacements(
  block: Block,
  samples: Samples,
  kind: Replacement['kind'],
  algebra: LinearAlgebra,
): Promise<readonly Replacement[]> {
  const macs = macsByNode(block.model, block.nominal)
  const candidates = branchesOf(block).flatMap((branch) => {
    const shape = shapeFor(branch, kind, block)
    if (!shape) return []
    const positions = (block.nominal.get(branch.output) ?? []).slice(2).reduce((a, b) => a * b, 1)
    const before = branch.nodes.reduce((sum, each) => sum + (macs.get(each.name) ?? 0), 0)
    const savedMacs = before - shape.columnLength * shape.outputChannels * positions
    return savedMacs >= LEAST_SAVED * before ? [{ branch, shape, savedMacs }] : []
  })
  if (candidates.length === 0) return []
  const columns = new Map<string, Rows>()
  const layers = candidates.map(({ branch, shape }) => layerFor(branch, shape))
  const targets = await recordTargets(block, samples, layers, columns)
  const result: Replacement[] = []
  for (const [index, { output, targets: y, shape }] of targets.entries()) {
    const x = columns.get(output)!
    columns.delete(output)
    centre(x)
    centre(y)
    const zeros = new Float32Array(shape.columnLength * shape.outputChannels)
    // Of a residual branch the target holds the shortcut as well: the layer is judged by the sum that goes on.
    const { branch, savedMacs } = candidates[index]!
    const solved = await solveRows(x, y, branch.residual ? identity(shape) : zeros, algebra)
    const power = squares(y.filled)
    const loss = solved ? (await missed(x, y, solved, algebra)) / Math.max(power, 1e-12) : 1
    result.push({ kind, branch, shape, loss, savedMacs })
  }
  return result.sort((a, b) => a.loss / a.savedMacs - b.loss / b.savedMacs)
}

/**
 * Puts one layer in the place of each of the given branches and solves them, in graph order, by least squares on what the
 * changed block delivers, so that each also makes up for what the ones before it have lost.
 */
export async function replaceBranches(
  block: Block,
  samples: Samples,
  replacements: readonly Replacement[],
  algebra: LinearAlgebra,
): Promise<Descendant> {
  const kind = replacements[0]!.kind
  const order = new Map(block.model.graph.nodes.map((each, index) => [each.outputs[0]!, index]))
  const inOrder = [...replacements].sort((a, b) => order.get(a.branch.output)! - order.get(b.branch.output)!)
  let model = block.model
  for (const replacement of inOrder) model = withLayer(model, replacement)
  const targets = await recordTargets(
    block,
    samples,
    inOrder.map(({ branch, shape }) => layerFor(branch, shape)),
  )
  return {
    block: block.id,
    id: descendantId(`${kind}${replacements.length}`),
    kind,
    parameters: { branches: inOrder.map(({ branch }) => branch.output).join(' ') },
    model: await refit(model, samples, targets, () => undefined, algebra),
  }
}

const layerFor = (branch: Branch, shape: LayerShape): WantedLayer => ({
  output: branch.output,
  input: branch.from,
  shape,
})

function shapeFor(branch: Branch, kind: Replacement['kind'], block: Block): LayerShape | undefined {
  const from = block.nominal.get(branch.from)
  const to = block.nominal.get(branch.output)
  if (from?.length !== 4 || to?.length !== 4) return undefined
  if (kind === 'drop' && !branch.residual) return undefined
  const size = kind === 'drop' ? 1 : 3
  const [inputChannels, outputChannels] = [from[1]!, to[1]!]
  const shape: LayerShape = {
    inputChannels,
    outputChannels,
    kernel: [size, size],
    strides: branch.strides,
    dilations: [1, 1],
    pads: kind === 'drop' ? [0, 0] : [1, 1],
    columnLength: inputChannels * size * size,
  }
  const sizes = [2, 3].map((axis) => Math.floor((from[axis]! - 1) / branch.strides[axis - 2]!) + 1)
  return sizes[0] === to[2] && sizes[1] === to[3] && isBearable(shape) ? shape : undefined
}

function withLayer(model: Model, { branch, shape }: Replacement): Model {
  const gone = new Set(branch.nodes.map((each) => each.outputs[0]!))
  const initializers = new Map(model.graph.initializers)
  const name = freshNames(model.graph)(`${branch.output}/replaced`)
  const { outputChannels, inputChannels, kernel, strides, pads } = shape
  const data = new Float32Array(outputChannels * shape.columnLength)
  initializers.set(name, floats([outputChannels, inputChannels, ...kernel], data))
  const layer = node('Conv', [branch.from, name], [branch.output], {
    kernel_shape: ints(kernel),
    strides: ints(strides),
    pads: ints([...pads, ...pads]),
  })
  const nodes = model.graph.nodes.flatMap((each) => {
    if (each.outputs[0] === branch.output) return [layer]
    return gone.has(each.outputs[0]!) ? [] : [each]
  })
  const read = new Set(nodes.flatMap((each) => each.inputs))
  for (const each of [...initializers.keys()]) if (!read.has(each)) initializers.delete(each)
  const facts = new Map([...model.graph.facts].filter(([value]) => !gone.has(value) || value === branch.output))
  return check({ ...model, graph: { ...model.graph, nodes, initializers, facts } })
}

/** Weights that give the middle of the window back: the shortcut alone. */
function identity({ inputChannels, outputChannels, kernel, columnLength }: LayerShape): Float32Array {
  const weights = new Float32Array(outputChannels * columnLength)
  const area = kernel[0] * kernel[1]
  for (let c = 0; c < Math.min(inputChannels, outputChannels); c++)
    weights[c * columnLength + c * area + Math.floor(area / 2)] = 1
  return weights
}

async function missed(x: Rows, y: Rows, solved: ArrayLike<number>, algebra: LinearAlgebra): Promise<number> {
  const across = new Rows(x.width, x.rows)
  for (let r = 0; r < x.rows; r++)
    for (let i = 0; i < x.width; i++) across.data[i * x.rows + r] = x.data[r * x.width + i]!
  const given = await algebra.transposedProduct(across.data, Float32Array.from(solved), x.width)
  let sum = 0
  for (let i = 0; i < given.length; i++) sum += (y.data[i]! - given[i]!) ** 2
  return sum
}

const squares = (values: Float32Array): number => values.reduce((sum, value) => sum + value * value, 0)
