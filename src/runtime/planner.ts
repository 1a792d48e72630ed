import { BlockscaleError, modelId } from '../base/index.ts'
import { type Plan, type PlannedModel, type Problem, startSolver } from '../optimizer/index.ts'
import type { ProfileStore } from '../profiles/index.ts'
import type { Manifest, Zoo } from '../zoo/index.ts'
import { type Candidate, candidate, type Profiled } from './candidate.ts'
import { Fitted } from './fitted.ts'
import { type Frontier, frontierOf } from './frontier.ts'
import { type Current, place } from './place.ts'
import { readSpeed } from './read-speed.ts'
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

/** Makes plans from what is profiled of the models, in a thread of its own. */
export function openPlanner(zoo: Zoo, store: ProfileStore, device: string): Planner {
  const solver = startSolver()
  const fitted = new Fitted(store, device)
  const frontiers = new WeakMap<Profiled['sizes'], Promise<Frontier>>()
  return {
    async plan({ wishes, budget, workers, current, objective, nearest, isDamaged = () => false }) {
      const profiled = new Map<string, Profiled>()
      for (const wish of wishes) profiled.set(wish.model, await profiledModel(zoo, fitted, wish.model))
      const solve = async (landing: ReadonlyMap<string, number>, bytesPerMs?: number) => {
        const candidates = new Map<string, Candidate>()
        for (const wish of wishes) {
          const { model } = wish
          const options = {
            wish,
            current: current.get(model),
            expectedLoss: landing.get(model),
            isWhole: (block: string, descendant: string) => !isDamaged(model, block, descendant),
            bytesPerMs,
          }
          candidates.set(model, candidate(profiled.get(model)!, options))
        }
        const problem: Problem = {
          memoryBytes: budget.memoryBytes,
          cores: Math.min(budget.cores ?? workers, workers),
          models: [...candidates.values()].map(({ problem }) => problem),
          ...(objective ? { objective } : {}),
        }
        const plan = await solver.solve(problem, { nearest })
        const models = plan.models.map((found) => candidates.get(found.model)!.planned(found))
        return { candidates, plan, models, worth: worthOf(models, wishes) }
      }
      const best = async (bytesPerMs?: number) => {
        const first = await solve(new Map(), bytesPerMs)
        if (first.plan.status === 'infeasible' || (objective ?? 'quality') !== 'quality') return first
        // Losses are only straight lines near where the plan lands: once it is known where that is, they are drawn anew.
        const again = await solve(landingOf(first.models, profiled), bytesPerMs)
        return again.plan.status !== 'infeasible' && again.worth > first.worth + WORTH_IT ? again : first
      }
      const loaded = await best()
      const isShort = loaded.plan.status === 'infeasible' && budget.memoryBytes !== undefined
      const { candidates, plan, models } = isShort
        ? nearer(await best(await speedOf(zoo, device, [...profiled.values()])), loaded)
        : loaded
      const rates = new Map(wishes.map(({ model, rate }) => [model, rate]))
      const placed = place(models, { workers, rates, current })
      return {
        plan: { ...plan, models: placed },
        manifests: new Map([...profiled].map(([model, { manifest }]) => [model, manifest])),
        chosen: new Map(plan.models.map((found) => [found.model, candidates.get(found.model)!.chosen(found)])),
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

/** What streams where that does what is asked, or more of it; otherwise a plan whose blocks all stay loaded. */
function nearer<S extends { readonly plan: Plan }>(streaming: S, loaded: S): S {
  if (streaming.plan.status !== 'infeasible') return streaming
  const [a, b] = [streaming.plan.infeasible, loaded.plan.infeasible]
  if (!a || !b || a.constraint !== b.constraint) return loaded
  return (a.constraint === 'quality' ? a.needs > b.needs : a.needs < b.needs) ? streaming : loaded
}

/** Of the disk on which the zoo lies. */
function speedOf(zoo: Zoo, device: string, models: readonly Profiled[]): Promise<number> {
  const files = models.flatMap(({ manifest: { model, blocks } }) =>
    blocks.flatMap(({ descendants }) => descendants.map(({ file }) => zoo.path(model, file))),
  )
  return readSpeed(zoo.deviceFolder(device), files)
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
