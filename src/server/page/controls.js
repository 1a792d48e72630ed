import { useEffect, useRef, useState } from 'preact/hooks'
import { html } from './html.js'

const STOPS = 100
const REST_MS = 200

/**
 * A slider on a logarithmic scale whose right end means "no limit". It shows its value while it is moved and tells it once it
 * rests, so that the service plans once for each decision and not for each pixel or key. When the service refuses, it
 * goes back to what holds.
 */
export function LimitSlider({ id, label, value, low, high, text, step, onSet }) {
  const stopOf = (limit) =>
    limit === undefined ? STOPS : Math.round(((STOPS - 1) * Math.log(limit / low)) / Math.log(high / low))
  const limitOf = (stop) =>
    stop >= STOPS ? undefined : step(Math.min(high, Math.max(low, low * (high / low) ** (stop / (STOPS - 1)))))
  const [stop, setStop] = useState(stopOf(value))
  const [answered, setAnswered] = useState(0)
  const resting = useRef()
  useEffect(() => setStop(stopOf(value)), [value, low, high, answered])
  const set = (next) => {
    clearTimeout(resting.current)
    resting.current = setTimeout(async () => {
      await onSet(limitOf(next))
      setAnswered((count) => count + 1)
    }, REST_MS)
  }
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
      onChange=${(event) => set(Number(event.currentTarget.value))}
    />
  </div>`
}

/** Three significant digits: a limit is a decision, not a measurement. */
export const rounded = (value) => Number(value.toPrecision(3))
