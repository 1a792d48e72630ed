import { asBlockscaleError, type Clock, type Log } from '../base/index.ts'
import type { Manifest } from '../zoo/index.ts'
import { BATCHES, bestBatch, takesBatches } from './batch-trial.ts'
import { Deployed } from './deployed.ts'
import type { Deploying } from './deploying.ts'
import type { Records } from './records.ts'
import type { Crowd } from './scheduler.ts'
import { acquireAll, dropReplicas, fits, retire, type Stage } from './stage.ts'
import type { RuntimeHappening } from './types.ts'

export interface ThroughputOptions {
  readonly stage: Stage
  readonly deploying: Pick<Deploying, 'inTurn' | 'limits' | 'manifest' | 'maxLatencyMs' | 'plan'>
  /** engines */
  readonly workers: number
  readonly records: Pick<Records, 'decision'>
  readonly tell: (happening: RuntimeHappening) => void
  readonly clock: Clock
  readonly log: Log
  /** milliseconds between two looks; 500 unless given */
  readonly intervalMs?: number | undefined
}

const INTERVAL_MS = 500
/** A model is crowded when its requests wait for each other for this share of the time, or so many pictures were given up since the last look. */
const CROWDED_SHARE = 0.5
const CROWDED_MISSES = 2
/** Looks in a row that tell a crowd from a burst, and what a change brought from chance. */
const ENOUGH = 3
/** Answers in a second that a further engine must bring, as a factor: less is not worth its memory. */
const WORTH_IT = 1.1
/** Looks after which what nobody needs is given back. */
const IDLE = 60
/** Requests that tell a latency. */
const RECENT = 16

/** What was seen of one choice that is live. */
interface Watch {
  readonly choice: string
  crowd: Crowd
  at: number
  /** answers in a second, of the looks in a row at which it was crowded */
  rates: number[]
  calm: number
  /** a further engine that is on trial: what was answered in a second without it */
  trial: number | undefined
  /** whether further engines were found to be of no use */
  isAlone: boolean
  /** whether batches were tried */
  isBatched: boolean
}

/**
 * Helps models that cannot keep up with what they are asked: the same choice on a further engine while that has nothing else to do,
 * and several waiting frames in one run. Both are kept only where they raise throughput, as measured on this machine, and where the
 * memory limit, the cores and the wish for latency allow it.
 */
export class Throughput {
  readonly #options: ThroughputOptions
  readonly #timer: NodeJS.Timeout
  readonly #watched = new Map<string, Watch>()
  #busy: Promise<void> | undefined

  constructor(options: ThroughputOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.look(), options.intervalMs ?? INTERVAL_MS)
    this.#timer.unref()
  }

  /** One look at all models; nothing while the last one is under way. */
  look(): Promise<void> {
    this.#busy ??= this.#lookAtAll().finally(() => {
      this.#busy = undefined
    })
    return this.#busy
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#busy
  }

  async #lookAtAll(): Promise<void> {
    const { stage, log } = this.#options
    for (const model of this.#watched.keys()) if (!stage.live.has(model)) this.#watched.delete(model)
    for (const [model, deployed] of stage.live) {
      try {
        await this.#lookAt(model, deployed)
      } catch (thrown) {
        const { message } = asBlockscaleError(thrown)
        log.warn({ model, message }, 'a model that cannot keep up could not be helped')
      }
    }
  }

  async #lookAt(model: string, deployed: Deployed): Promise<void> {
    const { stage, clock } = this.#options
    const [crowd, at] = [stage.scheduler.crowd(model), clock.monotonic()]
    const watch = this.#watchOf(model, deployed, crowd, at)
    const ms = at - watch.at
    if (ms <= 0) return
    const isCrowded =
      crowd.crowdedMs - watch.crowd.crowdedMs >= CROWDED_SHARE * ms ||
      crowd.missed - watch.crowd.missed >= CROWDED_MISSES
    const rate = (1000 * (crowd.answered - watch.crowd.answered)) / ms
    Object.assign(watch, { crowd, at })
    watch.rates = isCrowded ? [...watch.rates, rate] : []
    watch.calm = isCrowded ? 0 : watch.calm + 1
    const replicas = stage.replicas.get(model) ?? []
    if (replicas.length > 0 && (watch.calm >= IDLE || !this.#isAllowed(replicas))) {
      const why = watch.calm >= IDLE ? 'one engine is enough again' : 'fewer cores are left'
      this.#alone(model, watch, why)
    } else if (replicas.some((replica) => !isUpToDate(replica, deployed))) {
      await this.#options.deploying.inTurn(() => this.#redo(model))
    } else if (watch.trial !== undefined) this.#judge(model, deployed, watch)
    else if (watch.rates.length >= ENOUGH) await this.#help(model, watch)
  }

  #watchOf(model: string, deployed: Deployed, crowd: Crowd, at: number): Watch {
    const choice = `${deployed.target.inputSize.join('x')} ${deployed.target.chain.map(({ key }) => key).join(' ')}`
    let watch = this.#watched.get(model)
    if (watch?.choice !== choice) {
      watch = { choice, crowd, at, rates: [], calm: 0, trial: undefined, isAlone: false, isBatched: false }
      this.#watched.set(model, watch)
    }
    return watch
  }

  /** Keeps a further engine on trial once it has shown what it brings, or gives it back. */
  #judge(model: string, deployed: Deployed, watch: Watch): void {
    const { deploying } = this.#options
    const [latest, limit] = [deployed.latencies.latest(RECENT), deploying.maxLatencyMs(model)]
    if (latest !== undefined && limit !== undefined && latest > limit && watch.rates.length > 0) {
      watch.isAlone = true
      this.#alone(model, watch, 'on several engines at once it is slower than is wished for')
    } else if (watch.calm >= ENOUGH) watch.trial = undefined
    else if (watch.rates.length >= ENOUGH) {
      const [before, now] = [watch.trial!, middle(watch.rates)]
      watch.trial = undefined
      watch.rates = []
      if (now >= WORTH_IT * before) return
      watch.isAlone = true
      this.#alone(
        model,
        watch,
        `a further engine brings ${now.toFixed(1)} answers a second in place of ${before.toFixed(1)}`,
      )
    }
  }

  async #help(model: string, watch: Watch): Promise<void> {
    const rate = middle(watch.rates)
    watch.rates = []
    if (!watch.isAlone && (await this.#options.deploying.inTurn(() => this.#replicate(model)))) {
      watch.trial = rate
      this.#told(model, `requests wait for each other at ${rate.toFixed(1)} answers a second`)
    } else if (!watch.isBatched) await this.#batch(model, watch)
  }

  /** Deploys what is live of a model on a further engine, where there is one and its memory fits. */
  async #replicate(model: string): Promise<boolean> {
    const { stage, workers } = this.#options
    const now = stage.live.get(model)
    if (!now || now.target.windowBytes !== undefined) return false
    const replicas = stage.replicas.get(model) ?? []
    const taken = new Set([now, ...replicas].map(({ target }) => target.core))
    const free = Array.from({ length: workers }, (_, core) => core).filter((core) => !taken.has(core))
    const own = (core: number) => [...stage.live.values()].filter(({ target }) => target.core === core).length
    const load = (core: number) => stage.scheduler.load(core) * 100 + own(core)
    const core = free.sort((a, b) => load(a) - load(b))[0]
    if (core === undefined || !this.#isAllowed([...replicas, { target: { ...now.target, core } }])) return false
    const replica = await this.#deploy(now, core)
    if (replica) stage.replicas.set(model, [...replicas, replica])
    return replica !== undefined
  }

  async #deploy(now: Deployed, core: number): Promise<Deployed | undefined> {
    const { stage, deploying } = this.#options
    const target = { ...now.target, core }
    const units = now.residents.map(({ unit }) => unit)
    const batchBytes = moreOfBatch(now, now.batch)
    if (!fits(stage, stage.residents.missingBytes(core, units) + batchBytes, deploying.limits.memoryBytes))
      return undefined
    const residents = await acquireAll(stage, target, units)
    const replica = new Deployed(target, now.gear, residents, stage.residents, now.latencies)
    if (now.batch > 1) replica.runInBatches(now.batch, batchBytes)
    return replica
  }

  /** Another gear or other weights run in place of those that the further engines have: they follow. */
  async #redo(model: string): Promise<void> {
    const { stage } = this.#options
    const now = stage.live.get(model)
    for (const old of stage.replicas.get(model) ?? []) {
      if (!now || isUpToDate(old, now)) continue
      const replica = await this.#deploy(now, old.target.core)
      // A swap cannot have come between: this is its turn.
      const others = (stage.replicas.get(model) ?? []).filter((each) => each !== old)
      if (replica) stage.replicas.set(model, [...others, replica])
      else if (others.length > 0) stage.replicas.set(model, others)
      else stage.replicas.delete(model)
      retire(stage, old)
    }
  }

  async #batch(model: string, watch: Watch): Promise<void> {
    const { stage, deploying } = this.#options
    watch.isBatched = true
    const now = stage.live.get(model)
    const manifest: Manifest | undefined = deploying.manifest(model)
    if (!now || !manifest || now.target.windowBytes !== undefined || !takesBatches(manifest)) return
    // The engine keeps what a trial took, so that it counts from the trial on; and not while a swap reckons with what there is.
    const bytes = moreOfBatch(now, Math.max(...BATCHES))
    const isReserved = await deploying.inTurn(async () => {
      if (stage.live.get(model) !== now || !fits(stage, bytes, deploying.limits.memoryBytes)) return false
      now.runInBatches(1, bytes)
      return true
    })
    if (!isReserved) return
    const frames = await bestBatch(stage, now)
    if (frames === 1) return
    await deploying.inTurn(async () => {
      if (stage.live.get(model) !== now) return
      now.runInBatches(frames, bytes)
      for (const replica of stage.replicas.get(model) ?? []) {
        const more = moreOfBatch(replica, frames)
        if (fits(stage, more, deploying.limits.memoryBytes)) replica.runInBatches(frames, more)
      }
      this.#told(model, `${frames} waiting frames take less time in one run`)
    })
  }

  #alone(model: string, watch: Watch, why: string): void {
    watch.trial = undefined
    watch.rates = []
    dropReplicas(this.#options.stage, [model])
    this.#told(model, why)
  }

  /** Whether models, with these replicas, run on no more engines than there are cores for them. */
  #isAllowed(replicas: readonly { readonly target: Deployed['target'] }[]): boolean {
    const { stage, deploying, workers } = this.#options
    const used = new Set([...stage.live.values(), ...replicas].map(({ target }) => target.core))
    return used.size <= Math.floor(deploying.limits.cores ?? workers)
  }

  #told(model: string, why: string): void {
    const { stage, tell, records, deploying, clock } = this.#options
    const engines = 1 + (stage.replicas.get(model)?.length ?? 0)
    const batch = stage.live.get(model)?.batch ?? 1
    tell({ kind: 'throughput', model, engines, batch, why })
    const action = engines > 1 ? 'replicate' : batch > 1 ? 'batch' : 'single'
    records.decision(
      { at: clock.now(), action, why: `${model}: ${why}`, readings: { engines, batch } },
      deploying.plan.id,
    )
  }
}

/** What frames of a batch take beside the first: at most what a model takes beside its files, which stay mapped once. */
const moreOfBatch = ({ residents }: Deployed, frames: number): number =>
  (frames - 1) * residents.reduce((sum, { unit }) => sum + Math.max(0, unit.memoryBytes - unit.fileBytes), 0)

const isUpToDate = (replica: Deployed, now: Deployed): boolean =>
  replica.gear === now.gear && replica.keys.join() === now.keys.join() && replica.target.plan === now.target.plan

const middle = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!
