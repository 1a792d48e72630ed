import { type Frontier, type FrontierPoint, thinnedCurve } from '../runtime/index.ts'
import { figure } from './table.ts'

const WIDTH = 460
const HEIGHT = 340
const LEFT = 64
const RIGHT = 20
const TOP = 46
const BOTTOM = 52
const TICKS = 5
/** Points of a curve that are marked, and tell what they are made of when pointed at. */
const DOTS = 40

interface Panel {
  readonly title: string
  readonly unit: string
  readonly points: readonly FrontierPoint[]
  readonly cost: (point: FrontierPoint) => number
}

/** Two panels beside each other: quality against latency, and against memory. */
export function frontierSvg(frontier: Frontier): string {
  const panels: Panel[] = [
    { title: 'quality against latency', unit: 'ms', points: frontier.latency, cost: ({ latencyMs }) => latencyMs },
    {
      title: 'quality against memory',
      unit: 'MB',
      points: frontier.memory,
      cost: ({ memoryBytes }) => memoryBytes / 1e6,
    },
  ]
  const name = escaped(frontier.models.join(' + '))
  const drawn = panels.map(
    (panel, i) => `<g transform="translate(${i * WIDTH} 30)">${draw(panel, frontier.original)}</g>`,
  )
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${2 * WIDTH}" height="${HEIGHT + 30}" viewBox="0 0 ${2 * WIDTH} ${HEIGHT + 30}" ` +
    `font-family="sans-serif" font-size="12" fill="#222"><title>${name}: quality against latency and memory</title><rect width="100%" height="100%" fill="#fff"/>` +
    `<text x="${LEFT}" y="26" font-size="16" font-weight="bold">${name}</text>` +
    `<text x="${2 * WIDTH - RIGHT}" y="26" text-anchor="end">ringed: the original${frontier.models.length > 1 ? 's' : ''} · shaded: down to what nine of ten reach</text>${drawn.join('')}</svg>\n`
  )
}

function draw({ title, unit, points, cost }: Panel, original: FrontierPoint): string {
  const all = [...points, original]
  const x = scale(all.map(cost), LEFT, WIDTH - RIGHT)
  const y = scale(
    all.flatMap(({ quality, qualityLow }) => [quality, qualityLow]),
    HEIGHT - BOTTOM,
    TOP,
  )
  const at = (point: FrontierPoint, quality = point.quality) => `${x.of(cost(point))} ${y.of(quality)}`
  const band =
    points.length > 1
      ? `M${points.map((each) => at(each)).join('L')}L${[...points]
          .reverse()
          .map((each) => at(each, each.qualityLow))
          .join('L')}Z`
      : ''
  const grid = [
    ...x.ticks.map(
      (tick) =>
        `<path d="M${x.of(tick)} ${TOP}V${HEIGHT - BOTTOM}" stroke="#e5e5e5"/><text x="${x.of(tick)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${figure(tick)}</text>`,
    ),
    ...y.ticks.map(
      (tick) =>
        `<path d="M${LEFT} ${y.of(tick)}H${WIDTH - RIGHT}" stroke="#e5e5e5"/><text x="${LEFT - 8}" y="${y.of(tick) + 4}" text-anchor="end">${figure(tick)}</text>`,
    ),
  ]
  const dots = thinnedCurve(points, DOTS).map(
    (point) =>
      `<circle cx="${x.of(cost(point))}" cy="${y.of(point.quality)}" r="3.5" fill="#4363d8"><title>${escaped(tellingOf(point))}</title></circle>`,
  )
  return [
    ...grid,
    `<path d="${band}" fill="#4363d8" opacity="0.12"/>`,
    `<path d="M${points.map((each) => at(each)).join('L')}" fill="none" stroke="#4363d8" stroke-width="1.5"/>`,
    ...dots,
    `<circle cx="${x.of(cost(original))}" cy="${y.of(original.quality)}" r="6" fill="none" stroke="#e6194b" stroke-width="1.5"><title>the original</title></circle>`,
    `<text x="${LEFT}" y="${TOP - 14}">${title}</text>`,
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${unit}</text>`,
  ].join('')
}

const tellingOf = ({ quality, latencyMs, memoryBytes, models }: FrontierPoint): string =>
  `${figure(quality)} in ${figure(latencyMs)} ms and ${figure(memoryBytes / 1e6)} MB: ${models.map(toldOf).join(' · ')}`

const toldOf = ({ model, choices }: FrontierPoint['models'][number], _: number, all: FrontierPoint['models']): string =>
  `${all.length > 1 ? `${model}: ` : ''}${choices.map(({ block, descendant }) => `${block}=${descendant}`).join(' ')}`

/** A linear axis over round numbers. */
function scale(values: readonly number[], from: number, to: number) {
  const low = Math.min(...values)
  const high = Math.max(...values)
  const rough = (high - low || Math.abs(high) || 1) / TICKS
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * ([1, 2, 5, 10].find((each) => each * power >= rough) ?? 10)
  const start = Math.floor(low / step) * step
  const end = Math.max(Math.ceil(high / step) * step, start + step)
  const ticks = Array.from({ length: Math.round((end - start) / step) + 1 }, (_, i) =>
    Number((start + i * step).toPrecision(12)),
  )
  return { ticks, of: (value: number) => Number((from + ((value - start) / (end - start)) * (to - from)).toFixed(2)) }
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escaped = (text: string): string => text.replace(/[&<>"]/g, (sign) => ENTITIES[sign]!)
