import { useEffect, useState } from 'preact/hooks'
import { html } from './html.js'

const STOPS = 100

/**
 * A slider on a logarithmic scale whose right end means "no limit". It shows its value while it is moved and tells it when
 * it is let go, so that the service plans once for each decision and not for each pixel.
 */
export function LimitSlider({ id, label, value, low, high, text, step, onSet }) {
  const stopOf = (limit) =>
    limit === undefined ? STOPS : Math.round(((STOPS - 1) * Math.log(limit / low)) / Math.log(high / low))
  const limitOf = (stop) =>
    stop >= STOPS ? undefined : step(Math.min(high, Math.max(low, low * (high / low) ** (stop / (STOPS - 1)))))
  const [stop, setStop] = useState(stopOf(value))
  useEffect(() => setStop(stopOf(value)), [value, low, high])
  const shown = limitOf(stop)
  const words = shown === undefined ? 'no limit' : text(shown)
  return html`<div class="slider">
    <label for=${id}>${label}</label>
    <output for=${id}>${words}</output>
    <input
      id=${id}
      type="range"
      min="0"
      max=${STOPS}
      value=${stop}
      aria-valuetext=${words}
      onInput=${(event) => setStop(Number(event.currentTarget.value))}
      onChange=${(event) => onSet(limitOf(Number(event.currentTarget.value)))}
    />
  </div>`
}

/** Three significant digits: a limit is a decision, not a measurement. */
export const rounded = (value) => Number(value.toPrecision(3))
