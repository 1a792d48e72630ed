import { ORIGINAL } from '../base/index.ts'
import { createSolver, type Problem } from '../optimizer/index.ts'
import { type Predictor, problemModel, type SizedPredictor } from '../profiles/index.ts'
import type { Choices } from '../zoo/index.ts'

/** A combination that no other beats in both quality and what it costs. */
export interface FrontierPoint {
  readonly quality: number
  readonly qualityLow: number
  readonly latencyMs: number
  readonly memoryBytes: number
  readonly inputSize: readonly [number, number]
  readonly choices: readonly { readonly block: string; readonly descendant: string }[]
}

export interface Frontier {
  readonly model: string
  readonly original: FrontierPoint
  /** the best quality against latency, the fastest first */
  readonly latency: readonly FrontierPoint[]
  /** the best quality against memory, the smallest first */
  readonly memory: readonly FrontierPoint[]
}

type Cost = 'latencyMs' | 'memoryBytes'

/**
 * The frontier of a model: for limits between the least and what the original takes, the best quality.
 * Limits are closer where they are tight, because there quality falls steeply.
 *
 * @param count limits along each axis
 */
export function frontierOf(model: string, sizes: readonly SizedPredictor[], count: number): Frontier {
  const solver = createSolver()
  const problem = problemModel(model, sizes)
  const best = (limits: Omit<Problem, 'models'>, maxLatencyMs?: number): FrontierPoint | undefined => {
    const plan = solver.solve({ ...limits, models: [{ ...problem, ...(maxLatencyMs ? { maxLatencyMs } : {}) }] })
    const planned = plan.models[0]
    if (plan.status === 'infeasible' || !planned) return undefined
    return pointOf(sizes.find(({ id }) => id === planned.variant) ?? sizes[0]!, planned.choices)
  }
  const [first] = sizes
  const blocks = [...new Set(first!.predictor.descendants.map(({ block }) => block))]
  const original = pointOf(
    first!,
    blocks.map((block) => ({ block, descendant: ORIGINAL })),
  )
  const along = (cost: Cost): FrontierPoint[] => {
    const least = best({ objective: cost === 'latencyMs' ? 'latency' : 'memory' })
    if (!least) return [original]
    const points = [least, original]
    for (let i = 1; i < count; i++) {
      const limit = least[cost] + (original[cost] - least[cost]) * (i / count) ** 2
      const point = cost === 'latencyMs' ? best({}, limit) : best({ memoryBytes: Math.floor(limit) })
      if (point) points.push(point)
    }
    return unbeaten(points, cost)
  }
  return { model, original, latency: along('latencyMs'), memory: along('memoryBytes') }
}

/** A gain below this share of the original's quality is not worth a point. */
const NOTABLE = 0.001

/** In the order of cost; each is notably better than all that cost less. */
function unbeaten(points: readonly FrontierPoint[], cost: Cost): FrontierPoint[] {
  const kept: FrontierPoint[] = []
  for (const point of [...points].sort((a, b) => a[cost] - b[cost] || b.quality - a.quality)) {
    const gain = point.quality - (kept.at(-1)?.quality ?? Number.NEGATIVE_INFINITY)
    if (gain > NOTABLE * Math.abs(point.quality)) kept.push(point)
  }
  return kept
}

function pointOf(
  { size, predictor }: { size: FrontierPoint['inputSize']; predictor: Predictor },
  choices: FrontierPoint['choices'],
): FrontierPoint {
  const chosen = Object.fromEntries(choices.map(({ block, descendant }) => [block, descendant])) as Choices
  const quality = predictor.quality(chosen)
  return {
    quality: quality.value,
    qualityLow: quality.low,
    latencyMs: predictor.latency(chosen).value,
    memoryBytes: Math.round(predictor.memory(chosen).value),
    inputSize: size,
    choices,
  }
}
