import type { Curve } from './curve.ts'
import { mean } from './statistics.ts'
import { best, type CurvedSum, correctParts, type MeasuredWhole, STIFF, sumOf, unseen, wholeOf } from './sums.ts'

/** Divergences of wholes, on all pictures and on a part of them. */
export interface MeasuredDivergences {
  readonly whole: readonly MeasuredWhole[]
  /** on a part of the pictures, which may be harder or easier than all: these say how choices compare, not how much is lost */
  readonly part: readonly MeasuredWhole[]
}

/** Corrections of single choices are only fitted when there are this many wholes. */
const ENOUGH = 16
const FOLDS = 8
/** On a part of the pictures, divergences scatter so many times as much around what they are on all. */
const PART_SCATTER = 1.5
const SAME: Curve = { loss: (sum) => sum, divergence: (whole) => whole, slope: () => 1 }

/** How freely choices follow the wholes, by cross-validation. */
export function growthStiffness(alone: readonly number[], measured: MeasuredDivergences): number {
  const all = [...marked(measured)]
  if (all.length < ENOUGH) return STIFF
  return best([STIFF, 3, 0.3, 0.03], (stiffness) => {
    const { scale } = fitScaled(alone, all, stiffness)
    const predictions = unseen(all, FOLDS, (others) => fitScaled(alone, others, stiffness).fit)
    return mean(
      predictions.map(({ whole, predicted }) => Math.abs(Math.log(whole.value / predicted / (whole.part ? scale : 1)))),
    )
  })
}

/**
 * Divergences of choices as wholes show them, and the law by which the divergence of a whole grows with their sum. Errors
 * count by ratio: light wholes, where plans are wanted, are as telling as deep ones.
 *
 * @param alone divergence of each choice when it alone stands in
 */
export function fitGrowth(alone: readonly number[], measured: MeasuredDivergences, stiffness: number): CurvedSum {
  return fitScaled(alone, [...marked(measured)], stiffness).fit
}

type Marked = MeasuredWhole & { readonly part: boolean }

function* marked({ whole, part }: MeasuredDivergences): Generator<Marked> {
  for (const each of whole) if (each.value > 0) yield { ...each, part: false }
  for (const each of part) if (each.value > 0) yield { ...each, part: true }
}

/** `scale` is what divergences are on the part of the pictures, for what they are on all. */
function fitScaled(
  alone: readonly number[],
  measured: readonly Marked[],
  stiffness: number,
): { readonly fit: CurvedSum; readonly scale: number } {
  const whole = measured.filter(({ part }) => !part)
  const part = measured.filter(({ part }) => part)
  const fitLaw = (parts: readonly number[]): CurvedSum => ({ parts, curve: lawOf(parts, whole, part) })
  let fit = fitLaw(alone)
  let scale = scaleOf(fit, part)
  if (stiffness === STIFF) return { fit, scale }
  for (let pass = 0; pass < 2; pass++) {
    const comparable = [...whole, ...part.map((each) => ({ ...each, value: each.value / scale }))]
    const scatter = (predicted: number, { part: isPart }: Marked) => (isPart ? PART_SCATTER : 1) * predicted
    fit = fitLaw(correctParts(alone, fit, comparable, stiffness, scatter))
    scale = scaleOf(fit, part)
  }
  return { fit, scale }
}

const scaleOf = (fit: CurvedSum, part: readonly MeasuredWhole[]): number => {
  const known = part.filter(({ choices }) => wholeOf(fit, choices) > 0)
  return known.length ? Math.exp(mean(known.map(({ choices, value }) => Math.log(value / wholeOf(fit, choices))))) : 1
}

/**
 * Straight between knots in logarithms, each the mean of neighbours: how much more or less wholes diverge than their parts
 * together, which is nothing at all where they diverge little, more where it is much, and less where nothing is left to lose.
 */
function lawOf(parts: readonly number[], wholes: readonly MeasuredWhole[], glances: readonly MeasuredWhole[]): Curve {
  const [seen, glanced] = [wholes, glances].map((measured) => logarithmsOf(parts, measured)) as [Point[], Point[]]
  const knots = knotsOf([...seen, ...carriedOn(seen, glanced)])
  return knots.length ? logarithmic(knots) : SAME
}

/** Logarithms of a sum of parts and of what the whole diverges. */
interface Point {
  readonly x: number
  readonly y: number
}

const logarithmsOf = (parts: readonly number[], measured: readonly MeasuredWhole[]): Point[] =>
  measured
    .map(({ choices, value }) => ({ x: Math.log(sumOf(parts, choices)), y: Math.log(value) }))
    .filter(({ x }) => x > Number.NEGATIVE_INFINITY)
    .sort((a, b) => a.x - b.x)

/**
 * Glances at sums beyond those of the wholes, in the scale that glances have at the end of these: few wholes are deep, and what
 * lies beyond the last one would be a guess.
 */
function carriedOn(seen: readonly Point[], glanced: readonly Point[]): Point[] {
  const end = seen.at(-1)?.x
  const start = seen.at(-1 - Math.floor(seen.length / END_SHARE))?.x
  if (end === undefined || start === undefined) return []
  const within = ({ x }: Point) => x >= start && x <= end
  const excess = ({ x, y }: Point) => y - x
  const [both, beyond] = [glanced.filter(within), glanced.filter(({ x }) => x > end)]
  if (Math.min(both.length, beyond.length) < LEAST_IN_KNOT) return []
  const scale = mean(both.map(excess)) - mean(seen.filter(within).map(excess))
  return beyond.map(({ x, y }) => ({ x, y: y - scale }))
}

function knotsOf(points: readonly Point[]): Knot[] {
  const each = Math.max(LEAST_IN_KNOT, Math.round(points.length / MOST_KNOTS))
  let knots: Knot[] = []
  for (let i = 0; i < points.length; i += each) {
    const near = points.slice(i, i + each)
    const x = mean(near.map((point) => point.x))
    const excess = mean(near.map((point) => point.y - point.x))
    knots.push({ x, y: x + (excess * near.length) / (near.length + PRIOR_WEIGHT), weight: near.length })
    while (knots.length > 1 && knots.at(-1)!.y <= knots.at(-2)!.y) knots = [...knots.slice(0, -2), between(knots)]
  }
  return knots
}

interface Knot {
  readonly x: number
  readonly y: number
  readonly weight: number
}

/** Knots have so many wholes at least, and there are so many knots at most. */
const LEAST_IN_KNOT = 3
const MOST_KNOTS = 8
/** The deepest of so many parts of the wholes tell in what scale glances are. */
const END_SHARE = 3
/** By as much as so many wholes a knot is drawn to where the whole diverges as its parts together. */
const PRIOR_WEIGHT = 0.5
/** Slopes in logarithms that are believed beyond the last knot. */
const BEYOND = { least: 0.3, most: 1.5 }

/** The last two knots as one. */
function between(knots: readonly Knot[]): Knot {
  const [a, b] = knots.slice(-2) as [Knot, Knot]
  const weight = a.weight + b.weight
  const at = (of: 'x' | 'y') => (a.weight * a[of] + b.weight * b[of]) / weight
  return { x: at('x'), y: at('y'), weight }
}

/** Below the first knot the curve goes to 0 as the sum does. */
function logarithmic(knots: readonly Knot[]): Curve {
  const slopes = knots.map(({ x, y }, i) => {
    const next = knots[i + 1]
    if (next) return (next.y - y) / (next.x - x)
    const before = knots[i - 1]
    return before ? Math.max(BEYOND.least, Math.min(BEYOND.most, (y - before.y) / (x - before.x))) : 1
  })
  /** the segment that a logarithm is in: the knot that it starts from, and its slope */
  const segment = (value: number, of: 'x' | 'y') => {
    const at = knots.findLastIndex((knot) => knot[of] <= value)
    return at < 0 ? { ...knots[0]!, slope: 1 } : { ...knots[at]!, slope: slopes[at]! }
  }
  const loss = (sum: number): number => {
    if (sum <= 0) return 0
    const { x, y, slope } = segment(Math.log(sum), 'x')
    return Math.exp(y + slope * (Math.log(sum) - x))
  }
  return {
    loss,
    divergence(whole) {
      if (whole <= 0) return 0
      const { x, y, slope } = segment(Math.log(whole), 'y')
      return Math.exp(x + (Math.log(whole) - y) / slope)
    },
    slope: (sum) => (sum <= 0 ? 1 : (segment(Math.log(sum), 'x').slope * loss(sum)) / sum),
  }
}
