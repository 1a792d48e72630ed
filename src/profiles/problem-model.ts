import type { BlockId } from '../base/index.ts'
import type { Choices } from '../zoo/index.ts'
import type { Predictor } from './predict.ts'

/** Structurally the optimizer's `ProblemModel`; this room does not know the optimizer. */
export interface ModelProblem {
  readonly id: string
  readonly quality: number
  readonly weight?: number | undefined
  readonly maxLatencyMs?: number | undefined
  readonly rate?: number | undefined
  readonly minQuality?: number | undefined
  readonly blocks?: readonly BlockProblem[] | undefined
  readonly variants?: readonly { readonly id: string; readonly blocks: readonly BlockProblem[] }[] | undefined
}

export interface BlockProblem {
  readonly id: string
  readonly current?: string | undefined
  readonly choices: readonly {
    readonly id: string
    readonly loss: number
    readonly latencyMs: number
    readonly memoryBytes: number
    readonly swapMs: number
  }[]
}

export interface ProblemOptions {
  readonly weight?: number | undefined
  readonly maxLatencyMs?: number | undefined
  /** pictures per second */
  readonly rate?: number | undefined
  /** in the task's own scale */
  readonly minQuality?: number | undefined
  /** what is in place now, for the swap term; `size` is the id of the input size it runs at */
  readonly current?: { readonly size?: string | undefined; readonly choices: Choices } | undefined
  /** the loss near which plans are expected to land; 5 % of the quality unless given (and `minQuality` is not) */
  readonly expectedLoss?: number | undefined
}

/** A model at one input size, by the id that the plan will name, such as `224` */
export interface SizePredictor {
  readonly id: string
  readonly predictor: Predictor
}

/**
 * One model of a problem, from its predictors.
 *
 * Quality falls along a curve g over the summed divergence D, and a linear programme needs a sum of losses. So a choice's loss
 * is its divergence times g(D*)/D*, the slope of the line from 0 through the curve at D*: exact where the plan lands at D*. With
 * `minQuality`, D* is where the curve reaches it, so that the linear floor and the true one are the same; without,
 * it is at `expectedLoss`. Solving again with the loss of the plan found sharpens it.
 *
 * The quality that a smaller input costs with all originals is a constant, which all choices of the first block carry.
 *
 * @param sizes the model's own input size first
 */
export function problemModel(id: string, sizes: readonly SizePredictor[], options: ProblemOptions = {}): ModelProblem {
  const quality = sizes[0]!.predictor.originalQuality
  const { weight, maxLatencyMs, rate, minQuality } = options
  const blocksOf = (size: SizePredictor): readonly BlockProblem[] => {
    const current = (options.current?.size ?? sizes[0]!.id) === size.id ? options.current?.choices : undefined
    return blocksAt(size.predictor, quality, options, current)
  }
  const limits = { id, quality, weight, maxLatencyMs, rate, minQuality }
  return sizes.length === 1
    ? { ...limits, blocks: blocksOf(sizes[0]!) }
    : { ...limits, variants: sizes.map((size) => ({ id: size.id, blocks: blocksOf(size) })) }
}

function blocksAt(
  predictor: Predictor,
  quality: number,
  options: ProblemOptions,
  current: Choices | undefined,
): BlockProblem[] {
  const constant = quality - predictor.originalQuality
  const slope = slopeAt(predictor, quality, constant, options)
  const blocks = new Map<BlockId, BlockProblem['choices'][number][]>()
  for (const [i, { block, descendant, loadMs }] of predictor.descendants.entries()) {
    const part = predictor.parts[i]!
    if (!blocks.has(block)) blocks.set(block, [])
    blocks.get(block)!.push({
      id: descendant,
      loss: slope * part.divergence + (block === predictor.descendants[0]!.block ? constant : 0),
      latencyMs: part.latencyMs,
      memoryBytes: Math.round(part.memoryBytes),
      swapMs: loadMs,
    })
  }
  return [...blocks].map(([block, choices]) => ({ id: block, current: current?.[block], choices }))
}

function slopeAt(
  { curve, parts }: Predictor,
  quality: number,
  constant: number,
  { minQuality, expectedLoss }: ProblemOptions,
): number {
  const allowed = minQuality === undefined ? (expectedLoss ?? 0.05 * Math.abs(quality)) : quality - minQuality
  const left = allowed - constant
  const landing = left > 0 ? curve.divergence(left) : Math.max(...parts.map(({ divergence }) => divergence), 1e-9)
  return curve.loss(landing) / landing
}
