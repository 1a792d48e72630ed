import type { PlannedModel } from '../optimizer/index.ts'
import type { CurrentStream } from './streaming.ts'

/** What is live of a model. */
export interface Current {
  readonly inputSize: readonly [number, number]
  readonly choices: Readonly<Record<string, string>>
  readonly core: number
  /** where some of its blocks are streamed */
  readonly stream?: CurrentStream | undefined
}

/**
 * Gives each model of a plan its engine.
 *
 * The solver says which models share a core; which core that is, does not matter to it. So each of its cores becomes the engine that
 * already runs most of its models, and nothing is loaded anew only because cores were numbered otherwise.
 */
export function place(
  models: readonly PlannedModel[],
  options: {
    readonly workers: number
    readonly rates: ReadonlyMap<string, number>
    readonly current: ReadonlyMap<string, Pick<Current, 'core'>>
  },
): PlannedModel[] {
  const { workers, rates, current } = options
  const busy = (planned: PlannedModel) => planned.predicted.latencyMs * (rates.get(planned.model) || 1)
  const load = Array.from({ length: workers }, () => 0)
  const engineOf = new Map<string, number>()
  const settle = (planned: PlannedModel, engine: number) => {
    engineOf.set(planned.model, engine)
    load[engine]! += busy(planned)
  }

  const free = new Set(load.keys())
  const groups = new Map<number, PlannedModel[]>()
  for (const planned of models) {
    const { core, model } = planned
    if (core === undefined || core >= workers || !rates.get(model)) continue
    groups.set(core, [...(groups.get(core) ?? []), planned])
  }
  const overlap = (group: readonly PlannedModel[], engine: number) =>
    group.filter(({ model }) => current.get(model)?.core === engine).length
  const pairs = [...groups.values()]
    .flatMap((group) => [...load.keys()].map((engine) => ({ group, engine, overlap: overlap(group, engine) })))
    .sort((a, b) => b.overlap - a.overlap)
  for (const { group, engine } of pairs) {
    if (!free.has(engine) || engineOf.has(group[0]!.model)) continue
    free.delete(engine)
    for (const planned of group) settle(planned, engine)
  }

  // Without a rate a model weighs nothing to the solver, and its core means nothing: such models stay where they are, or go where least is done.
  const open = models.filter(({ model }) => !engineOf.has(model)).sort((a, b) => busy(b) - busy(a))
  const now = (planned: PlannedModel) => current.get(planned.model)?.core ?? workers
  for (const planned of open) if (now(planned) < workers) settle(planned, now(planned))
  for (const planned of open) if (now(planned) >= workers) settle(planned, load.indexOf(Math.min(...load)))
  return models.map((planned) => ({ ...planned, core: engineOf.get(planned.model)! }))
}
