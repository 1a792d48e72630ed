import { ORIGINAL } from '../base/index.ts'
import type { PlannedModel, SolverThread } from '../optimizer/index.ts'
import { problemModel, type SizedPredictor } from '../profiles/index.ts'
import type { Choices } from '../zoo/index.ts'

/** What one combination of a model is predicted to give. */
export interface FrontierPart {
  readonly model: string
  readonly quality: number
  readonly qualityLow: number
  readonly latencyMs: number
  readonly memoryBytes: number
  readonly inputSize: readonly [number, number]
  readonly choices: readonly { readonly block: string; readonly descendant: string }[]
}

/** A combination of each model; together no other beats them in both quality and what they cost. */
export interface FrontierPoint {
  /** mean of the models */
  readonly quality: number
  readonly qualityLow: number
  /** of one picture through every model */
  readonly latencyMs: number
  readonly memoryBytes: number
  readonly models: readonly FrontierPart[]
}

export interface Frontier {
  readonly models: readonly string[]
  readonly original: FrontierPoint
  /** the best quality against latency, the fastest first */
  readonly latency: readonly FrontierPoint[]
  /** the best quality against memory, the smallest first */
  readonly memory: readonly FrontierPoint[]
  /** 0: no point is missing; otherwise no combination is better by more than this loss (summed over the models) */
  readonly tolerance: number
}

/** A model with its predictors, its own input size first. */
export interface Predicted {
  readonly model: string
  readonly sizes: readonly SizedPredictor[]
}

/**
 * The whole frontier of a model, or of several that run side by side, as predicted from their profiles.
 *
 * Of one model, at each of its input sizes, quality falls with the sum of the choices' losses, so that nothing is missing. Of
 * several, the losses of each model are taken along a straight line, as a plan takes them. The combinations are sought in a
 * thread of their own.
 */
export async function frontierOf(mix: readonly Predicted[]): Promise<Frontier> {
  const { startSolver } = await import('../optimizer/index.ts')
  const solver = startSolver()
  try {
    return await frontierBy(solver, mix)
  } finally {
    await solver.close()
  }
}

async function frontierBy(solver: SolverThread, mix: readonly Predicted[]): Promise<Frontier> {
  const problems =
    mix.length === 1
      ? mix[0]!.sizes.map((size) => ({ models: [problemModel(mix[0]!.model, [size])], size }))
      : [{ models: mix.map(({ model, sizes }) => problemModel(model, sizes)), size: undefined }]
  let tolerance = 0
  const along = async (axis: 'latency' | 'memory'): Promise<FrontierPoint[]> => {
    const points: FrontierPoint[] = []
    for (const { models, size } of problems) {
      const found = await solver.frontier({ models }, axis)
      tolerance = Math.max(tolerance, found.tolerance)
      for (const point of found.points)
        points.push(together(point.models.map((planned, m) => partOf(mix[m]!, planned, size))))
    }
    return unbeaten(points, axis === 'latency' ? 'latencyMs' : 'memoryBytes')
  }
  const [latency, memory] = [await along('latency'), await along('memory')]
  return { models: mix.map(({ model }) => model), original: together(mix.map(originalOf)), latency, memory, tolerance }
}

/** In the order of cost; each is better than all that cost less. */
function unbeaten(points: readonly FrontierPoint[], cost: 'latencyMs' | 'memoryBytes'): FrontierPoint[] {
  let best = Number.NEGATIVE_INFINITY
  return [...points]
    .sort((a, b) => a[cost] - b[cost] || b.quality - a.quality)
    .filter(({ quality }) => {
      if (quality <= best) return false
      best = quality
      return true
    })
}

function together(models: readonly FrontierPart[]): FrontierPoint {
  const sum = (of: (part: FrontierPart) => number) => models.reduce((total, part) => total + of(part), 0)
  return {
    quality: sum(({ quality }) => quality) / models.length,
    qualityLow: sum(({ qualityLow }) => qualityLow) / models.length,
    latencyMs: sum(({ latencyMs }) => latencyMs),
    memoryBytes: sum(({ memoryBytes }) => memoryBytes),
    models,
  }
}

function originalOf(predicted: Predicted): FrontierPart {
  const [size] = predicted.sizes
  const blocks = [...new Set(size!.predictor.descendants.map(({ block }) => block))]
  return partOf(predicted, { choices: blocks.map((block) => ({ block, descendant: ORIGINAL })) }, size)
}

function partOf(
  { model, sizes }: Predicted,
  { variant, choices }: Pick<PlannedModel, 'variant' | 'choices'>,
  known?: SizedPredictor,
): FrontierPart {
  const { size, predictor } = known ?? sizes.find(({ id }) => id === variant) ?? sizes[0]!
  const chosen = Object.fromEntries(choices.map(({ block, descendant }) => [block, descendant])) as Choices
  const quality = predictor.quality(chosen)
  // Each block in whole bytes, as a plan counts them: a budget of just as much is then enough.
  const bytes = predictor.descendants.map(({ block, descendant }, i) =>
    chosen[block] === descendant ? Math.round(predictor.parts[i]!.memoryBytes) : 0,
  )
  return {
    model,
    quality: quality.value,
    qualityLow: quality.low,
    latencyMs: predictor.latency(chosen).value,
    memoryBytes: bytes.reduce((sum, each) => sum + each, 0),
    inputSize: size,
    choices,
  }
}

/** At most `count` points of a curve: its ends, and between them those after the largest gains. */
export function thinnedCurve(points: readonly FrontierPoint[], count: number): FrontierPoint[] {
  const [first, last] = [points[0], points.at(-1)]
  if (!first || !last || points.length <= count) return [...points]
  const step = (last.quality - first.quality) / (count - 1)
  const kept = [first]
  for (const point of points.slice(1, -1)) {
    if (point.quality - kept.at(-1)!.quality >= step && last.quality - point.quality >= step / 2) kept.push(point)
  }
  return [...kept, last]
}
