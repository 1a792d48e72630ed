import { availableParallelism } from 'node:os'
import { asBlockscaleError, BlockscaleError, modelId, silentLog, systemClock } from '../base/index.ts'
import { Engine } from '../engine/index.ts'
import { type Device, openProfiles, type ProfileStore, thisDevice } from '../profiles/index.ts'
import { type Manifest, openZoo, type Zoo } from '../zoo/index.ts'
import { Builder } from './builder.ts'
import { type Controller, startController } from './controller.ts'
import type { Deployed } from './deployed.ts'
import { Deploying } from './deploying.ts'
import { processMemory } from './memory.ts'
import { openPlanner } from './planner.ts'
import { readingMs } from './read-speed.ts'
import { Records } from './records.ts'
import { Requests } from './requests.ts'
import { Residents } from './residents.ts'
import { Scheduler } from './scheduler.ts'
import type { Stage } from './stage.ts'
import { Standing } from './standing.ts'
import { summaryOf } from './summary.ts'
import { Tallies } from './tallies.ts'
import { Throughput } from './throughput.ts'
import type { LiveModel, Runtime, RuntimeEvent, RuntimeHappening, RuntimeOptions, Workload } from './types.ts'
import { UnitFiles } from './unit-files.ts'
import { budgetSchema, checkWish, readWishes, type Wishes, wishesByModel, workloadSchema } from './wishes.ts'

/** Workloads that `load` makes; a person's own names are free. */
const defaultWorkload = (model: string): string => `default:${model}`

/**
 * Opens a zoo, loads what its workloads ask for, and answers requests.
 *
 *     const runtime = await openRuntime({ zoo: 'zoo', models: ['mobilenetv2'], budget: { memoryBytes: 32e6 } })
 *     const { answer } = await runtime.predict('mobilenetv2', picture)
 *     await runtime.close()
 *
 * @throws PlanInfeasible when the budget or the models that were given do not fit; DATABASE_NEWER, DATABASE_FAILED, ZOO_DAMAGED
 */
export async function openRuntime(options: RuntimeOptions): Promise<Runtime> {
  const log = options.log ?? silentLog
  const clock = options.clock ?? systemClock
  const workers = Math.max(1, Math.floor(options.workers ?? availableParallelism()))
  const listeners = new Set<(event: RuntimeEvent) => void>()
  const tell = (happening: RuntimeHappening) => {
    for (const listener of listeners) listener({ ...happening, at: clock.now() })
  }
  const live = new Map<string, Deployed>()
  let atStart: ReturnType<typeof processMemory> | undefined
  // First of all: the threads load ONNX Runtime while this one reads what they are to load.
  const engines = Array.from({ length: workers }, (_, core) => {
    const onReplaced = (why: string, requests: number) => tell({ kind: 'engine-replaced', core, why, requests })
    const onMissing = () => {
      deploying.reload(core).catch((error: Error) => {
        log.error({ core, error: error.message }, 'what an engine has lost cannot be loaded again')
      })
    }
    return new Engine({ log, onReplaced, onMissing })
  })
  const replicas = new Map<string, readonly Deployed[]>()
  const ready = Promise.all(engines.map((engine) => engine.ready())).then(() => {
    // What the threads take by themselves is no model's memory.
    atStart = processMemory()
  })
  ready.catch(() => {})
  const zoo = openZoo(options.zoo)
  const device = thisDevice()
  const { stored, store } = await opened(zoo, device).catch(async (error) => {
    await Promise.all(engines.map((engine) => engine.close()))
    throw error
  })
  const weights = new Map<string, number>()
  const scheduler = new Scheduler(engines, {
    live: (model) => live.get(model),
    replicas: (model) => replicas.get(model) ?? [],
    weight: (model) => weights.get(model) ?? 1,
    ...(options.queueLimit === undefined ? {} : { queueLimit: options.queueLimit }),
  })
  const stage: Stage = {
    live,
    scheduler,
    residents: new Residents(engines),
    spares: new Map(),
    replicas,
    retiring: new Set(),
    shapes: new Map(),
  }
  const [builder, background] = [new Builder(0), new Builder(10)]
  const planner = openPlanner(zoo, store, device.key, log)
  const records = new Records(store, log)
  const deploying = new Deploying({
    stage,
    zoo,
    planner,
    files: new UnitFiles({ zoo, builder, background, device: device.key }),
    records,
    workers,
    ready,
    polisher: options.polisher,
    readingMs: options.readingMs ?? ((paths) => readingMs(zoo.deviceFolder(device.key), paths)),
    clock,
    log,
    tell,
  })
  const tallies = new Tallies()
  const requests = new Requests({ scheduler, tallies, clock, manifest: (model) => deploying.manifest(model) })
  const known = new Map<string, Manifest>()
  const unreadable = new Map<string, BlockscaleError>()
  const standing = new Standing(deploying, zoo.dir)
  const throughput = new Throughput({ stage, deploying, workers, records, tell, clock, log })
  let controller: Controller | undefined
  let closing: Promise<void> | undefined

  async function change(wanted: (now: Wishes) => Wishes, why: string) {
    const result = await standing.change(wanted, why)
    weigh()
    return result
  }

  function weigh(): void {
    weights.clear()
    for (const { model, weight } of wishesByModel(deploying.wishes.workloads.values())) weights.set(model, weight)
  }

  async function refresh(): Promise<void> {
    const built = await zoo.models()
    for (const models of [known, unreadable]) {
      for (const model of models.keys()) if (!built.includes(modelId(model))) models.delete(model)
    }
    for (const model of built) {
      try {
        known.set(model, await zoo.manifest(model))
        unreadable.delete(model)
      } catch (thrown) {
        const error = asBlockscaleError(thrown)
        log.warn({ model, error: error.message }, 'a model of the zoo cannot be read')
        unreadable.set(model, error)
        known.delete(model)
      }
    }
  }

  const isRunning = (core: number): boolean => engines[core]!.isRunning

  function reasonOf(model: string): string | undefined {
    const deployed = live.get(model)
    if (deployed) return isRunning(deployed.target.core) ? undefined : 'its engine has ended and is being replaced'
    return standing.unserved.find((each) => each.model === model)?.why
  }

  function liveModel(deployed: Deployed): LiveModel {
    const { target, gear } = deployed
    const manifest = deploying.manifest(target.model)
    const files = new Map(
      manifest?.blocks.flatMap((block) => block.descendants.map(({ id, file }) => [`${block.id}/${id}`, file.bytes])),
    )
    const others = replicas.get(target.model) ?? []
    const spare = stage.spares.get(target.model) ?? []
    return {
      model: target.model,
      inputSize: target.inputSize,
      blocks: target.chain.map(({ block, descendant, kind, fileBytes, window }) => ({
        id: block,
        descendant,
        kind,
        bytes: files.get(`${block}/${descendant}`) ?? fileBytes,
        ...(window?.isPassing ? { streamed: true } : {}),
      })),
      gear,
      core: target.core,
      replicas: others.map((replica) => replica.target.core),
      batch: deployed.batch,
      predicted: target.predicted,
      measured: {
        ...deployed.latencies.measured(),
        memoryBytes:
          [deployed, ...others].reduce((sum, { memoryBytes }) => sum + memoryBytes, 0) +
          spare.reduce((sum, { unit }) => sum + unit.memoryBytes, 0),
      },
      state: !isRunning(target.core) ? 'failed' : scheduler.isPaused(target.model) ? 'swapping' : 'ready',
    }
  }

  const runtime: Runtime = {
    models() {
      // What was built meanwhile is in the next answer.
      refresh().catch((error: Error) => log.warn({ error: error.message }, 'the zoo cannot be read'))
      return [...known.values()].map((manifest) =>
        summaryOf(manifest, live.has(manifest.model), reasonOf(manifest.model)),
      )
    },
    workloads: () => standing.workloads,
    async putWorkload(id, workload) {
      const checked = checkWish(workloadSchema, workload, 'workload')
      await zoo.manifest(modelId(checked.model))
      const result = await change((now) => withWorkload(now, id, checked), `workload ${id} asks for ${checked.model}`)
      tell({ kind: 'workload', id, workload: checked })
      await refresh()
      return result
    },
    async deleteWorkload(id) {
      const result = await change((now) => {
        if (!now.workloads.has(id)) throw new BlockscaleError('NOT_FOUND', `there is no workload "${id}"`)
        return without(now, ([other]) => other === id)
      }, `workload ${id} has ended`)
      tell({ kind: 'workload', id, workload: null })
      return result
    },
    budget: () => ({ ...deploying.wishes.budget, usedBytes: stage.residents.bytes }),
    async setBudget(budget) {
      const checked = checkWish(budgetSchema, budget, 'budget')
      const result = await change((now) => ({ ...now, budget: checked }), `the budget is now ${describe(checked)}`)
      tell({ kind: 'budget', budget: checked })
      return result
    },
    live() {
      const { id, plan } = deploying.plan
      const now = processMemory()
      const before = atStart ?? now
      const growth = now.anonymousBytes - before.anonymousBytes + (now.fileBytes - before.fileBytes)
      return {
        id,
        plan,
        models: [...live.values()].map(liveModel),
        unserved: standing.unserved,
        memory: {
          limitBytes: deploying.wishes.budget.memoryBytes,
          plannedBytes: stage.residents.bytes,
          measuredBytes: Math.max(0, growth),
        },
      }
    },
    async whatIf({ workloads, budget, objective }) {
      const wishes = Object.entries(workloads ?? {}).map(([id, workload]): [string, Workload] => [
        id,
        checkWish(workloadSchema, workload, `workload ${id}`),
      ])
      return deploying.whatIf({
        objective,
        ...(workloads ? { workloads: Object.fromEntries(wishes) } : {}),
        ...(budget ? { budget: checkWish(budgetSchema, budget, 'budget') } : {}),
      })
    },
    framesAtOnce: (model) => 1 + (replicas.get(model)?.length ?? 0),
    missed: (model) => scheduler.missed(model),
    frontier: (model) => planner.frontier(model),
    predict: (model, picture, request = {}) => requests.predict(model, picture, request),
    infer: (model, feeds, outputs, request = {}) => requests.infer(model, feeds, outputs, request),
    async load(model) {
      await zoo.manifest(modelId(model))
      const result = await change((now) => withDefault(anew(now, model), model), `${model} is to be loaded`)
      await refresh()
      return result
    },
    unload: (model) =>
      change((now) => without(now, ([, workload]) => workload.model === model), `${model} is to be unloaded`),
    events(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    statistics: () => ({
      models: tallies.statistics((model) => scheduler.queueLength(model)),
      swaps: deploying.swaps,
      loads: stage.residents.loads,
      engines: engines.map(({ replaced }, core) => ({ core, queueLength: scheduler.load(core), replaced })),
    }),
    close() {
      closing ??= (async () => {
        await Promise.all([controller?.close(), throughput.close()])
        await Promise.all([scheduler.close(), deploying.close()])
        await Promise.all([
          builder.close(),
          background.close(),
          planner.close(),
          ...engines.map((engine) => engine.close()),
        ])
        store.close()
      })()
      return closing
    },
  }

  try {
    await refresh()
    await start()
    await ready
    controller = await startController(options.control, { stage, deploying, records, workers, clock, log, tell })
  } catch (error) {
    await runtime.close()
    throw error
  }
  return runtime

  async function start(): Promise<void> {
    const { models = [] } = options
    const budget = options.budget ? checkWish(budgetSchema, options.budget, 'budget') : stored.budget
    const isNew = stored.workloads.size === 0
    let wishes: Wishes = { budget, workloads: stored.workloads }
    for (const model of models === 'all' ? (isNew ? [...known.keys(), ...unreadable.keys()] : []) : models) {
      if (!unreadable.has(model)) await zoo.manifest(modelId(model))
      wishes = withDefault(wishes, model)
    }
    const faults = new Map(unreadable)
    for (const { model } of wishes.workloads.values()) {
      if (known.has(model) || faults.has(model)) continue
      faults.set(
        model,
        new BlockscaleError('MODEL_UNKNOWN', `${model} is not built`, `prepare it with \`blockscale build ${model}\``),
      )
    }
    const isAsked = options.budget !== undefined || (models !== 'all' && models.length > 0)
    await standing.start(wishes, { faults, isAsked })
    weigh()
    for (const { id, model, why } of standing.unserved)
      log.error({ workload: id, model, why }, 'a workload is not served')
  }
}

async function opened(zoo: Zoo, device: Device): Promise<{ stored: Wishes; store: ProfileStore }> {
  const stored = await readWishes(zoo.dir)
  const store = openProfiles(zoo.profilesPath)
  store.saveDevice(device)
  return { stored, store }
}

const withWorkload = ({ budget, workloads }: Wishes, id: string, workload: Workload): Wishes => ({
  budget,
  workloads: new Map([...workloads, [id, workload]]),
})

function withDefault(wishes: Wishes, model: string): Wishes {
  const asked = [...wishes.workloads.values()].some((workload) => workload.model === model)
  return asked ? wishes : withWorkload(wishes, defaultWorkload(model), { model })
}

/** The workloads of a model asked for again, so that what keeps them from being served is said. */
const anew = ({ budget, workloads }: Wishes, model: string): Wishes => ({
  budget,
  workloads: new Map([...workloads].map(([id, each]) => [id, each.model === model ? { ...each } : each])),
})

const without = ({ budget, workloads }: Wishes, gone: (entry: [string, Workload]) => boolean): Wishes => ({
  budget,
  workloads: new Map([...workloads].filter((entry) => !gone(entry))),
})

function describe({ memoryBytes, cores }: { memoryBytes?: number | undefined; cores?: number | undefined }): string {
  const parts = [
    ...(memoryBytes === undefined ? [] : [`${(memoryBytes / 1e6).toFixed(1)} MB`]),
    ...(cores === undefined ? [] : [`${cores} cores`]),
  ]
  return parts.join(' and ') || 'without limits'
}
