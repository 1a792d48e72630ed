import { median, sum } from './statistics.ts'

/** A strictly increasing map from divergence (≥ 0) to quality lost, through (0, 0), with its inverse and slope. */
export interface Curve {
  loss(divergence: number): number
  divergence(loss: number): number
  slope(divergence: number): number
}

/** The second curve over what the first gives. */
export const chained = (first: Curve, second: Curve): Curve => ({
  loss: (value) => second.loss(first.loss(value)),
  divergence: (value) => first.divergence(second.divergence(value)),
  slope: (value) => second.slope(first.loss(value)) * first.slope(value),
})

export interface Point {
  readonly divergence: number
  readonly loss: number
  readonly weight: number
}

/** `stiffness` says how strongly a power law holds the curve where points are few: 0.3 follows the points, Infinity the law. */
export function fitCurve(points: readonly Point[], stiffness: number): Curve {
  const law = fitPowerLaw(points)
  return stiffness === Number.POSITIVE_INFINITY ? curveOf([], law) : curveOf(isotonic(points, law, stiffness), law)
}

interface PowerLaw {
  readonly factor: number
  readonly exponent: number
}

const atLaw = ({ factor, exponent }: PowerLaw, divergence: number): number => factor * divergence ** exponent

/** With nothing measured: a divergence of 0.1 costs about four points of top-1, as seen on small ImageNet networks. */
const UNMEASURED: PowerLaw = { factor: 0.4, exponent: 1 }

const EXPONENTS = Array.from({ length: 18 }, (_, i) => 0.3 + 0.1 * i)

/** Least squares over a grid of exponents; points scatter in proportion to their loss, above a floor of sampling noise. */
function fitPowerLaw(points: readonly Point[]): PowerLaw {
  const used = points.filter(({ divergence }) => divergence > 0)
  if (used.length === 0) return UNMEASURED
  const logs = used.map(({ divergence }) => Math.log(divergence))
  const floor = 0.05 * Math.max(...used.map(({ loss }) => Math.abs(loss))) + 1e-9
  const least = 1e-4 / median(used.map(({ divergence }) => divergence)) // so that the curve always rises
  let weights = used.map(({ weight }) => weight)
  let law: PowerLaw = UNMEASURED
  for (let pass = 0; pass < 2; pass++) {
    let bestError = Number.POSITIVE_INFINITY
    for (const exponent of EXPONENTS) {
      let [above, below, squares] = [0, 0, 0]
      for (const [i, { loss }] of used.entries()) {
        const basis = Math.exp(exponent * logs[i]!)
        above += weights[i]! * basis * loss
        below += weights[i]! * basis * basis
        squares += weights[i]! * loss * loss
      }
      const factor = Math.max(above / below, least)
      const few = 0.05 * sum(weights) * floor ** 2 * (exponent - 0.9) ** 2 // few points say little about the exponent
      const error = squares - 2 * factor * above + factor * factor * below + few
      if (error < bestError) {
        bestError = error
        law = { factor, exponent }
      }
    }
    weights = used.map((point) => point.weight / (floor + 0.2 * atLaw(law, point.divergence)) ** 2)
  }
  return law
}

/** Pool adjacent violators over the points, each drawn towards the law; the centres of the pools are the curve's knots. */
function isotonic(points: readonly Point[], law: PowerLaw, stiffness: number): Knot[] {
  const pools: { weight: number; divergence: number; loss: number }[] = []
  const sorted = [...points].filter(({ divergence }) => divergence > 0).sort((a, b) => a.divergence - b.divergence)
  const neighbours = Math.max(1, Math.round(sorted.length / 12))
  for (let i = 0; i < sorted.length; i += neighbours) {
    const near = sorted.slice(i, i + neighbours)
    const weight = sum(near.map((point) => point.weight))
    const divergence = sum(near.map((point) => point.weight * point.divergence)) / weight
    // Relative to the law, so that pooling flattens the departure from it and not the curve itself.
    const departure = sum(near.map((point) => point.weight * (point.loss - atLaw(law, point.divergence)))) / weight
    const loss = atLaw(law, divergence) + (departure * weight) / (weight + stiffness)
    pools.push({ weight, divergence, loss })
    while (pools.length > 1 && pools.at(-1)!.loss <= pools.at(-2)!.loss) {
      const [a, b] = pools.splice(-2) as [(typeof pools)[0], (typeof pools)[0]]
      const both = a.weight + b.weight
      pools.push({
        weight: both,
        divergence: (a.weight * a.divergence + b.weight * b.divergence) / both,
        loss: (a.weight * a.loss + b.weight * b.loss) / both,
      })
    }
  }
  return pools.filter(({ loss }) => loss > 0)
}

interface Knot {
  readonly divergence: number
  readonly loss: number
}

/** Straight between knots, the law's way beyond the last. */
function curveOf(inner: readonly Knot[], law: PowerLaw): Curve {
  const knots: Knot[] = [{ divergence: 0, loss: 0 }]
  for (const knot of inner) {
    const last = knots.at(-1)!
    if (knot.divergence > last.divergence && knot.loss > last.loss) knots.push(knot)
  }
  const last = knots.at(-1)!
  const offset = last.loss - atLaw(law, last.divergence)
  const between = (value: number, of: keyof Knot, to: keyof Knot): number => {
    let i = 1
    while (i < knots.length - 1 && knots[i]![of] < value) i++
    const [a, b] = [knots[i - 1]!, knots[i]!]
    return a[to] + ((b[to] - a[to]) * (value - a[of])) / (b[of] - a[of])
  }
  const loss = (divergence: number): number => {
    if (divergence <= 0) return 0
    return divergence < last.divergence ? between(divergence, 'divergence', 'loss') : atLaw(law, divergence) + offset
  }
  return {
    loss,
    divergence(value) {
      if (value <= 0) return 0
      if (value < last.loss) return between(value, 'loss', 'divergence')
      return ((value - offset) / law.factor) ** (1 / law.exponent)
    },
    slope(divergence) {
      const step = Math.max(1e-9, 0.05 * divergence)
      return (loss(divergence + step) - loss(Math.max(0, divergence - step))) / (step + Math.min(step, divergence))
    },
  }
}
