const RECENT = 256

/** Latencies of the network over the most recent requests of one choice, whichever engines ran it. */
export class Latencies {
  readonly #recent: number[]
  readonly #since: number
  #count: number

  /** @param before what this one goes on from; nothing for a choice that is new */
  constructor(before?: Latencies) {
    this.#recent = before ? [...before.#recent] : []
    this.#count = before ? before.#count : 0
    this.#since = before ? before.#since : performance.now()
  }

  get ageMs(): number {
    return performance.now() - this.#since
  }

  get count(): number {
    return this.#count
  }

  record(latencyMs: number): void {
    this.#recent[this.#count++ % RECENT] = latencyMs
  }

  /** Median latency of the last `count` requests; nothing when there were fewer. */
  latest(count: number): number | undefined {
    if (this.#count < count) return undefined
    const last = Array.from({ length: count }, (_, i) => this.#recent[(this.#count - 1 - i) % RECENT]!)
    return last.sort((a, b) => a - b)[count >> 1]
  }

  measured(): { latencyMs: number | null; p95: number | null; count: number } {
    const sorted = [...this.#recent].sort((a, b) => a - b)
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null
    return { latencyMs: at(0.5), p95: at(0.95), count: this.#count }
  }
}
