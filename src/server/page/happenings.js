import * as format from './format.js'
import { html } from './html.js'

/** What happened, newest first, in words; a swap with each block that was exchanged. */
export const Happenings = ({ events, summaries }) =>
  html`<section class="happenings panel" aria-labelledby="happenings-title">
    <h2 id="happenings-title">What happens</h2>
    ${events.length === 0 && html`<p class="quiet">Nothing yet. Move a limit and see which blocks are swapped.</p>`}
    <ol role="log" aria-live="polite" tabindex="0" aria-label="What happened, newest first">
      ${events.map(
        (each) => html`<li key=${each.key} class=${`event event-${each.kind}`}>
          <time>${new Date(each.data.at ?? Date.now()).toLocaleTimeString()}</time>
          <div>${words(each.kind, each.data, summaries)}</div>
        </li>`,
      )}
    </ol>
  </section>`

function words(kind, data, summaries) {
  switch (kind) {
    case 'swap':
      return html`<${Swap} swap=${data.swap} summaries=${summaries} />`
    case 'plan':
      return html`New plan, ${data.plan.status}: ${data.why}`
    case 'infeasible': {
      const { constraint, needs, has } = data.plan.infeasible ?? {}
      return html`<b class="warning">No plan fits</b>: ${constraint} needs ${needs}, has ${has}`
    }
    case 'swap-failed':
      return html`<b class="warning">Swap failed</b>, nothing changed: ${data.message}`
    case 'gear':
      return html`${data.model} runs ${data.gear}: ${data.why}`
    case 'throughput':
      return html`${data.model} runs on ${data.engines} ${data.engines === 1 ? 'engine' : 'engines'}${
        data.batch > 1 && `, up to ${data.batch} frames at once`
      }: ${data.why}`
    case 'limit':
      return html`<b class="warning">${data.limit}</b>: ${data.why}`
    case 'workload':
      return data.workload ? `Workload ${data.id} changed` : `Workload ${data.id} ended`
    case 'budget':
      return `Budget: ${data.budget.memoryBytes ? format.bytes(data.budget.memoryBytes) : 'no memory limit'}`
    case 'engine-replaced':
      return html`<b class="warning">Engine ${data.core} was replaced</b>: ${data.why}`
    case 'decision':
      return `${data.decision === 'hold' ? 'Kept the plan' : 'Planned again'}: ${data.why}`
    default:
      return kind
  }
}

function Swap({ swap, summaries }) {
  const models = swap.models.filter((each) => each.changed.length > 0)
  const blocks = models.reduce((sum, each) => sum + each.changed.length, 0)
  return html`<b>Swapped ${blocks} ${blocks === 1 ? 'block' : 'blocks'}</b> in ${format.ms(swap.ms)},${' '}
    ${format.bytes(swap.bytes)} loaded: ${swap.why}
    ${models.map(
      ({ model, changed }) => html`<p class="exchanged" key=${model}>
        ${model}${' '}
        ${changed.map(({ block, from, to }) => {
          const kindOf = (id) =>
            summaries
              .get(model)
              ?.blocks.find((each) => each.id === block)
              ?.descendants.find((each) => each.id === id)?.kind
          return html`<span key=${block} class="exchange" title=${`${block}: ${from ?? 'nothing'} → ${to ?? 'nothing'}`}>
            ${block} <${Swatch} kind=${from && kindOf(from)} />→<${Swatch} kind=${to && kindOf(to)} /> ${to ?? 'gone'}
          </span>`
        })}
      </p>`,
    )}`
}

const Swatch = ({ kind }) => html`<span class=${`swatch ${kind ? `kind-${kind}` : 'ghost'}`}></span>`
