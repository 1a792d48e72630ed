import { type Problem, type ProblemModel, solve } from '../src/optimizer/index.ts'
import { openProfiles, predictors, problemModel, thisDevice } from '../src/profiles/index.ts'
import { openZoo } from '../src/zoo/index.ts'

/** Mixes of the models of a zoo, as measured on this device, under limits between the least that they need and what the originals take. */
export async function measuredInstances(dir: string): Promise<{ kind: string; problem: Problem }[]> {
  const zoo = openZoo(dir)
  const store = openProfiles(zoo.profilesPath, { readOnly: true })
  const device = thisDevice().key
  const models: ProblemModel[] = []
  for (const id of await zoo.models()) {
    const sizes = predictors(store, await zoo.manifest(id), device)
    if (sizes.length > 0) models.push(problemModel(id, sizes))
  }
  store.close()
  if (models.length === 0) throw new Error(`no model of ${dir} is measured on this device`)
  const mixes = [...models.map((model) => [model]), models]
  return mixes.flatMap((mix) => {
    const kind = mix.map(({ id }) => id).join(' + ')
    const least = solve({ objective: 'memory', models: mix }).totals!.memoryBytes
    const whole = solve({ models: mix })
    return [0.05, 0.15, 0.3, 0.6].flatMap((part) =>
      [1, 0.6].map((speed) => {
        const limited = mix.map((model, m) => ({
          ...model,
          rate: 10,
          ...(speed < 1 ? { maxLatencyMs: speed * whole.models[m]!.predicted.latencyMs } : {}),
        }))
        const memoryBytes = Math.round(least + part * (whole.totals!.memoryBytes - least))
        return { kind, problem: { memoryBytes, cores: 2, models: limited } }
      }),
    )
  })
}
