import { intAttribute, type Node, stringAttribute } from '../../onnx/index.ts'
import { floats, numbersOf } from '../../tensor/index.ts'
import { type Rule, type RuleContext, unsupported } from './rule.ts'

/**
 * Resize is linear and works on rows and columns by themselves, `y = R x Cᵀ`, so its gradient is `Rᵀ g C`.
 * Nearest by a whole factor, the usual case, is a plain sum.
 */
export const resize: Rule = (at) => {
  const { emit } = at
  const dims = at.shape(at.node.inputs[0]!)
  const out = at.shape(at.node.outputs[0]!)
  if (dims.length !== 4 || dims[0] !== out[0] || dims[1] !== out[1]) {
    throw unsupported(at.node, 'it resizes other axes than height and width')
  }
  const scales = scalesOf(at)
  const rows = weights(at.node, dims[2]!, out[2]!, scales[0])
  const columns = weights(at.node, dims[3]!, out[3]!, scales[1])
  const [n, c, h, w] = dims as [number, number, number, number]
  if (isRepetition(rows) && isRepetition(columns)) {
    const apart = emit.reshape(at.gradient, [n, c, h, out[2]! / h, w, out[3]! / w])
    return [emit.sum(apart, [3, 5])]
  }
  const matrix = (of: readonly (readonly number[])[]) => emit.constant(floats([of.length, of[0]!.length], of.flat()))
  const narrow = emit.op('MatMul', [at.gradient, matrix(columns)])
  return [emit.op('MatMul', [emit.transpose(matrix(rows), [1, 0]), narrow])]
}

function scalesOf(at: RuleContext): readonly [number, number] {
  const dims = at.shape(at.node.inputs[0]!)
  const out = at.shape(at.node.outputs[0]!)
  const given = at.node.op === 'Upsample' ? at.constant(at.node.inputs[1]) : at.constant(at.node.inputs[2])
  const scales = given && given.data.length === 4 ? numbersOf(given) : undefined
  return [scales?.[2] ?? out[2]! / dims[2]!, scales?.[3] ?? out[3]! / dims[3]!]
}

/** How much of each input position (second index) an output position (first index) takes. */
function weights(of: Node, size: number, output: number, scale: number): number[][] {
  const mode = stringAttribute(of, 'mode', 'nearest')
  const coordinates = stringAttribute(of, 'coordinate_transformation_mode', 'half_pixel')
  if (mode === 'cubic' || intAttribute(of, 'antialias', 0)) throw unsupported(of, `mode ${mode}, antialias`)
  return Array.from({ length: output }, (_, position) => {
    const row = new Array<number>(size).fill(0)
    const x = sourcePosition(of, coordinates, position, size, output, scale)
    const add = (index: number, weight: number) => {
      const inside = Math.max(0, Math.min(size - 1, index))
      row[inside] = row[inside]! + weight
    }
    if (mode === 'nearest') add(nearest(stringAttribute(of, 'nearest_mode', 'round_prefer_floor'), x), 1)
    else {
      const low = Math.floor(x)
      add(low, 1 - (x - low))
      add(low + 1, x - low)
    }
    return row
  })
}

function sourcePosition(of: Node, mode: string, position: number, size: number, output: number, scale: number): number {
  switch (mode) {
    case 'half_pixel':
      return (position + 0.5) / scale - 0.5
    case 'pytorch_half_pixel':
      return output > 1 ? (position + 0.5) / scale - 0.5 : 0
    case 'asymmetric':
      return position / scale
    case 'align_corners':
      return output > 1 ? (position * (size - 1)) / (output - 1) : 0
    default:
      throw unsupported(of, `coordinates ${mode}`)
  }
}

function nearest(mode: string, x: number): number {
  switch (mode) {
    case 'floor':
      return Math.floor(x)
    case 'ceil':
      return Math.ceil(x)
    case 'round_prefer_ceil':
      return Math.floor(x + 0.5)
    default:
      return Math.ceil(x - 0.5)
  }
}

/** Whether each input position is simply repeated, all equally often. */
function isRepetition(of: readonly (readonly number[])[]): boolean {
  const factor = of.length / of[0]!.length
  return Number.isInteger(factor) && of.every((row, position) => row[Math.floor(position / factor)] === 1)
}
