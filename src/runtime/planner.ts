import { BlockscaleError, type Log, modelId, silentLog } from '../base/index.ts'
import type { Plan, PlannedModel, Problem, SolverThread } from '../optimizer/index.ts'
import type { ProfileStore } from '../profiles/index.ts'
import type { Manifest, Zoo } from '../zoo/index.ts'
import { type Candidate, candidate, type Profiled } from './candidate.ts'
import { Fitted } from './fitted.ts'
import { type Frontier, frontierOf } from './frontier.ts'
import { type Current, place } from './place.ts'
import { followedFrom, type KeptPlan, type KeptStart, PlanMemory } from './plan-memory.ts'
import { readSpeed } from './read-speed.ts'
import type { Budget } from './types.ts'
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
export interface Planned extends KeptStart {
  readonly manifests: ReadonlyMap<string, Manifest>
  /** where a start may come to the same and it is not kept yet */
  readonly start?: { readonly from: string; readonly request: PlanRequest } | undefined
}

export interface Planner {
  /** An infeasible plan is an answer. @throws BlockscaleError MODEL_UNKNOWN, PROBLEM_INVALID; ZOO_DAMAGED, also when no descendant of a block is whole */
  plan(request: PlanRequest): Promise<Planned>
  /** The plan is in force: the next start with the same wishes, limits, models and profiles takes it as it is. */
  keep(planned: Planned): void
  /** The whole trade-off of a model; worked out once for each state of its profiles. @throws BlockscaleError NOT_FOUND */
  frontier(model: string): Promise<Frontier>
  close(): Promise<void>
}

/** Makes plans from what is profiled of the models, in a thread of its own, or remembers them. */
export function openPlanner(zoo: Zoo, store: ProfileStore, device: string, log: Log = silentLog): Planner {
  let solver: Promise<SolverThread> | undefined
  const memory = new PlanMemory(zoo.deviceFolder(device), log)
  const fitted = new Fitted(store, device)
  const frontiers = new WeakMap<Profiled['sizes'], Promise<Frontier>>()
  let keeping: Promise<void> = Promise.resolve()
  const planner: Planner = {
    async plan(request) {
      const { wishes, budget, workers, current, objective, nearest, isDamaged = () => false } = request
      const manifests = new Map<string, Manifest>()
      for (const { model } of wishes) manifests.set(model, await zoo.manifest(modelId(model)))
      // What is live already makes other plans worth a swap, and a start has nothing live.
      const isOfStart = current.size === 0 && (objective ?? 'quality') === 'quality' && !nearest
      const from = isOfStart ? followedFrom(request, manifests, statesOf(fitted, manifests)) : undefined
      const kept = from && (await memory.recall(from, manifests, workers))
      if (kept && isWhole(kept, isDamaged)) {
        const first = kept.first && isWhole(kept.first, isDamaged) ? unsolved(kept.first) : undefined
        return { ...unsolved(kept), first, manifests }
      }
      const profiled = new Map<string, Profiled>()
      for (const [model, manifest] of manifests) profiled.set(model, profiledModel(fitted, manifest))
      let aroundDamage = false
      // Not before it is needed: a start that remembers its plan does without.
      solver ??= import('../optimizer/index.ts').then(({ startSolver }) => startSolver())
      const { solve: solveProblem } = await solver
      const solve = async (landing: ReadonlyMap<string, number>, bytesPerMs?: number) => {
        const candidates = new Map<string, Candidate>()
        for (const wish of wishes) {
          const { model } = wish
          const options = {
            wish,
            current: current.get(model),
            expectedLoss: landing.get(model),
            isWhole: (block: string, descendant: string) => {
              const damaged = isDamaged(model, block, descendant)
              aroundDamage ||= damaged
              return !damaged
            },
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
        const plan = await solveProblem(problem, { nearest })
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
        manifests,
        chosen: new Map(plan.models.map((found) => [found.model, candidates.get(found.model)!.chosen(found)])),
        // Once it is mended, a start is to have what is damaged now.
        start: aroundDamage || !from ? undefined : { from, request },
      }
    },
    keep(planned) {
      const { plan, chosen, start } = planned
      if (!start || plan.status === 'infeasible') return
      memory.keep(start.from, { plan, chosen })
      keeping = keeping
        .then(() => firstOf(planned, start.request))
        .then((first) => {
          if (first) memory.keep(start.from, { plan, chosen, first })
        })
        .catch((error: Error) => log.warn({ error: error.message }, 'no plan to begin with was found'))
    },
    async frontier(model) {
      const { sizes } = profiledModel(fitted, await zoo.manifest(modelId(model)))
      const known = frontiers.get(sizes) ?? frontierOf([{ model, sizes }])
      frontiers.set(sizes, known)
      known.catch(() => frontiers.delete(sizes))
      return known
    },
    async close() {
      await keeping
      await memory.close()
      await (await solver)?.close()
    },
  }
  return planner

  /** The plan of least memory among those that are not much worse, where its files are much smaller; none where blocks are streamed anyway. */
  async function firstOf({ plan, manifests, chosen }: Planned, request: PlanRequest): Promise<KeptPlan | undefined> {
    if (plan.models.some(({ streaming }) => streaming)) return undefined
    const profiled = new Map([...manifests].map(([model, manifest]) => [model, profiledModel(fitted, manifest)]))
    const leasts = new Map(
      plan.models.map(({ model, predicted }) => {
        const original = profiled.get(model)!.sizes[0]!.predictor.originalQuality
        return [model, predicted.quality - FIRST_LOSS * Math.abs(original)]
      }),
    )
    const wishes = request.wishes.map((wish) => {
      const least = leasts.get(wish.model) ?? Number.NEGATIVE_INFINITY
      return { ...wish, minQuality: Math.max(wish.minQuality ?? Number.NEGATIVE_INFINITY, least) }
    })
    const found = await planner.plan({ ...request, wishes, objective: 'memory' })
    if (found.plan.status === 'infeasible') return undefined
    if (fileBytes(manifests, found.chosen) > FIRST_BYTES * fileBytes(manifests, chosen)) return undefined
    // A start goes by what is kept of it.
    await speedOf(zoo, device, [...profiled.values()])
    return { plan: found.plan, chosen: found.chosen }
  }
}

/** What a plan to begin with may lose, of the original's quality, more than the one that follows: it answers for a second or two. */
const FIRST_LOSS = 0.1
/** How much smaller its files must be to be worth a swap. */
const FIRST_BYTES = 0.6

/** Of the descendants that are chosen. */
const fileBytes = (manifests: ReadonlyMap<string, Manifest>, chosen: KeptPlan['chosen']): number => {
  let sum = 0
  for (const [model, choices] of chosen) {
    for (const { id, descendants } of manifests.get(model)!.blocks) {
      const choice = choices.find(({ block }) => block === id)
      sum += descendants.find((each) => each.id === choice?.descendant)?.file.bytes ?? 0
    }
  }
  return sum
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

const statesOf = (fitted: Fitted, manifests: ReadonlyMap<string, Manifest>): Map<string, string> =>
  new Map([...manifests].map(([model, manifest]) => [model, fitted.state(manifest)]))

/** What is remembered took no solving. */
const unsolved = ({ plan, chosen }: KeptPlan): KeptPlan => ({ plan: { ...plan, solveMs: 0 }, chosen })

const isWhole = ({ chosen }: KeptPlan, isDamaged: NonNullable<PlanRequest['isDamaged']>): boolean =>
  [...chosen].every(([model, choices]) =>
    choices.every(({ block, descendant }) => !isDamaged(model, block, descendant)),
  )

function profiledModel(fitted: Fitted, manifest: Manifest): Profiled {
  const { model } = manifest
  const sizes = fitted.of(manifest)
  if (sizes.length > 0) return { manifest, sizes }
  const hint = `Measure it with \`blockscale profile ${model}\`.`
  throw new BlockscaleError('NOT_FOUND', `nothing is measured of ${model} on this device yet`, hint)
}
