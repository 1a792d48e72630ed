import { BlockscaleError } from '../base/index.ts'
import type { Engine, PortFact, SessionHold, Shapes, Windowed } from '../engine/index.ts'
import type { Unit } from './unit.ts'

/** A loaded unit and the right to use it on one engine. */
export interface Resident {
  readonly unit: Unit
  readonly core: number
  readonly hold: SessionHold
}

interface Entry {
  holders: number
  /** the most that it was held for: what a session once took for a larger input, it keeps */
  bytes: number
}

/**
 * Everything that is loaded, with the memory that it was measured to need.
 *
 * A unit counts from the moment its load is asked for until its engine has let it go, so that the sum is never too small.
 */
export class Residents {
  readonly #engines: readonly Engine[]
  readonly #loaded = new Map<string, Entry>()
  /** What was found right on this machine since the start is not run on zeros again. */
  readonly #checked = new Set<string>()
  #bytes = 0
  #peakBytes = 0
  #loads = { count: 0, ms: 0, bytes: 0 }

  constructor(engines: readonly Engine[]) {
    this.#engines = engines
  }

  get bytes(): number {
    return this.#bytes
  }

  /** What engines were busy with beside requests: files mapped and run on zeros, and the bytes of those files. */
  get loads(): { readonly count: number; readonly ms: number; readonly bytes: number } {
    return this.#loads
  }

  /** Milliseconds that mapping so many bytes would take an engine, going by what was mapped so far. */
  loadMs(bytes: number): number {
    return this.#loads.bytes === 0 ? 0 : (bytes * this.#loads.ms) / this.#loads.bytes
  }

  /** The greatest sum since the last reading. */
  takePeak(): number {
    const peak = this.#peakBytes
    this.#peakBytes = this.#bytes
    return peak
  }

  /** Counts memory that is needed beside what units need. @returns the function that gives it back */
  reserve(bytes: number): () => void {
    let reserved = bytes
    this.#bytes += reserved
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes)
    return () => {
      this.#bytes -= reserved
      reserved = 0
    }
  }

  has(core: number, key: string): boolean {
    return this.#loaded.has(slot(core, key))
  }

  /** Bytes that loading these units on an engine would add; what is there already adds nothing, unless it takes more at another input size. */
  missingBytes(core: number, units: readonly Unit[]): number {
    const different = new Map(units.map((unit) => [unit.key, unit]))
    return [...different.values()].reduce(
      (sum, { key, memoryBytes }) => sum + Math.max(0, memoryBytes - this.bytesOf(core, key)),
      0,
    )
  }

  /** What a loaded unit counts for: more than it needs where it ran at a larger input size. */
  bytesOf(core: number, key: string): number {
    return this.#loaded.get(slot(core, key))?.bytes ?? 0
  }

  /**
   * Loads a unit or shares it, once its file is found whole, and runs it on zeros the first time, if its border is known. When that fails nothing stays loaded.
   *
   * One that runs in a window is not run yet: that memory is only had once all that share it were acquired.
   */
  async acquire(core: number, unit: Unit): Promise<Resident> {
    const engine = this.#engines[core]
    if (!engine) throw new BlockscaleError('INTERNAL', `there is no engine ${core}`)
    this.#count(core, unit)
    let resident: Resident | undefined
    try {
      await unit.whole?.()
      resident = { unit, core, hold: await engine.hold(unit.key, unit.path, windowedOf(unit)) }
      const { loadMs } = resident.hold
      if (loadMs > 0) this.#busy(loadMs, unit.fileBytes)
      if (isKnown(unit.inputs) && !unit.window) await this.check(core, [unit], unit.inputs, unit.outputs)
      return resident
    } catch (error) {
      if (resident) await this.release(resident)
      else this.#discount(core, unit)
      throw error
    }
  }

  /**
   * Runs loaded units on zeros, once for each chain and size since the start.
   *
   * @returns the shapes of the values at their borders; nothing when they were checked before
   */
  async check(
    core: number,
    chain: readonly Unit[],
    inputs: readonly PortFact[],
    outputs: readonly PortFact[],
  ): Promise<Shapes | undefined> {
    const keys = chain.map(({ key }) => key)
    // The same file at another place of a model is another matter.
    const mark = JSON.stringify([keys, inputs, outputs])
    if (this.#checked.has(mark)) return undefined
    const { shapes, ms } = await this.#engines[core]!.check(keys, inputs, outputs).catch((error: BlockscaleError) => {
      if (error.code !== 'TENSOR_INVALID') throw error
      const where = chain
        .map(({ block, descendant }) => (block ? `${block}/${descendant}` : 'the fused graph'))
        .join(', ')
      throw new BlockscaleError(
        'GRAPH_INVALID',
        `what was loaded does not fit its borders (${where}): ${error.message}`,
      )
    })
    this.#checked.add(mark)
    this.#busy(ms, 0)
    return shapes
  }

  async release({ core, unit, hold }: Resident): Promise<void> {
    try {
      await hold.release()
    } finally {
      this.#discount(core, unit)
    }
  }

  #busy(ms: number, bytes: number): void {
    const { count, ms: before, bytes: all } = this.#loads
    this.#loads = { count: count + (bytes > 0 ? 1 : 0), ms: before + ms, bytes: all + bytes }
  }

  #count(core: number, unit: Unit): void {
    const entry = this.#loaded.get(slot(core, unit.key)) ?? { holders: 0, bytes: 0 }
    this.#loaded.set(slot(core, unit.key), entry)
    entry.holders++
    const more = Math.max(0, unit.memoryBytes - entry.bytes)
    entry.bytes += more
    this.#bytes += more
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes)
  }

  #discount(core: number, unit: Unit): void {
    const entry = this.#loaded.get(slot(core, unit.key))
    if (!entry || --entry.holders > 0) return
    this.#loaded.delete(slot(core, unit.key))
    this.#bytes -= entry.bytes
  }
}

const slot = (core: number, key: string): string => `${core}/${key}`

const windowedOf = ({ window, inputs, outputs }: Unit): Windowed | undefined =>
  window && {
    memoryBytes: window.bytes,
    ...(window.isPassing
      ? { passing: { inputs: inputs.map(({ name }) => name), outputs: outputs.map(({ name }) => name) } }
      : {}),
  }

/** Whether all sizes are known, so that zeros can be made. */
export const isKnown = (ports: readonly PortFact[]): boolean => ports.every(({ dims }) => !dims.includes(null))
