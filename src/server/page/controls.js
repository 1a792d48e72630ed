import { useEffect, useRef, useState } from 'preact/hooks'
import { html } from './html.js'

const STOPS = 100
const REST_MS = 200

/**
 * A slider for a limit that may be absent. It shows its value while it is moved and tells it once it rests, so that the
 * service plans once for each decision and not for each pixel or key. When the service refuses, it goes back to what holds.
 *
 * `none` says at which end no limit is asked for, and in which words; `scale` is 'log' (for what must not reach 0) or 'linear'.
 */
export function LimitSlider({ id, label, value, low, high, text, onSet, scale = 'log', none = NO_LIMIT }) {
  const { toShare, fromShare } = scales[scale](low, high)
  const open = none.end === 'low' ? 0 : STOPS
  const shift = none.end === 'low' ? 1 : 0
  const stopOf = (limit) => {
    if (limit === undefined) return open
    return shift + Math.round((STOPS - 1) * Math.min(1, Math.max(0, toShare(limit))))
  }
  const limitOf = (stop) => (stop === open ? undefined : rounded(fromShare((stop - shift) / (STOPS - 1))))
  const [stop, setStop] = useState(stopOf(value))
  const [answered, setAnswered] = useState(0)
  const resting = useRef()
  // What the visitor chose and the service has not answered yet: news that come meanwhile must not move the slider under the hand.
  const chosen = useRef()
  useEffect(() => {
    if (chosen.current === undefined) setStop(stopOf(value))
  }, [value, low, high, answered])
  const move = (next) => {
    chosen.current = next
    setStop(next)
  }
  const rest = () => {
    const next = chosen.current
    if (next === undefined) return
    clearTimeout(resting.current)
    resting.current = setTimeout(async () => {
      await onSet(limitOf(next))
      if (chosen.current === next) chosen.current = undefined
      setAnswered((count) => count + 1)
    }, REST_MS)
  }
  // a limit that was set elsewhere is shown as it is, not as the nearest stop
  const shown = stop === stopOf(value) ? value : limitOf(stop)
  const words = shown === undefined ? none.words : text(shown)
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
      onInput=${(event) => move(Number(event.currentTarget.value))}
      onChange=${rest}
    />
  </div>`
}

const NO_LIMIT = { end: 'high', words: 'no limit' }

const scales = {
  log: (low, high) => ({
    toShare: (value) => Math.log(value / low) / Math.log(high / low),
    fromShare: (share) => low * (high / low) ** share,
  }),
  linear: (low, high) => ({
    toShare: (value) => (value - low) / (high - low),
    fromShare: (share) => low + (high - low) * share,
  }),
}

/** Three significant digits: a limit is a decision, not a measurement. */
export const rounded = (value) => Number(value.toPrecision(3))
