import { useEffect, useState } from 'preact/hooks'
import { call } from './api.js'
import * as format from './format.js'
import { html } from './html.js'

/** Points that can be told apart on the curve. */
const POINTS = 24

/** What quality is traded against: the field of a plan, and how it is written. */
const costs = {
  latency: { of: (figures) => figures.latencyMs, text: format.ms },
  memory: { of: (figures) => figures.memoryBytes, text: format.bytes },
}

/** The trade-off curve of one model alone. Undefined until it is there. */
export function useFrontier(model, cost) {
  const [found, setFound] = useState()
  useEffect(() => {
    let gone = false
    const keep = (curves) => !gone && setFound(curves)
    call('GET', `/v1/models/${model}/frontier?points=${POINTS}`).then(keep, () => keep({ latency: [], memory: [] }))
    return () => {
      gone = true
    }
  }, [model])
  // far from what was measured a prediction may fall below nothing: such plans are of no use, and would flatten the rest
  return found?.[cost].filter(({ quality }) => quality > 0)
}

/** The curve with the current point, what is ruled out by the limits, and points that can be asked for. */
export function Frontier({ name, points, cost, onCost, current, limit, floor, onChoose }) {
  return html`<figure class="frontier">
    <figcaption>
      <span>quality against</span>
      <span class="switch" role="group" aria-label=${`Trade-off of ${name}`}>
        ${Object.keys(costs).map(
          (each) =>
            html`<button type="button" key=${each} aria-pressed=${each === cost} onClick=${() => onCost(each)}>${each}</button>`,
        )}
      </span>
    </figcaption>
    ${
      points === undefined
        ? html`<p class="quiet">working out the trade-off…</p>`
        : points.length < 2
          ? html`<p class="quiet">no trade-off to show: one plan is both cheapest and best</p>`
          : html`<${Chart} name=${name} points=${points} cost=${costs[cost]} current=${current} limit=${limit} floor=${floor} onChoose=${onChoose} />`
    }
  </figure>`
}

const WIDTH = 330
const HEIGHT = 150
const PAD = { left: 50, right: 14, top: 10, bottom: 22 }

function Chart({ name, points, cost, current, limit, floor, onChoose }) {
  const { of, text } = cost
  const all = [...points, current]
  const [x0, x1] = spread(all.map((each) => Math.log(of(each))))
  const [y0, y1] = spread(all.map((each) => each.quality))
  const x = (value) => PAD.left + ((Math.log(value) - x0) / (x1 - x0)) * (WIDTH - PAD.left - PAD.right)
  const y = (value) => HEIGHT - PAD.bottom - ((value - y0) / (y1 - y0)) * (HEIGHT - PAD.top - PAD.bottom)
  const [right, bottom] = [WIDTH - PAD.right, HEIGHT - PAD.bottom]
  // plans between two points are never better than the lower one: a staircase, not a slope
  const line = points
    .map((each, index) => (index ? `H${x(of(each))}V${y(each.quality)}` : `M${x(of(each))},${y(each.quality)}`))
    .join('')
  const [first, last] = [points[0], points.at(-1)]
  const short = shortOf(first.quality, last.quality)
  const words = `${name}: quality ${format.quality(current.quality)} at ${text(of(current))}; possible from ${format.quality(first.quality)} at ${text(of(first))} to ${format.quality(last.quality)} at ${text(of(last))}`
  const edge = limit === undefined ? right : Math.min(right, Math.max(PAD.left, x(limit)))
  const ground = floor === undefined ? bottom : Math.min(bottom, Math.max(PAD.top, y(floor)))
  return html`<svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="group" aria-label=${words}>
    ${edge < right && html`<rect class="ruled-out" x=${edge} y=${PAD.top} width=${right - edge} height=${bottom - PAD.top}><title>beyond the limit of ${text(limit)}</title></rect>`}
    ${ground < bottom && html`<rect class="ruled-out" x=${PAD.left} y=${ground} width=${right - PAD.left} height=${bottom - ground}><title>below the floor of ${format.quality(floor)}</title></rect>`}
    <path class="axis" d=${`M${PAD.left},${PAD.top}V${bottom}H${right}`} />
    <text x=${PAD.left - 5} y=${y(last.quality) + 4} class="end">${short(last.quality)}</text>
    ${y(first.quality) - y(last.quality) > 14 && html`<text x=${PAD.left - 5} y=${y(first.quality) + 4} class="end">${short(first.quality)}</text>`}
    <text x=${x(of(first))} y=${HEIGHT - 6}>${text(of(first))}</text>
    <text x=${right} y=${HEIGHT - 6} class="end">${text(of(last))}</text>
    <path class="curve" d=${line} />
    ${points.map((each) => html`<${Point} key=${of(each)} each=${each} at=${[x(of(each)), y(each.quality)]} words=${`${format.quality(each.quality)} at ${text(of(each))}`} onChoose=${onChoose} />`)}
    <circle class="current" cx=${x(of(current))} cy=${y(current.quality)} r="6"><title>now: ${format.quality(current.quality)} at ${text(of(current))}</title></circle>
  </svg>`
}

/** A point that can be asked for with the mouse or the keyboard. */
function Point({ each, at: [cx, cy], words, onChoose }) {
  if (!onChoose) return html`<circle class="possible" cx=${cx} cy=${cy} r="3"><title>${words}</title></circle>`
  const choose = () => onChoose(each)
  const press = (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return
    event.preventDefault()
    choose()
  }
  return html`<g class="point" role="button" tabindex="0" aria-label=${`ask for ${words}`} onClick=${choose} onKeyDown=${press}>
    <circle class="reach" cx=${cx} cy=${cy} r="9" />
    <circle class="possible" cx=${cx} cy=${cy} r="3.5"><title>ask for ${words}</title></circle>
  </g>`
}

/** With as many digits as tell the ends of the axis apart. */
function shortOf(low, high) {
  const scale = high > 1.5 ? 1 : 100
  const digits = Math.min(2, Math.max(0, Math.ceil(-Math.log10((scale * (high - low)) / 3))))
  return (value) => (scale === 1 ? value.toFixed(Math.max(1, digits)) : `${(100 * value).toFixed(digits)} %`)
}

function spread(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)]
  return high > low ? [low, high] : [low - 0.5, high + 0.5]
}
