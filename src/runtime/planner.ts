import { BlockscaleError, modelId } from '../base/index.ts'
import { type Plan, type PlannedModel, type Problem, type ProblemModel, startSolver } from '../optimizer/index.ts'
import { type Predictor, type ProfileStore, problemModel } from '../profiles/index.ts'
import type { Choices, Manifest, Zoo } from '../zoo/index.ts'
import { Fitted } from './fitted.ts'
import { type Frontier, frontierOf } from './frontier.ts'
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
  /** where nothing fits, the plan that breaks the limits by the least */
  readonly nearest?: boolean | undefined
  /** descendants that cannot be loaded: plans go without them */
  readonly isDamaged?: ((model: string, block: string, descendant: string) => boolean) | undefined
}

/** A plan with what is needed to load it. */
export interface Planned {
  readonly plan: Plan
  readonly manifests: ReadonlyMap<string, Manifest>
  /** by model: the descendants in the plan, with the memory that the plan counts for each */
  readonly chosen: ReadonlyMap<string, readonly ChosenDescendant[]>
}

export interface Planner {
  /** An infeasible plan is an answer. @throws BlockscaleError MODEL_UNKNOWN, PROBLEM_INVALID; ZOO_DAMAGED, also when no descendant of a block is whole */
  plan(request: PlanRequest): Promise<Planned>
  /** The whole trade-off of a model; worked out once for each state of its profiles. @throws BlockscaleError NOT_FOUND */
  frontier(model: string): Promise<Frontier>
  close(): Promise<void>
}

interface Profiled {
  readonly manifest: Manifest
  readonly sizes: readonly {
    readonly id: string
    readonly size: readonly [number, number]
    readonly predictor: Predictor
  }[]
}

interface Candidate extends Profiled {
  readonly problem: ProblemModel
}

/** Makes plans from what is profiled of the models, in a thread of its own. */
export function openPlanner(zoo: Zoo, store: ProfileStore, device: string): Planner {
  const solver = startSolver()
  const fitted = new Fitted(store, device)
  const frontiers = new WeakMap<Profiled['sizes'], Promise<Frontier>>()
  return {
    async plan({ wishes, budget, workers, current, objective, nearest, isDamaged = () => false }) {
      const profiled = new Map<string, Profiled>()
      for (const wish of wishes) profiled.set(wish.model, await profiledModel(zoo, fitted, wish.model))
      const solve = async (landing: ReadonlyMap<string, number>) => {
        const candidates = new Map<string, Candidate>()
        for (const wish of wishes) {
          const { model } = wish
          const whole = (block: string, descendant: string) => !isDamaged(model, block, descendant)
          candidates.set(model, candidate(profiled.get(model)!, wish, current.get(model), landing.get(model), whole))
        }
        const problem: Problem = {
          memoryBytes: budget.memoryBytes,
          cores: Math.min(budget.cores ?? workers, workers),
          models: [...candidates.values()].map(({ problem }) => problem),
          ...(objective ? { objective } : {}),
        }
        const plan = await solver.solve(problem, { nearest })
        const models = plan.models.map((planned) => described(planned, candidates.get(planned.model)!))
        return { candidates, plan, models, worth: worthOf(models, wishes) }
      }
      let best = await solve(new Map())
      if (best.plan.status !== 'infeasible' && (objective ?? 'quality') === 'quality') {
        // Losses are only straight lines near where the plan lands: once it is known where that is, they are drawn anew.
        const again = await solve(landingOf(best.models, profiled))
        if (again.plan.status !== 'infeasible' && again.worth > best.worth + WORTH_IT) best = again
      }
      const { candidates, plan, models } = best
      const rates = new Map(wishes.map(({ model, rate }) => [model, rate]))
      const placed = place(models, { workers, rates, current })
      return {
        plan: { ...plan, models: placed },
        manifests: new Map([...candidates].map(([model, { manifest }]) => [model, manifest])),
        chosen: new Map(placed.map((planned) => [planned.model, chosen(planned, candidates.get(planned.model)!)])),
      }
    },
    async frontier(model) {
      const { sizes } = await profiledModel(zoo, fitted, model)
      const known = frontiers.get(sizes) ?? frontierOf([{ model, sizes }])
      frontiers.set(sizes, known)
      known.catch(() => frontiers.delete(sizes))
      return known
    },
    close: () => solver.close(),
  }
}

/** Quality, weighed, that a second plan must gain: less is the noise of predictions, and not worth a swap. */
const WORTH_IT = 1e-3

function worthOf(models: readonly PlannedModel[], wishes: readonly ModelWish[]): number {
  const weights = new Map(wishes.map(({ model, weight }) => [model, weight]))
  return models.reduce((sum, { model, predicted }) => sum + (weights.get(model) ?? 1) * predicted.quality, 0)
}

/** The loss that a plan takes of each model; at least a little, so that there is a slope. */
function landingOf(models: readonly PlannedModel[], profiled: ReadonlyMap<string, Profiled>): Map<string, number> {
  return new Map(
    models.map(({ model, predicted }) => {
      const quality = profiled.get(model)!.sizes[0]!.predictor.originalQuality
      return [model, Math.max(quality - predicted.quality, 0.005 * Math.abs(quality))]
    }),
  )
}

async function profiledModel(zoo: Zoo, fitted: Fitted, model: string): Promise<Profiled> {
  const manifest = await zoo.manifest(modelId(model))
  const sizes = fitted.of(manifest)
  if (sizes.length > 0) return { manifest, sizes }
  const hint = `Measure it with \`blockscale profile ${model}\`.`
  throw new BlockscaleError('NOT_FOUND', `nothing is measured of ${model} on this device yet`, hint)
}

function candidate(
  { manifest, sizes }: Profiled,
  wish: ModelWish,
  current: Current | undefined,
  expectedLoss: number | undefined,
  isWhole: (block: string, descendant: string) => boolean,
): Candidate {
  const here = sizes.find(({ size }) => size.join() === current?.inputSize.join())
  const problem = problemModel(wish.model, sizes, {
    weight: wish.weight,
    maxLatencyMs: wish.maxLatencyMs,
    rate: wish.rate,
    minQuality: wish.minQuality,
    expectedLoss,
    ...(current && here && isStillThere(manifest, current.choices, isWhole)
      ? { current: { size: here.id, choices: current.choices as Choices } }
      : {}),
  })
  return { manifest, problem: ofWhole(problem, isWhole), sizes }
}

/** The problem without the descendants that cannot be loaded. */
function ofWhole(problem: ProblemModel, isWhole: (block: string, descendant: string) => boolean): ProblemModel {
  const wholeBlocks = (blocks: NonNullable<ProblemModel['blocks']>) =>
    blocks.map((block) => {
      const choices = block.choices.filter(({ id }) => isWhole(block.id, id))
      if (choices.length > 0) return { ...block, choices }
      const message = `every descendant of block ${block.id} of ${problem.id} is damaged`
      throw new BlockscaleError('ZOO_DAMAGED', message, `Build it again with \`blockscale build ${problem.id}\`.`)
    })
  const { blocks, variants } = problem
  return {
    ...problem,
    ...(blocks ? { blocks: wholeBlocks(blocks) } : {}),
    ...(variants ? { variants: variants.map((each) => ({ ...each, blocks: wholeBlocks(each.blocks) })) } : {}),
  }
}

/** After a new build the descendants in place may be gone, or damaged since; then there is nothing to stay with. */
const isStillThere = (
  manifest: Manifest,
  choices: Readonly<Record<string, string>>,
  isWhole: (block: string, descendant: string) => boolean,
): boolean =>
  manifest.blocks.every((block) =>
    block.descendants.some(({ id }) => id === choices[block.id] && isWhole(block.id, id)),
  )

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
