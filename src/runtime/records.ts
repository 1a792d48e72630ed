import { blockId, descendantId, type Log, modelId } from '../base/index.ts'
import type { Plan } from '../optimizer/index.ts'
import type { DecisionRecord, ProfileStore } from '../profiles/index.ts'
import type { Choices } from '../zoo/index.ts'
import type { Budget, SwapReport } from './types.ts'

/** The oldest rows are deleted after so many writes, and at the start: the database stays bounded whatever is written most. */
const TIDY_EVERY = 500

/**
 * Writes plans, swaps and decisions to the profile database.
 *
 * The runtime goes on when that fails: a full disk must not stop a camera.
 */
export class Records {
  readonly #store: ProfileStore
  readonly #log: Log
  #unsaved = 0
  #sinceTidied = TIDY_EVERY

  constructor(store: ProfileStore, log: Log) {
    this.#store = store
    this.#log = log
  }

  /** @returns the plan's id: `plan-` and its number in the database */
  plan(plan: Plan, budget: Budget, why: string, at: number): string {
    const saved = this.#try(() =>
      this.#store.savePlan({
        at,
        objective: 'quality',
        status: plan.status,
        memoryLimitBytes: budget.memoryBytes,
        coresLimit: budget.cores,
        memoryBytes: plan.totals?.memoryBytes,
        cores: plan.totals?.cores,
        gap: plan.gap,
        solveMs: plan.solveMs,
        why,
        models: plan.models.map(({ model, inputSize, choices, predicted }) => ({
          model: modelId(model),
          size: inputSize ?? [0, 0],
          choices: Object.fromEntries(choices.map(({ block, descendant }) => [block, descendant])) as Choices,
          predicted,
        })),
      }),
    )
    return saved === undefined ? `plan-unsaved-${++this.#unsaved}` : `plan-${saved}`
  }

  /** @param bytesOf bytes of the files that were loaded for a model */
  swap(report: SwapReport, bytesOf: (model: string) => number, at: number): void {
    this.#try(() => {
      for (const { model, changed } of report.models) {
        const blocks = changed.flatMap(({ block, from, to }) =>
          to === null
            ? []
            : [{ block: blockId(block), to: descendantId(to), ...(from === null ? {} : { from: descendantId(from) }) }],
        )
        if (blocks.length === 0) continue
        this.#store.saveSwap({
          at,
          model: modelId(model),
          from: report.from === null ? undefined : numberOf(report.from),
          to: numberOf(report.to),
          blocks,
          bytes: bytesOf(model),
          ms: report.ms,
          why: report.why,
        })
      }
    })
  }

  decision(record: Omit<DecisionRecord, 'plan'>, plan?: string): void {
    this.#try(() => this.#store.saveDecision({ ...record, plan: plan === undefined ? undefined : numberOf(plan) }))
  }

  #try<T>(write: () => T): T | undefined {
    try {
      if (++this.#sinceTidied > TIDY_EVERY) {
        this.#sinceTidied = 0
        this.#store.retain()
      }
      return write()
    } catch (error) {
      this.#log.warn({ error: (error as Error).message }, 'the profile database could not be written')
      return undefined
    }
  }
}

/** The row of a plan; none for a plan that could not be written. */
function numberOf(id: string): number | undefined {
  const number = /^plan-(\d+)$/.exec(id)?.[1]
  return number === undefined ? undefined : Number(number)
}
