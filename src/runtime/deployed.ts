import { Latencies } from './latencies.ts'
import type { Resident, Residents } from './residents.ts'
import type { Gear } from './types.ts'
import { choicesOf, type Target } from './unit.ts'

/**
 * One model as it is live: a choice of descendants that is loaded and answers requests.
 *
 * What it says never changes; a swap, another gear or the same choice on another engine is another `Deployed`. Requests lease it while
 * they run, and what it holds is released after it was retired and the last lease came back.
 */
export class Deployed {
  readonly target: Target
  readonly gear: Gear
  /** in the order in which they run */
  readonly residents: readonly Resident[]
  readonly choices: Readonly<Record<string, string>>
  readonly #owner: Residents
  readonly latencies: Latencies
  #batch = { frames: 1, bytes: 0, giveBack: () => {} }
  #leases = 0
  #idle: (() => void)[] = []

  /** @param latencies of the same choice, where it goes on or runs on another engine too */
  constructor(
    target: Target,
    gear: Gear,
    residents: readonly Resident[],
    owner: Residents,
    latencies: Latencies = new Latencies(),
  ) {
    this.target = target
    this.gear = gear
    this.residents = residents
    this.choices = choicesOf(target.chain)
    this.#owner = owner
    this.latencies = latencies
  }

  get keys(): readonly string[] {
    return this.residents.map(({ unit }) => unit.key)
  }

  /** Frames that may run at once as one batch, where that many wait. */
  get batch(): number {
    return this.#batch.frames
  }

  /** What this keeps loaded, as it was measured to need. */
  get memoryBytes(): number {
    return this.residents.reduce((sum, { unit }) => sum + unit.memoryBytes, this.#batch.bytes)
  }

  /** @param memoryBytes what a batch takes beside what one frame does; it counts until this is retired */
  runInBatches(frames: number, memoryBytes: number): void {
    this.#batch.giveBack()
    this.#batch = { frames, bytes: memoryBytes, giveBack: this.#owner.reserve(memoryBytes) }
  }

  /** @returns the function that gives the lease back */
  lease(): () => void {
    this.#leases++
    let given = true
    return () => {
      if (!given) return
      given = false
      if (--this.#leases > 0) return
      for (const tell of this.#idle.splice(0)) tell()
    }
  }

  /** Resolves when no request runs on it. */
  idle(): Promise<void> {
    return this.#leases === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve))
  }

  /** To be called after another took its place: waits for the last lease and lets everything go. */
  async retire(): Promise<void> {
    await this.idle()
    this.#batch.giveBack()
    await Promise.all(this.residents.map((resident) => this.#owner.release(resident)))
  }
}
