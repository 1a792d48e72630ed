import { html } from './html.js'

/**
 * A value against its limit: a bar with the planned value, a mark for the measured one, and words for both.
 * Without a limit the bar is scaled by what is there.
 */
export function Meter({ label, planned, measured, limit, text }) {
  const top = limit ?? Math.max(planned ?? 0, measured ?? 0, 1e-9) * 1.25
  const at = (value) => `${Math.min(100, (100 * value) / top)}%`
  const over = limit !== undefined && Math.max(planned ?? 0, measured ?? 0) > limit
  return html`<div class=${`meter${over ? ' over' : ''}`}>
    <div class="meter-words">
      <span>${label}</span>
      <span><b>${text(measured ?? planned)}</b>${limit === undefined ? '' : html` of ${text(limit)}`}</span>
    </div>
    <div
      class="meter-bar"
      role="meter"
      aria-label=${label}
      aria-valuemin="0"
      aria-valuemax=${top}
      aria-valuenow=${measured ?? planned ?? 0}
      aria-valuetext=${`${text(measured ?? planned)}${limit === undefined ? '' : ` of ${text(limit)}`}`}
    >
      <span class="planned" style=${{ width: at(planned ?? 0) }}></span>
      ${
        measured !== undefined &&
        measured !== null &&
        html`<span class="measured" style=${{ left: at(measured) }} title=${`measured ${text(measured)}`}></span>`
      }
    </div>
  </div>`
}
