import type { Clock, Log } from '../base/index.ts'
import { type Conditions, type ControlState, decide, initialState, type Observation } from './decide.ts'
import type { Deploying } from './deploying.ts'
import { DeviceReader, type Readings } from './device.ts'
import type { Records } from './records.ts'
import type { Stage } from './stage.ts'
import { readTrace, traceAt } from './trace.ts'
import type { RuntimeHappening, RuntimeOptions } from './types.ts'

export interface ControllerOptions {
  readonly read: () => Readings
  readonly observe: () => Observation
  /** plans anew; says whether something was swapped */
  readonly adapt: (conditions: Conditions, why: string) => Promise<boolean>
  /** is told each decision to plan anew, and each reason to hold once */
  readonly record: (decision: 'replan' | 'hold', why: string, readings: Readings, swapped: boolean) => void
  /** milliseconds that never go back */
  readonly now: () => number
  readonly log: Log
  /** milliseconds between two looks; 1000 unless given */
  readonly intervalMs?: number | undefined
}

/** Looks at the device again and again and has plans made anew when it has changed for long enough. */
export class Controller {
  readonly #options: ControllerOptions
  readonly #timer: NodeJS.Timeout
  #state: ControlState = initialState
  #heldFor = ''
  #busy: Promise<void> | undefined

  constructor(options: ControllerOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.look(), options.intervalMs ?? 1_000)
    this.#timer.unref()
  }

  /** One look; while a change is under way there is nothing to decide. */
  look(): Promise<void> {
    this.#busy ??= this.#look()
      .catch((error: Error) =>
        this.#options.log.error({ error: error.message }, 'the controller could not adapt the plan'),
      )
      .finally(() => {
        this.#busy = undefined
      })
    return this.#busy
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#busy
  }

  async #look(): Promise<void> {
    const { read, observe, adapt, record, now } = this.#options
    const readings = read()
    const { state, decision } = decide(this.#state, readings, observe(), now())
    if (decision.kind === 'steady') this.#heldFor = ''
    if (decision.kind === 'hold' && this.#heldFor === '') {
      this.#heldFor = decision.why
      record('hold', decision.why, readings, false)
    }
    if (decision.kind === 'replan') {
      this.#heldFor = ''
      record('replan', decision.why, readings, await adapt(decision.conditions, decision.why))
    }
    // After the change: one that failed is tried again at the next look.
    this.#state = state
  }
}

export interface Controlled {
  readonly stage: Stage
  readonly deploying: Deploying
  readonly records: Records
  /** engines */
  readonly workers: number
  readonly clock: Clock
  readonly log: Log
  readonly tell: (happening: RuntimeHappening) => void
}

/** Starts what `control` asks for: nothing, a look at the device every second, or the replay of a trace. */
export async function startController(
  control: RuntimeOptions['control'],
  { stage, deploying, records, workers, clock, log, tell }: Controlled,
): Promise<Controller | undefined> {
  if (control === undefined) return undefined
  const device = new DeviceReader()
  const trace = control === 'device' ? undefined : await readTrace(control.trace)
  const startedAt = clock.monotonic()
  return new Controller({
    read: () => (trace ? traceAt(trace, clock.monotonic() - startedAt) : device.read()),
    observe: () => ({ usedBytes: stage.residents.bytes, engines: workers, drift: driftOf(stage) }),
    adapt: (conditions, why) => deploying.adapt(conditions, why),
    record(decision, why, readings, swapped) {
      tell({ kind: 'decision', decision, why })
      const action = decision === 'hold' ? 'hold' : swapped ? 'swap' : 'keep'
      records.decision({ at: clock.now(), action, why, readings: inColumns(readings) }, deploying.plan.id)
    },
    now: () => clock.monotonic(),
    log,
  })
}

/** Requests that tell a model's latency. */
const ENOUGH = 16
/** A chain that is about to be fused is no evidence that the device is slow. */
const YOUNG_MS = 5_000

function driftOf({ live, replicas }: Stage): Map<string, number> {
  const drift = new Map<string, number>()
  for (const [model, deployed] of live) {
    // What one frame costs another of the same model is no fault of the device.
    if (replicas.has(model)) continue
    const { latencyMs: predicted } = deployed.target.predicted
    const measured = deployed.latencies.latest(ENOUGH)
    const isYoung = deployed.gear === 'chain' && deployed.latencies.ageMs < YOUNG_MS
    if (measured !== undefined && predicted > 0 && !isYoung) drift.set(model, measured / predicted)
  }
  return drift
}

const COLUMNS: Readonly<Record<keyof Readings, string>> = {
  memoryForModelsBytes: 'memory_for_models_bytes',
  memoryAvailableBytes: 'memory_available_bytes',
  memoryTotalBytes: 'memory_total_bytes',
  cores: 'cores',
  memoryPressure: 'memory_pressure',
  cpuPressure: 'cpu_pressure',
  steal: 'steal',
  temperatureC: 'temperature_celsius',
  battery: 'battery',
}

const inColumns = (readings: Readings): Record<string, number> =>
  Object.fromEntries(
    Object.entries(readings).flatMap(([name, value]) =>
      value === undefined ? [] : [[COLUMNS[name as keyof Readings], value]],
    ),
  )
