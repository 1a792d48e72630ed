import type { ModelStatistics, Tally } from './types.ts'

type Part = 'success' | 'fail' | 'queue' | 'input' | 'infer' | 'output'
const parts: readonly Part[] = ['success', 'fail', 'queue', 'input', 'infer', 'output']

interface Sum {
  count: number
  ns: number
}

/** Counts requests and sums their times, by model. */
export class Tallies {
  readonly #models = new Map<string, Record<Part, Sum> & { lastInference: number; executions: number }>()

  /** @param times milliseconds */
  succeeded(model: string, at: number, times: Record<Exclude<Part, 'fail' | 'success'>, number>, executions = 1): void {
    const tally = this.#of(model)
    tally.lastInference = at
    tally.executions += executions
    const total = times.queue + times.input + times.infer + times.output
    for (const [part, ms] of Object.entries({ ...times, success: total }) as [Part, number][]) add(tally[part], ms)
  }

  failed(model: string, ms: number): void {
    add(this.#of(model).fail, ms)
  }

  statistics(queueLength: (model: string) => number): ModelStatistics[] {
    return [...this.#models].map(([model, { lastInference, executions, ...sums }]) => ({
      model,
      lastInference,
      inferenceCount: sums.success.count,
      executionCount: executions,
      ...(Object.fromEntries(parts.map((part) => [part, { ...sums[part] }])) as Record<Part, Tally>),
      queueLength: queueLength(model),
    }))
  }

  #of(model: string) {
    let tally = this.#models.get(model)
    if (!tally) {
      const sums = Object.fromEntries(parts.map((part) => [part, { count: 0, ns: 0 }])) as Record<Part, Sum>
      tally = { ...sums, lastInference: 0, executions: 0 }
      this.#models.set(model, tally)
    }
    return tally
  }
}

function add(sum: Sum, ms: number): void {
  sum.count++
  sum.ns += Math.round(ms * 1e6)
}
