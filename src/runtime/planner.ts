import { BlockscaleError, modelId } from '../base/index.ts'
import { type Plan, type PlannedModel, type Problem, type ProblemModel, startSolver } from '../optimizer/index.ts'
import { type Predictor, type ProfileStore, predictors, problemModel } from '../profiles/index.ts'
import type { Choices, Manifest, Zoo } from '../zoo/index.ts'
import { type Current, place } from './place.ts'
import type { Budget } from './types.ts'
import type { ChosenDescendant } from './unit-files.ts'
import type { ModelWish } from './wishes.ts'

export interface PlanRequest {
  readonly wishes: readonly ModelWish[]
  readonly budget: Budget
  /** engines that there are */
  readonly workers: number
  /** what is live, so that a swap is only made for a gain */
  readonly current: ReadonlyMap<string, Current>
  readonly objective?: Problem['objective']
}

/** A plan with what is needed to load it. */
export interface Planned {
  readonly plan: Plan
  readonly manifests: ReadonlyMap<string, Manifest>
  /** by model: the descendants in the plan, with the memory that the plan counts for each */
  readonly chosen: ReadonlyMap<string, readonly ChosenDescendant[]>
}

export interface Planner {
  /** An infeasible plan is an answer. @throws BlockscaleError MODEL_UNKNOWN, ZOO_DAMAGED, PROBLEM_INVALID */
  plan(request: PlanRequest): Promise<Planned>
  close(): Promise<void>
}

interface Candidate {
  readonly manifest: Manifest
  readonly problem: ProblemModel
  readonly sizes: readonly {
    readonly id: string
    readonly size: readonly [number, number]
    readonly predictor: Predictor
  }[]
}

/** Makes plans from what is profiled of the models, in a thread of its own. */
export function openPlanner(zoo: Zoo, store: ProfileStore, device: string): Planner {
  const solver = startSolver()
  return {
    async plan({ wishes, budget, workers, current, objective }) {
      const candidates = new Map<string, Candidate>()
      for (const wish of wishes) {
        const manifest = await zoo.manifest(modelId(wish.model))
        candidates.set(wish.model, candidate(store, device, manifest, wish, current.get(wish.model)))
      }
      const plan = await solver.solve({
        memoryBytes: budget.memoryBytes,
        cores: Math.min(budget.cores ?? workers, workers),
        models: [...candidates.values()].map(({ problem }) => problem),
        ...(objective ? { objective } : {}),
      })
      const models = plan.models.map((planned) => described(planned, candidates.get(planned.model)!))
      const rates = new Map(wishes.map(({ model, rate }) => [model, rate]))
      const placed = place(models, { workers, rates, current })
      return {
        plan: { ...plan, models: placed },
        manifests: new Map([...candidates].map(([model, { manifest }]) => [model, manifest])),
        chosen: new Map(placed.map((planned) => [planned.model, chosen(planned, candidates.get(planned.model)!)])),
      }
    },
    close: () => solver.close(),
  }
}

function candidate(
  store: ProfileStore,
  device: string,
  manifest: Manifest,
  wish: ModelWish,
  current: Current | undefined,
): Candidate {
  const sizes = predictors(store, manifest, device)
  if (sizes.length === 0) {
    throw new BlockscaleError(
      'NOT_FOUND',
      `nothing is measured of ${wish.model} yet`,
      `Measure it with \`blockscale profile ${wish.model}\`.`,
    )
  }
  const here = sizes.find(({ size }) => size.join() === current?.inputSize.join())
  const problem = problemModel(wish.model, sizes, {
    weight: wish.weight,
    maxLatencyMs: wish.maxLatencyMs,
    rate: wish.rate,
    minQuality: wish.minQuality,
    ...(current && here && isStillThere(manifest, current.choices)
      ? { current: { size: here.id, choices: current.choices as Choices } }
      : {}),
  })
  return { manifest, problem, sizes }
}

/** After a new build the descendants in place may be gone; then there is nothing to stay with. */
const isStillThere = (manifest: Manifest, choices: Readonly<Record<string, string>>): boolean =>
  manifest.blocks.every((block) => block.descendants.some(({ id }) => id === choices[block.id]))

/** The plan's figures as the predictors give them: the solver's own are in the scale of the losses. */
function described(planned: PlannedModel, { sizes }: Candidate): PlannedModel {
  const { size, predictor } = sizes.find(({ id }) => id === planned.variant) ?? sizes[0]!
  const choices = Object.fromEntries(planned.choices.map(({ block, descendant }) => [block, descendant])) as Choices
  const quality = predictor.quality(choices)
  return {
    ...planned,
    inputSize: size,
    predicted: {
      quality: quality.value,
      qualityLow: quality.low,
      latencyMs: predictor.latency(choices).value,
      memoryBytes: planned.predicted.memoryBytes,
    },
  }
}

function chosen(planned: PlannedModel, { problem }: Candidate): ChosenDescendant[] {
  const blocks = problem.blocks ?? problem.variants?.find(({ id }) => id === planned.variant)?.blocks ?? []
  return planned.choices.map(({ block, descendant }) => {
    const choice = blocks.find(({ id }) => id === block)?.choices.find(({ id }) => id === descendant)
    return { block, descendant, memoryBytes: choice?.memoryBytes ?? 0 }
  })
}
