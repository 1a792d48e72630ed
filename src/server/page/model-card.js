import { useState } from 'preact/hooks'
import { LimitSlider, rounded } from './controls.js'
import * as format from './format.js'
import { Frontier, useFrontier } from './frontier.js'
import { html } from './html.js'
import { Meter } from './meter.js'
import { Tower } from './tower.js'

/** One running model: its tower, what it uses against its limits, its trade-off, and the limits to move. */
export function ModelCard({ model, summary, workloads, budget, onWorkload, onRemove }) {
  const [cost, setCost] = useState('latency')
  const points = useFrontier(model.model, cost)
  const { predicted, measured } = model
  const workload = tightest(workloads)
  const set = workload && ((change) => onWorkload({ ...workload, ...change }))
  const id = `model-${model.model}`
  const ask = ({ latencyMs }) => set({ maxLatencyMs: rounded(latencyMs * 1.005) })
  return html`<article class="card panel" aria-labelledby=${id}>
    <header class="card-title">
      <h3 id=${id}>${model.model}</h3>
      ${set && html`<button type="button" class="small" onClick=${onRemove} aria-label=${`Stop ${model.model}`}>stop</button>`}
      <p class="quiet">
        ${summary?.task} · ${model.inputSize[1]}×${model.inputSize[0]} · ${cores(model)} ·${' '}
        <span title="a chain of blocks right after a swap, one fused graph soon after">${model.gear}</span>
        ${model.state !== 'ready' && html` · <b class="warning">${model.state}</b>`}
        ${summary && html` · ${format.count(summary.options)} possible models`}
      </p>
    </header>
    <div class="figures">
      <p class="quality"><b>${format.quality(predicted.quality)}</b> <span class="quiet">expected quality</span></p>
      <${Meter}
        label="latency"
        planned=${predicted.latencyMs}
        measured=${measured.latencyMs}
        limit=${workload?.maxLatencyMs}
        text=${format.ms}
        note=${latencyNote(predicted, measured)}
      />
      <${Meter} label="memory" planned=${measured.memoryBytes} limit=${budget.memoryBytes} text=${format.bytes} />
    </div>
    <${Tower} model=${model} summary=${summary} />
    <${Frontier}
      name=${model.model}
      points=${points}
      cost=${cost}
      onCost=${setCost}
      current=${predicted}
      limit=${cost === 'latency' ? workload?.maxLatencyMs : undefined}
      floor=${workload?.minQuality}
      onChoose=${cost === 'latency' ? set && ask : undefined}
    />
    ${set && html`<${Limits} id=${id} workload=${workload} others=${workloads.length - 1} predicted=${predicted} points=${points} set=${set} />`}
  </article>`
}

/** Several applications may ask for one model: the plan keeps to the one that asks for most. */
const tightest = (workloads) =>
  [...workloads].sort(
    (a, b) => (a.maxLatencyMs ?? Number.POSITIVE_INFINITY) - (b.maxLatencyMs ?? Number.POSITIVE_INFINITY),
  )[0]

/** Of fewer pictures 95 % are all of them. */
const FEWEST = 20

function latencyNote(predicted, { latencyMs, p95, count }) {
  if (latencyMs === null || latencyMs === undefined) return 'as predicted'
  const note = `predicted ${format.ms(predicted.latencyMs)}`
  return count < FEWEST ? note : `${note}; 95 % of ${count} within ${format.ms(p95)}`
}

const anything = { end: 'low', words: 'any' }
const noRate = { end: 'low', words: 'not asked' }

function Limits({ id, workload, others, predicted, points, set }) {
  const { latencyMs, quality } = predicted
  const qualities = points && points.length > 1 ? [points[0].quality, points.at(-1).quality] : [quality / 2, quality]
  const { maxLatencyMs, minQuality, rate } = workload
  return html`<div class="limits">
    <${LimitSlider}
      id=${`${id}-latency`}
      label="latency limit"
      value=${maxLatencyMs}
      low=${rounded(Math.min(latencyMs / 8, maxLatencyMs ?? latencyMs))}
      high=${rounded(Math.max(latencyMs * 8, maxLatencyMs ?? 0))}
      text=${format.ms}
      onSet=${(limit) => set({ maxLatencyMs: limit })}
    />
    <${LimitSlider}
      id=${`${id}-quality`}
      label="quality floor"
      value=${minQuality}
      low=${Math.min(qualities[0], minQuality ?? qualities[0])}
      high=${Math.max(qualities[1], minQuality ?? 0)}
      scale="linear"
      none=${anything}
      text=${format.quality}
      onSet=${(floor) => set({ minQuality: floor })}
    />
    <${LimitSlider}
      id=${`${id}-rate`}
      label="rate"
      value=${rate || undefined}
      low=${0.5}
      high=${Math.max(60, rate ?? 0)}
      none=${noRate}
      text=${(value) => `${rounded(value)} / s`}
      onSet=${(wanted) => set({ rate: wanted })}
    />
    ${others > 0 && html`<small>${workload.id} asks for most; ${others} more ${others === 1 ? 'workload asks' : 'workloads ask'} for this model</small>`}
  </div>`
}

/** The engine that a model has, and those that are lent to it. */
const cores = ({ core, replicas, batch }) =>
  `${replicas.length === 0 ? 'core' : 'cores'} ${[core, ...replicas].join(' + ')}${batch > 1 ? `, batches of ${batch}` : ''}`
