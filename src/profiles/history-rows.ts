import { iso } from './columns.ts'
import type { DecisionRecord, PlanRecord, Retention, SwapRecord } from './rows.ts'
import type { Rows } from './table-rows.ts'

/** @returns the plan's number, for swaps and decisions */
export function savePlan(rows: Rows, plan: PlanRecord): number {
  return rows.atomically(() => {
    const number = rows.put('plans', [], {
      made_at: iso(plan.at),
      why: plan.why,
      objective: plan.objective,
      status: plan.status,
      memory_limit_bytes: plan.memoryLimitBytes ?? null,
      cores_limit: plan.coresLimit ?? null,
      memory_bytes: plan.memoryBytes ?? null,
      cores: plan.cores ?? null,
      gap: plan.gap ?? null,
      solve_ms: plan.solveMs,
    })
    for (const { model, size, choices, predicted, verified } of plan.models) {
      rows.put('plan_models', [], {
        plan: number,
        model,
        input_height: size[0],
        input_width: size[1],
        predicted_quality: predicted.quality ?? null,
        predicted_quality_low: predicted.qualityLow ?? null,
        predicted_latency_ms: predicted.latencyMs ?? null,
        predicted_memory_bytes: predicted.memoryBytes ?? null,
        verified_quality: verified?.quality ?? null,
        verified_latency_ms: verified?.latencyMs ?? null,
        verified_memory_bytes: verified?.memoryBytes ?? null,
      })
      for (const [block, descendant] of Object.entries(choices)) {
        rows.put('plan_choices', [], { plan: number, model, block, descendant })
      }
    }
    return number
  })
}

/** The choices of the plan that was last written down for a model. */
export function lastChoices(
  rows: Rows,
  model: string,
): { readonly choices: Record<string, string>; readonly size: [number, number] } | undefined {
  const [last] = rows.all(
    'SELECT plan, input_height, input_width FROM plan_models WHERE model = ? ORDER BY plan DESC LIMIT 1',
    model,
  )
  if (!last) return undefined
  const chosen = rows.all('SELECT block, descendant FROM plan_choices WHERE plan = ? AND model = ?', last.plan, model)
  return {
    choices: Object.fromEntries(chosen.map(({ block, descendant }) => [String(block), String(descendant)])),
    size: [Number(last.input_height), Number(last.input_width)],
  }
}

export function saveSwap(rows: Rows, swap: SwapRecord): void {
  rows.atomically(() => {
    const number = rows.put('swaps', [], {
      swapped_at: iso(swap.at),
      model: swap.model,
      from_plan: swap.from ?? null,
      to_plan: swap.to ?? null,
      blocks: swap.blocks.length,
      bytes: swap.bytes,
      ms: swap.ms,
      why: swap.why,
    })
    for (const { block, from, to } of swap.blocks) {
      rows.put('swap_blocks', [], { swap: number, block, from_descendant: from ?? null, to_descendant: to })
    }
  })
}

export function saveDecision(rows: Rows, decision: DecisionRecord): void {
  rows.atomically(() => {
    const number = rows.put('decisions', [], {
      decided_at: iso(decision.at),
      action: decision.action,
      why: decision.why,
      plan: decision.plan ?? null,
    })
    for (const [name, value] of Object.entries(decision.readings)) {
      rows.put('readings', [], { decision: number, name, value })
    }
  })
}

/** Deletes the oldest rows beyond the numbers given. */
export function retain(
  rows: Rows,
  { plans = 5_000, swaps = 20_000, decisions = 20_000, combinations = 2_000 }: Retention,
): void {
  rows.atomically(() => {
    rows.run('DELETE FROM swaps WHERE swap <= (SELECT max(swap) FROM swaps) - ?', swaps)
    rows.run('DELETE FROM decisions WHERE decision <= (SELECT max(decision) FROM decisions) - ?', decisions)
    rows.run('DELETE FROM plans WHERE plan <= (SELECT max(plan) FROM plans) - ?', plans)
    rows.run(
      `DELETE FROM combinations WHERE combination IN (SELECT combination FROM
        (SELECT combination, row_number() OVER (PARTITION BY model ORDER BY combination DESC) AS age
          FROM combinations WHERE why <> 'original') WHERE age > ?)`,
      combinations,
    )
  })
}
