import * as format from './format.js'
import { html } from './html.js'

/** What happened, newest first, in words. */
export const Happenings = ({ events }) =>
  html`<section class="happenings" aria-labelledby="happenings-title">
    <h2 id="happenings-title">What happens</h2>
    ${events.length === 0 && html`<p class="quiet">Nothing yet. Move a limit and see which blocks are swapped.</p>`}
    <ol role="log" aria-live="polite">
      ${events.map(
        (each) => html`<li key=${each.key} class=${`event event-${each.kind}`}>
          <time>${new Date(each.data.at ?? Date.now()).toLocaleTimeString()}</time> ${words(each.kind, each.data)}
        </li>`,
      )}
    </ol>
  </section>`

function words(kind, data) {
  switch (kind) {
    case 'swap': {
      const { swap } = data
      const blocks = swap.models.reduce((sum, each) => sum + each.changed.length, 0)
      const names = swap.models.filter((each) => each.changed.length).map((each) => each.model)
      return html`<b>Swapped ${blocks} ${blocks === 1 ? 'block' : 'blocks'}</b> of ${names.join(', ') || 'no model'} in
        ${` ${format.ms(swap.ms)}`}, ${format.bytes(swap.bytes)} loaded: ${swap.why}`
    }
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
