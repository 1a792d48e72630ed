import type { Resident, Residents } from './residents.ts'
import type { Gear } from './types.ts'
import { choicesOf, type Target } from './unit.ts'

const RECENT = 256

/**
 * One model as it is live: a choice of descendants that is loaded and answers requests.
 *
 * What it says never changes; a swap or another gear is another `Deployed`. Requests lease it while they run, and what it holds is
 * released after it was retired and the last lease came back.
 */
export class Deployed {
  readonly target: Target
  readonly gear: Gear
  /** in the order in which they run */
  readonly residents: readonly Resident[]
  readonly choices: Readonly<Record<string, string>>
  readonly #owner: Residents
  readonly #latencies: number[]
  readonly #since: number
  #count: number
  #leases = 0
  #idle: (() => void)[] = []

  /** @param before the deployment whose measurements this one goes on with */
  constructor(target: Target, gear: Gear, residents: readonly Resident[], owner: Residents, before?: Deployed) {
    this.target = target
    this.gear = gear
    this.residents = residents
    this.choices = choicesOf(target.chain)
    this.#owner = owner
    this.#latencies = before ? [...before.#latencies] : []
    this.#count = before ? before.#count : 0
    this.#since = before ? before.#since : performance.now()
  }

  get keys(): readonly string[] {
    return this.residents.map(({ unit }) => unit.key)
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
    await Promise.all(this.residents.map((resident) => this.#owner.release(resident)))
  }

  get ageMs(): number {
    return performance.now() - this.#since
  }

  get answered(): number {
    return this.#count
  }

  /** Median latency of the last `count` requests; nothing when there were fewer. */
  latest(count: number): number | undefined {
    if (this.#count < count) return undefined
    const last = Array.from({ length: count }, (_, i) => this.#latencies[(this.#count - 1 - i) % RECENT]!)
    return last.sort((a, b) => a - b)[count >> 1]
  }

  record(latencyMs: number): void {
    this.#latencies[this.#count++ % RECENT] = latencyMs
  }

  /** Latency of the network over the most recent requests. */
  measured(): { latencyMs: number | null; p95: number | null; count: number } {
    const sorted = [...this.#latencies].sort((a, b) => a - b)
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null
    return { latencyMs: at(0.5), p95: at(0.95), count: this.#count }
  }
}
