import { asBlockscaleError, BlockscaleError, type Clock, type Log } from '../base/index.ts'
import type { Plan } from '../optimizer/index.ts'
import type { Manifest, Zoo } from '../zoo/index.ts'
import { Damage, DescendantDamaged } from './damage.ts'
import type { Conditions } from './decide.ts'
import { Improving } from './improving.ts'
import { PlanInfeasible } from './infeasible.ts'
import type { Current } from './place.ts'
import type { Planned, Planner } from './planner.ts'
import type { Records } from './records.ts'
import { dropReplicas, type Stage, sameChoice } from './stage.ts'
import { swap } from './swap.ts'
import type { Budget, Change, Polisher, RuntimeHappening, SwapReport, WhatIf } from './types.ts'
import { fileBytesOf, type Target, type Unit } from './unit.ts'
import { modelInputs, modelOutputs, type UnitFiles } from './unit-files.ts'
import { least, type ModelWish, type Wishes, wishesByModel } from './wishes.ts'

export interface DeployingOptions {
  readonly stage: Stage
  readonly zoo: Zoo
  readonly planner: Planner
  readonly files: UnitFiles
  readonly records: Records
  readonly workers: number
  /** nothing is loaded before it resolves */
  readonly ready: Promise<void>
  readonly clock: Clock
  readonly log: Log
  readonly polisher?: Polisher | undefined
  readonly tell: (happening: RuntimeHappening) => void
  /** milliseconds that a plan must stay before anything is done for it; 250 unless given */
  readonly settleMs?: number | undefined
  /** milliseconds that reading files would take now */
  readonly readingMs: (paths: readonly string[]) => Promise<number>
}

/** A model that runs slower than it was profiled needs a faster plan for the same latency, and more of a core for the same rate. */
function slowed(wish: ModelWish, { slowdown }: Conditions): ModelWish {
  const factor = slowdown.get(wish.model) ?? 1
  const { maxLatencyMs, rate } = wish
  return {
    ...wish,
    rate: rate * factor,
    ...(maxLatencyMs === undefined ? {} : { maxLatencyMs: maxLatencyMs / factor }),
  }
}

/** A plan with the files of everything that it chose. */
type PlannedFiles = Planned & { readonly drafts: readonly Target[] }

/** What streams now, so that a plan that stays the same loads nothing. */
function streamOf({ windowBytes, chain }: Target): Current['stream'] {
  if (windowBytes === undefined) return undefined
  return { windowBytes, blocks: chain.filter(({ window }) => window?.isPassing).map(({ block }) => block) }
}

/** What makes a start with other files than the planned ones worth a swap. */
const WORTH_WAITING_MS = 200

/** What a start would read of a plan. */
const filesOf = (targets: readonly Target[]): Unit[] =>
  targets.flatMap(({ fused, chain }) => (fused ? [fused] : [...chain]))

const NOTHING: Plan = { status: 'optimal', solveMs: 0, models: [], binding: [] }

/** Keeps what is live in agreement with what is wished for: plans and swaps, one change at a time. */
export class Deploying {
  readonly #options: DeployingOptions
  #wishes: Wishes = { budget: {}, workloads: new Map() }
  #conditions: Conditions = { slowdown: new Map() }
  #plan = NOTHING
  #planId = ''
  #manifests = new Map<string, Manifest>()
  #turn: Promise<unknown> = Promise.resolve()
  readonly #improving: Improving
  readonly #damage = new Damage()
  #closed = false
  swaps = { count: 0, failed: 0, ms: 0, bytes: 0 }

  constructor(options: DeployingOptions) {
    this.#options = options
    const { stage, files, polisher, tell, log, settleMs } = options
    this.#improving = new Improving({
      ...{ stage, files, polisher, tell, log, settleMs },
      manifest: (model) => this.#manifests.get(model),
      maxLatencyMs: (model) => this.maxLatencyMs(model),
      limitBytes: () => this.limits.memoryBytes,
      inTurn: (work) => this.inTurn(work),
    })
  }

  get wishes(): Wishes {
    return this.#wishes
  }

  /** Memory and cores that there are: what was wished for, as far as the device allows it. */
  get limits(): Budget {
    return this.#within(this.#wishes.budget)
  }

  get plan(): { id: string; plan: Plan } {
    return { id: this.#planId, plan: this.#plan }
  }

  /** The manifest of what is live for a model. */
  manifest(model: string): Manifest | undefined {
    return this.#manifests.get(model)
  }

  /**
   * Plans for other wishes and makes the plan live.
   *
   * @param wanted the new wishes from the old ones, taken when it is this change's turn
   * @param keep makes the wishes outlive this process
   * @throws PlanInfeasible, and what planning and loading throw; then nothing has changed
   */
  change(wanted: (now: Wishes) => Wishes, why: string, keep?: (wishes: Wishes) => Promise<void>): Promise<Change> {
    return this.inTurn(async () => {
      const wishes = wanted(this.#wishes)
      const { planned, report } = await this.#realise(wishes, why)
      const { plan } = planned
      if (report === 'infeasible') {
        this.#options.tell({ kind: 'infeasible', plan, why })
        this.#options.records.decision({ at: this.#now(), action: 'refuse', why, readings: {} })
        throw new PlanInfeasible(plan)
      }
      this.#options.planner.keep(planned)
      this.#wishes = wishes
      await keep?.(wishes).catch((error: Error) => {
        this.#options.log.error(
          { error: error.message },
          'the workloads could not be written and will not survive a restart',
        )
      })
      return { plan, swap: report }
    })
  }

  /**
   * Plans for what the device allows now. Where nothing fits under it, the least plan is taken that does what was wished for.
   *
   * @returns whether something was swapped
   */
  adapt(conditions: Conditions, why: string): Promise<boolean> {
    return this.inTurn(async () => {
      const before = this.#conditions
      this.#conditions = conditions
      let realised = await this.#realise(this.#wishes, why)
      const short = realised.planned.plan.infeasible
      if (short?.constraint === 'memory') {
        this.#options.tell({ kind: 'limit', limit: 'memory', has: short.has, needs: short.needs, why })
        this.#conditions = { ...conditions, memoryBytes: short.needs }
        realised = await this.#realise(this.#wishes, why)
      }
      const { planned, report } = realised
      if (report === 'infeasible') {
        this.#conditions = before
        const { constraint, has, needs } = planned.plan.infeasible ?? { constraint: '', has: 0, needs: 0 }
        const limit = constraint.startsWith('latency') ? 'latency' : constraint === 'memory' ? 'memory' : 'cores'
        this.#options.tell({ kind: 'limit', limit, has, needs, why: `${why}; no plan fits, the one in force stays` })
        return false
      }
      return report !== null
    })
  }

  /**
   * Loads again what is live on an engine where files were gone when a new thread was to map them: the folder of compiled files may be
   * emptied at any time.
   */
  reload(core: number): Promise<void> {
    const { stage, files } = this.#options
    return this.inTurn(async () => {
      const onIt = [...stage.replicas].filter(([, replicas]) => replicas.some(({ target }) => target.core === core))
      dropReplicas(
        stage,
        onIt.map(([model]) => model),
      )
      for (const [model, { target, gear, residents }] of stage.live) {
        const manifest = this.#manifests.get(model)
        if (target.core !== core || !manifest) continue
        await files.chain(manifest, target.chain, target.inputSize)
        if (gear === 'fused') await files.fuse(manifest, target.chain, target.inputSize)
        for (const { unit } of [...residents, ...(stage.spares.get(model) ?? [])]) {
          await stage.residents.release(await stage.residents.acquire(core, unit))
        }
      }
    })
  }

  maxLatencyMs(model: string): number | undefined {
    return wishesByModel(this.#wishes.workloads.values()).find((wish) => wish.model === model)?.maxLatencyMs
  }

  whatIf({ workloads, budget, objective }: WhatIf): Promise<Plan> {
    const wishes = {
      budget: budget ?? this.#wishes.budget,
      workloads: workloads ? new Map(Object.entries(workloads)) : this.#wishes.workloads,
    }
    return this.#solve(wishes, objective).then(({ plan }) => plan)
  }

  /** Waits for changes under way; no more fusing after it. */
  async close(): Promise<void> {
    this.#closed = true
    this.#improving.close()
    await this.#turn
  }

  #solve({ budget, workloads }: Wishes, objective?: WhatIf['objective']): Promise<Planned> {
    const current = new Map(
      [...this.#options.stage.live].map(([model, { target, choices }]) => [
        model,
        { inputSize: target.inputSize, choices, core: target.core, stream: streamOf(target) },
      ]),
    )
    const wishes = wishesByModel(workloads.values()).map((wish) => slowed(wish, this.#conditions))
    if (wishes.length === 0) return Promise.resolve({ plan: NOTHING, manifests: new Map(), chosen: new Map() })
    return this.#options.planner.plan({
      wishes,
      budget: this.#within(budget),
      workers: this.#options.workers,
      current,
      objective,
      isDamaged: (model, block, descendant) => this.#damage.has(model, block, descendant),
    })
  }

  /** Plans and makes the plan live; and plans again without what turns out to be damaged, until all that it chose is found whole. */
  async #realise(wishes: Wishes, why: string): Promise<{ planned: Planned; report: SwapReport | null | 'infeasible' }> {
    const { zoo, log, tell } = this.#options
    await this.#damage.lookAgain(zoo)
    for (;;) {
      const planned = await this.#solve(wishes)
      if (planned.plan.status === 'infeasible') return { planned, report: 'infeasible' }
      try {
        const drafts = await this.#targets(planned)
        const first = await this.#sooner(planned, drafts)
        if (!first) return { planned, report: await this.#deploy({ ...planned, drafts }, wishes, why) }
        const report = await this.#deploy(first, wishes, `${why}; first what is read soonest`)
        this.#follow({ ...planned, drafts }, this.#planId, `${why}; what was planned is read`)
        return { planned: first, report }
      } catch (error) {
        if (!(error instanceof DescendantDamaged)) throw error
        const { model, block, descendant, message } = error
        this.#damage.note(error)
        log.error({ model, block, descendant, message }, 'a descendant is damaged; plans go without it')
        tell({ kind: 'damaged', model, block, descendant, why: message })
      }
    }
  }

  /** What there is to begin with, where nothing is live yet and the planned files are much longer in coming. */
  async #sooner(planned: Planned, drafts: readonly Target[]): Promise<PlannedFiles | undefined> {
    const { first, manifests } = planned
    if (!first || this.#planId !== '') return undefined
    const files = filesOf(drafts)
    const waiting = await this.#options.readingMs(files.map(({ path }) => path))
    if (waiting < WORTH_WAITING_MS) return undefined
    for (const [model, chosen] of first.chosen) {
      if (!(await this.#options.files.isCompiled(manifests.get(model)!, chosen))) return undefined
    }
    const sooner = { ...first, manifests, drafts: await this.#targets({ ...first, manifests }) }
    const share = fileBytesOf(filesOf(sooner.drafts)) / Math.max(fileBytesOf(files), 1)
    return waiting * (1 - share) >= WORTH_WAITING_MS ? sooner : undefined
  }

  /** Makes a plan live once what was live before it is, unless something else was wished for meanwhile. */
  #follow(planned: PlannedFiles, first: string, why: string): void {
    const following = this.inTurn(async () => {
      if (this.#closed || this.#planId !== first) return
      await this.#deploy(planned, this.#wishes, why).catch(async (error) => {
        if (!(error instanceof DescendantDamaged)) throw error
        await this.#realise(this.#wishes, why)
      })
    })
    following.catch((error: Error) => {
      this.#options.log.error({ error: error.message }, 'the plan to begin with stays')
    })
  }

  /** What was wished for, as far as the device allows it. */
  #within(budget: Budget): Budget {
    const { memoryBytes, cores } = this.#conditions
    return { memoryBytes: least(budget.memoryBytes, memoryBytes), cores: least(budget.cores, cores) }
  }

  async #deploy(planned: PlannedFiles, wishes: Wishes, why: string): Promise<SwapReport | null> {
    const { stage, records, ready, tell, clock } = this.#options
    await ready
    const started = clock.monotonic()
    const { plan, drafts } = planned
    const limitBytes = this.#within(wishes.budget).memoryBytes
    const from = this.#planId === '' ? null : this.#planId
    if (from === null && drafts.length === 0) return null
    if (from !== null && this.#isLive(drafts)) {
      this.#plan = plan
      const swapped = await swap(
        stage,
        drafts.map((target) => ({ ...target, plan: from })),
        limitBytes,
      )
      records.decision({ at: this.#now(), action: 'keep', why, readings: { swap_ms: swapped.ms } }, from)
      tell({ kind: 'plan', id: from, plan, why })
      this.#improving.settle()
      return null
    }
    const id = records.plan(plan, wishes.budget, why, this.#now())
    let swapped: Awaited<ReturnType<typeof swap>>
    try {
      swapped = await swap(
        stage,
        drafts.map((target) => ({ ...target, plan: id })),
        limitBytes,
      )
    } catch (thrown) {
      // That is planned around at once.
      if (thrown instanceof DescendantDamaged) throw thrown
      const { code, message } = asBlockscaleError(thrown)
      this.swaps = { ...this.swaps, failed: this.swaps.failed + 1 }
      tell({ kind: 'swap-failed', to: id, code, message })
      records.decision({ at: this.#now(), action: 'swap-failed', why: `${why}: ${message}`, readings: {} }, id)
      throw thrown
    }
    const { models, bytes, bytesByModel } = swapped
    const report = { from, to: id, models, bytes, ms: clock.monotonic() - started, why }
    this.#planId = drafts.length === 0 ? '' : id
    this.#plan = plan
    this.#manifests = new Map(planned.manifests)
    this.swaps = {
      ...this.swaps,
      count: this.swaps.count + 1,
      ms: this.swaps.ms + report.ms,
      bytes: this.swaps.bytes + bytes,
    }
    records.swap(report, (model) => bytesByModel.get(model) ?? 0, this.#now())
    tell({ kind: 'plan', id, plan, why })
    tell({ kind: 'swap', swap: report })
    for (const planned of plan.models) this.#tellStreaming(planned, id, why)
    this.#improving.settle()
    return report
  }

  #tellStreaming({ model, streaming, choices, predicted }: Plan['models'][number], id: string, why: string): void {
    if (!streaming) return
    const blocks = choices.filter(({ streamed }) => streamed).map(({ block }) => block)
    this.#options.tell({ kind: 'streaming', model, blocks, ...streaming, why })
    const readings = {
      window_bytes: streaming.windowBytes,
      read_bytes_per_second: streaming.readBytesPerSecond,
      predicted_latency_ms: predicted.latencyMs,
    }
    const how = blocks.length > 0 ? `${blocks.join(', ')} are streamed` : 'its blocks run one by one in the same memory'
    const reason = `${model} does not fit as a whole: ${how} (${why})`
    this.#options.records.decision({ at: this.#now(), action: 'stream', why: reason, readings }, id)
  }

  async #targets({ plan, manifests, chosen }: Planned): Promise<Target[]> {
    return Promise.all(
      plan.models.map(async ({ model, inputSize, core, predicted, streaming }): Promise<Target> => {
        const manifest = manifests.get(model)!
        const size = inputSize ?? manifest.sizes[0]!
        const chain = await this.#options.files.chain(manifest, chosen.get(model)!, size)
        return {
          model,
          plan: '',
          inputSize: size,
          core: core ?? 0,
          predicted,
          inputs: modelInputs(manifest, size),
          outputs: modelOutputs(manifest, size),
          chain,
          // What runs in a window has no room for the whole in one piece.
          ...(streaming
            ? { windowBytes: streaming.windowBytes }
            : { fused: await this.#options.files.fused(manifest, chain, size) }),
        }
      }),
    )
  }

  #isLive(targets: readonly Target[]): boolean {
    const { live } = this.#options.stage
    return (
      targets.length === live.size &&
      targets.every((target) => {
        const now = live.get(target.model)?.target
        return now && sameChoice(now, target)
      })
    )
  }

  #now(): number {
    return this.#options.clock.now()
  }

  /** Does something while no plan is changed. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new BlockscaleError('OVERLOADED', 'the runtime is shutting down'))
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }
}
