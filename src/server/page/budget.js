import { useEffect, useState } from 'preact/hooks'
import { call } from './api.js'
import { LimitSlider } from './controls.js'
import * as format from './format.js'
import { html } from './html.js'
import { Meter } from './meter.js'

const cores = (value) => value.toFixed(2)

/** What all models share, what they take of it, and the sliders for both limits. */
export function Budget({ plan, budget, workloads, onBudget }) {
  const range = useMemoryRange(plan.models.map((each) => each.model).join(), JSON.stringify(workloads))
  const parts = plan.models.map((each) => ({ name: each.model, value: each.measured.memoryBytes }))
  const isRated = workloads.some((each) => each.rate)
  return html`<section class="budget panel" aria-labelledby="budget-title">
    <h2 id="budget-title">One budget for all</h2>
    <div>
      <${Meter}
        label="memory"
        planned=${plan.memory.plannedBytes}
        parts=${parts}
        limit=${budget.memoryBytes}
        text=${format.bytes}
        note=${parts.map((part) => `${part.name} ${format.bytes(part.value)}`).join(' · ')}
      />
      <${LimitSlider}
        id="budget-memory"
        label="memory budget"
        value=${budget.memoryBytes}
        low=${Math.min(range.low, budget.memoryBytes ?? range.low)}
        high=${Math.max(range.high, 1.1 * (budget.memoryBytes ?? 0))}
        text=${format.bytes}
        onSet=${(memoryBytes) => onBudget({ memoryBytes })}
      />
    </div>
    <div>
      <${Meter}
        label="cores"
        planned=${plan.totals?.cores ?? 0}
        limit=${budget.cores}
        text=${cores}
        note=${isRated ? 'by the rates that are asked for' : 'no rate is asked for, so none is set aside'}
      />
      <${LimitSlider}
        id="budget-cores"
        label="cores"
        value=${budget.cores}
        low=${0.05}
        high=${8}
        text=${cores}
        onSet=${(limit) => onBudget({ cores: limit })}
      />
    </div>
  </section>`
}

/**
 * The budgets between which plans differ, asked as what-ifs: from a little less than the least that would do (with blocks
 * streamed from the disk, where they can be), up to more than these models would take without a limit.
 */
function useMemoryRange(names, wishes) {
  const [range, setRange] = useState({ low: 1e5, high: 1e9 })
  useEffect(() => {
    if (names === '') return
    const whatIf = (budget, objective) => call('POST', '/v1/plan', { budget, objective })
    Promise.all([whatIf({ memoryBytes: 1 }, 'quality'), whatIf({}, 'quality')])
      .then(async ([nothing, free]) => {
        const most = free.totals?.memoryBytes
        const { constraint, needs } = nothing.infeasible ?? {}
        const least = constraint === 'memory' ? needs : (await whatIf({}, 'memory')).totals?.memoryBytes
        if (least && most) setRange({ low: 0.85 * least, high: Math.max(1.5 * most, 2 * least) })
      })
      .catch(() => {})
  }, [names, wishes])
  return range
}
