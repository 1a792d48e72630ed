import { useEffect, useState } from 'preact/hooks'
import { call } from './api.js'
import * as format from './format.js'
import { html } from './html.js'

const STEPS = 8
const WIDTH = 260
const HEIGHT = 130
const PAD = { left: 34, right: 10, top: 8, bottom: 24 }

/**
 * The trade-off curve of one model, asked from the service as what-ifs: the best quality for each latency between the
 * fastest plan and the best one, with no other limit.
 */
async function frontierOf(model) {
  const ask = async (wish, objective) => {
    const plan = await call('POST', '/v1/plan', { workloads: { [model]: { model, ...wish } }, budget: {}, objective })
    return plan.models[0]?.predicted
  }
  const [best, fastest] = [await ask({}, 'quality'), await ask({}, 'latency')]
  if (!best || !fastest) return []
  const points = [fastest]
  for (let step = 1; step < STEPS; step++) {
    const maxLatencyMs = fastest.latencyMs * (best.latencyMs / fastest.latencyMs) ** (step / STEPS)
    const point = await ask({ maxLatencyMs }, 'quality').catch(() => undefined)
    if (point) points.push(point)
  }
  points.push(best)
  points.sort((a, b) => a.latencyMs - b.latencyMs)
  // far from what was measured a prediction may fall below nothing: such plans are of no use, and would flatten the rest
  const useful = points.filter((point) => point.quality > 0)
  return useful.filter((point, index) => index === 0 || point.quality > useful[index - 1].quality)
}

export function Frontier({ model }) {
  const [points, setPoints] = useState()
  const name = model.model
  useEffect(() => {
    let gone = false
    frontierOf(name)
      .then((found) => !gone && setPoints(found))
      .catch(() => !gone && setPoints([]))
    return () => {
      gone = true
    }
  }, [name])
  if (!points) return html`<p class="quiet">working out the trade-off…</p>`
  if (points.length < 2) return html`<p class="quiet">no trade-off to show: one plan is both fastest and best</p>`
  return html`<${Chart} points=${points} current=${model.predicted} name=${name} />`
}

function Chart({ points, current, name }) {
  const all = [...points, current]
  const [x0, x1] = spread(all.map((each) => each.latencyMs))
  const [y0, y1] = spread(all.map((each) => each.quality))
  const x = (value) => PAD.left + ((value - x0) / (x1 - x0)) * (WIDTH - PAD.left - PAD.right)
  const y = (value) => HEIGHT - PAD.bottom - ((value - y0) / (y1 - y0)) * (HEIGHT - PAD.top - PAD.bottom)
  const line = points.map((each, index) => `${index ? 'L' : 'M'}${x(each.latencyMs)},${y(each.quality)}`).join('')
  const words = `${name}: quality ${format.quality(current.quality)} at ${format.ms(current.latencyMs)}; possible from ${format.quality(points[0].quality)} at ${format.ms(points[0].latencyMs)} to ${format.quality(points.at(-1).quality)} at ${format.ms(points.at(-1).latencyMs)}`
  return html`<figure class="frontier">
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${words}>
      <path class="axis" d=${`M${PAD.left},${PAD.top}V${HEIGHT - PAD.bottom}H${WIDTH - PAD.right}`} />
      <text x=${PAD.left - 4} y=${y(points.at(-1).quality) + 3} class="end">${short(points.at(-1).quality)}</text>
      <text x=${PAD.left - 4} y=${y(points[0].quality) + 3} class="end">${short(points[0].quality)}</text>
      <text x=${x(points[0].latencyMs)} y=${HEIGHT - 10} class="middle">${format.ms(points[0].latencyMs)}</text>
      <text x=${WIDTH - PAD.right} y=${HEIGHT - 10} class="end">${format.ms(points.at(-1).latencyMs)}</text>
      <path class="curve" d=${line} />
      ${points.map((each) => html`<circle class="possible" cx=${x(each.latencyMs)} cy=${y(each.quality)} r="2.5" />`)}
      <circle class="current" cx=${x(current.latencyMs)} cy=${y(current.quality)} r="5.5" />
    </svg>
    <figcaption>quality against latency; the large dot is now</figcaption>
  </figure>`
}

const short = (value) => (value > 1.5 ? value.toFixed(1) : (100 * value).toFixed(0))

function spread(values) {
  const low = Math.min(...values)
  const high = Math.max(...values)
  return high > low ? [low, high] : [low - 0.5, high + 0.5]
}
