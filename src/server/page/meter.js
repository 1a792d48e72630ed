import { html } from './html.js'

/**
 * A value against its limit: a bar with the planned value (in parts, where it has some), a mark for the measured one, and
 * words for both. Without a limit the bar is scaled by what is there.
 */
export function Meter({ label, planned, parts, measured, limit, text, note }) {
  const value = measured ?? planned ?? 0
  const most = Math.max(planned ?? 0, measured ?? 0)
  const top = Math.max(limit ?? 0, most, 1e-9) * (limit === undefined ? 1.25 : 1)
  const at = (amount) => `${Math.min(100, (100 * amount) / top)}%`
  const over = limit !== undefined && most > limit
  const words = `${text(value)}${limit === undefined ? '' : ` of ${text(limit)}`}`
  return html`<div class=${`meter${over ? ' over' : ''}`}>
    <div class="meter-words">
      <span>${label}</span>
      <span><b>${text(value)}</b>${limit === undefined ? '' : ` of ${text(limit)}`}</span>
    </div>
    <div
      class="meter-bar"
      role="meter"
      aria-label=${label}
      aria-valuemin="0"
      aria-valuemax=${top}
      aria-valuenow=${value}
      aria-valuetext=${words}
    >
      ${(parts ?? [{ name: 'planned', value: planned ?? 0 }]).map(
        (part) => html`<span
          key=${part.name}
          class="planned"
          style=${{ width: at(part.value) }}
          title=${`${part.name}: ${text(part.value)}`}
        ></span>`,
      )}
      ${limit !== undefined && limit < top && html`<span class="limit" style=${{ left: at(limit) }}></span>`}
      ${
        measured !== undefined &&
        measured !== null &&
        html`<span class="measured" style=${{ left: at(measured) }} title=${`measured: ${text(measured)}`}></span>`
      }
    </div>
    ${note && html`<small>${note}</small>`}
  </div>`
}
