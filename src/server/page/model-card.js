import { LimitSlider, rounded } from './controls.js'
import * as format from './format.js'
import { Frontier } from './frontier.js'
import { html } from './html.js'
import { Meter } from './meter.js'
import { Tower } from './tower.js'

/** One running model: its tower, what it uses against its limits, its trade-off, and the limits to move. */
export function ModelCard({ model, summary, workload, budget, onWorkload, onRemove }) {
  const { predicted, measured } = model
  const set = (change) => onWorkload({ ...workload, ...change })
  const id = `model-${model.model}`
  return html`<article class="card" aria-labelledby=${id}>
    <header>
      <h3 id=${id}>${model.model}</h3>
      <p class="quiet">
        ${summary?.task} · ${model.inputSize[1]}×${model.inputSize[0]} · core ${model.core} ·${' '}
        <span class=${`gear gear-${model.gear}`}>${model.gear}</span>
        ${model.state !== 'ready' && html` · <b class="warning">${model.state}</b>`}
        ${summary && html` · ${format.count(summary.options)} possible models`}
      </p>
    </header>
    <${Tower} model=${model} summary=${summary} />
    <div class="figures">
      <p class="quality"><b>${format.quality(predicted.quality)}</b> <span class="quiet">expected quality</span></p>
      <${Meter}
        label="latency"
        planned=${predicted.latencyMs}
        measured=${measured.latencyMs}
        limit=${workload?.maxLatencyMs}
        text=${format.ms}
      />
      <${Meter} label="memory" planned=${measured.memoryBytes} limit=${budget.memoryBytes} text=${format.bytes} />
      <${Frontier} model=${model} />
    </div>
    ${
      workload &&
      html`<div class="limits">
        <${LimitSlider}
          id=${`${id}-latency`}
          label="latency limit"
          value=${workload.maxLatencyMs}
          low=${rounded(Math.max(0.05, predicted.latencyMs / 8))}
          high=${rounded(Math.max(predicted.latencyMs * 8, workload.maxLatencyMs ?? 0))}
          text=${format.ms}
          step=${rounded}
          onSet=${(maxLatencyMs) => set({ maxLatencyMs })}
        />
        <button type="button" onClick=${onRemove} aria-label=${`Stop ${model.model}`}>stop</button>
      </div>`
    }
  </article>`
}
