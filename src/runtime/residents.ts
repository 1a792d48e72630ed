import { BlockscaleError } from '../base/index.ts'
import type { Engine, SessionHold } from '../engine/index.ts'
import type { Unit } from './unit.ts'

/** A loaded unit and the right to use it on one engine. */
export interface Resident {
  readonly unit: Unit
  readonly core: number
  readonly hold: SessionHold
}

interface Entry {
  readonly unit: Unit
  holders: number
}

/**
 * Everything that is loaded, with the memory that it was measured to need.
 *
 * A unit counts from the moment its load is asked for until its engine has let it go, so that the sum is never too small.
 */
export class Residents {
  readonly #engines: readonly Engine[]
  readonly #loaded = new Map<string, Entry>()
  /** Units that were found right on this machine since the start: they are not run on zeros again. */
  readonly #checked = new Set<string>()
  #bytes = 0
  #peakBytes = 0

  constructor(engines: readonly Engine[]) {
    this.#engines = engines
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The greatest sum since the last reading. */
  takePeak(): number {
    const peak = this.#peakBytes
    this.#peakBytes = this.#bytes
    return peak
  }

  has(core: number, key: string): boolean {
    return this.#loaded.has(slot(core, key))
  }

  /** Bytes that loading these units on an engine would add; what is there already adds nothing. */
  missingBytes(core: number, units: readonly Unit[]): number {
    const missing = new Map(units.filter(({ key }) => !this.has(core, key)).map((unit) => [unit.key, unit]))
    return [...missing.values()].reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
  }

  /** Loads a unit or shares it, and runs it on zeros the first time. When that fails nothing stays loaded. */
  async acquire(core: number, unit: Unit): Promise<Resident> {
    const engine = this.#engines[core]
    if (!engine) throw new BlockscaleError('INTERNAL', `there is no engine ${core}`)
    this.#count(core, unit)
    let resident: Resident | undefined
    try {
      resident = { unit, core, hold: await engine.hold(unit.key, unit.path) }
      if (!this.#checked.has(checkMark(unit))) await engine.check(unit.key, unit.inputs, unit.outputs)
      this.#checked.add(checkMark(unit))
      return resident
    } catch (error) {
      if (resident) await this.release(resident)
      else this.#discount(core, unit)
      throw error
    }
  }

  async release({ core, unit, hold }: Resident): Promise<void> {
    try {
      await hold.release()
    } finally {
      this.#discount(core, unit)
    }
  }

  #count(core: number, unit: Unit): void {
    const entry = this.#loaded.get(slot(core, unit.key))
    if (entry) {
      entry.holders++
      return
    }
    this.#loaded.set(slot(core, unit.key), { unit, holders: 1 })
    this.#bytes += unit.memoryBytes
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes)
  }

  #discount(core: number, unit: Unit): void {
    const entry = this.#loaded.get(slot(core, unit.key))
    if (!entry || --entry.holders > 0) return
    this.#loaded.delete(slot(core, unit.key))
    this.#bytes -= entry.unit.memoryBytes
  }
}

const slot = (core: number, key: string): string => `${core}/${key}`
/** A block is checked again when it is to run at another size. */
const checkMark = ({ key, inputs }: Unit): string => `${key} ${inputs.map(({ dims }) => dims.join('x')).join(' ')}`
