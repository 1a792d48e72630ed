import { invertSymmetric, withRidge } from './linear.ts'

/** What one layer does with the channels that are to be ranked. */
export interface ConsumerStatistics {
  /** second moments of the layer's centred columns, `[D, D]` */
  readonly gram: Float32Array
  /** weights `[O, D]` */
  readonly weights: Float32Array
  readonly outputs: number
  readonly columnLength: number
  /** for each ranked class, the columns that belong to it */
  readonly columnsOf: readonly (readonly number[])[]
  /** rows from which the moments were taken */
  readonly rows: number
  /** of the layer's centred outputs: trace of `W·gram·Wᵀ` */
  readonly power: number
}

/** Classes from the least to the most important, and what the removal of the first n of them costs. */
export interface Ranking {
  readonly order: readonly number[]
  /** `loss[n]`: output error, relative to the layer's output power, after n removals; `loss[0]` is 0 */
  readonly loss: readonly number[]
}

/** Above this length of a column the inverse that OBS needs takes too long; the activation-aware rank stands in. */
const LONGEST_FOR_OBS = 1536
/** With fewer rows than this for each column the inverse is one of noise. */
const LEAST_ROWS_FOR_OBS = 4

/**
 * Ranks channels by what their removal does to the layers that read them.
 *
 * With one reader: greedy structured OBS, score `w_cᵀ (G⁻¹_cc)⁻¹ w_c` with the usual update of weights and inverse, which
 * foresees the least-squares refit. With several readers, very long columns or few rows: `‖W[:,c]‖ · deviation(h_c)`.
 *
 * @see OBC (arXiv 2208.11580) for the update
 */
export function rankClasses(consumers: readonly ConsumerStatistics[]): Ranking {
  const [only] = consumers
  if (
    only &&
    consumers.length === 1 &&
    only.columnLength <= LONGEST_FOR_OBS &&
    only.rows >= LEAST_ROWS_FOR_OBS * only.columnLength
  ) {
    const ranking = rankByObs(only)
    if (ranking) return ranking
  }
  return rankByActivation(consumers)
}

function rankByActivation(consumers: readonly ConsumerStatistics[]): Ranking {
  const count = consumers[0]?.columnsOf.length ?? 0
  const scores = new Float64Array(count)
  for (const { gram, weights, outputs, columnLength: d, columnsOf, power } of consumers) {
    columnsOf.forEach((columns, rank) => {
      for (const c of columns) {
        let norm = 0
        for (let o = 0; o < outputs; o++) norm += weights[o * d + c]! ** 2
        scores[rank]! += (norm * gram[c * d + c]!) / power / consumers.length
      }
    })
  }
  const order = Array.from(scores.keys()).sort((a, b) => scores[a]! - scores[b]! || a - b)
  const loss = [0]
  for (const rank of order) loss.push(loss[loss.length - 1]! + scores[rank]!)
  return { order, loss }
}

function rankByObs({
  gram,
  weights,
  outputs,
  columnLength: d,
  columnsOf,
  power,
}: ConsumerStatistics): Ranking | undefined {
  const inverse = invertSymmetric(withRidge(gram, d, 1e-4), d)
  if (!inverse) return undefined

  const w = Float64Array.from(weights)
  const alive = new Set(columnsOf.keys())
  const order: number[] = []
  const loss = [0]
  while (alive.size > 1) {
    let best = -1
    let bestScore = Number.POSITIVE_INFINITY
    for (const rank of alive) {
      const score = removalCost(columnsOf[rank]!, inverse, w, outputs, d)
      if (score < bestScore) {
        best = rank
        bestScore = score
      }
    }
    if (best < 0) break
    eliminate(columnsOf[best]!, inverse, w, outputs, d)
    alive.delete(best)
    order.push(best)
    loss.push(loss[loss.length - 1]! + Math.max(0, bestScore) / power)
  }
  return { order: [...order, ...alive], loss: [...loss, ...[...alive].map(() => Number.POSITIVE_INFINITY)] }
}

function removalCost(
  columns: readonly number[],
  inverse: Float64Array,
  w: Float64Array,
  outputs: number,
  d: number,
): number {
  if (columns.length === 1) {
    const c = columns[0]!
    let norm = 0
    for (let o = 0; o < outputs; o++) norm += w[o * d + c]! ** 2
    return norm / inverse[c * d + c]!
  }
  const inner = innerInverse(columns, inverse, d)
  if (!inner) return Number.POSITIVE_INFINITY
  const q = columns.length
  let cost = 0
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < q; i++) {
      let sum = 0
      for (let j = 0; j < q; j++) sum += inner[i * q + j]! * w[o * d + columns[j]!]!
      cost += sum * w[o * d + columns[i]!]!
    }
  }
  return cost
}

function innerInverse(columns: readonly number[], inverse: Float64Array, d: number): Float64Array | undefined {
  const q = columns.length
  const inner = new Float64Array(q * q)
  for (let i = 0; i < q; i++) for (let j = 0; j < q; j++) inner[i * q + j] = inverse[columns[i]! * d + columns[j]!]!
  return invertSymmetric(inner, q)
}

/** Takes columns out, one after the other: the rest of the weights and the inverse make up for each. */
function eliminate(
  columns: readonly number[],
  inverse: Float64Array,
  w: Float64Array,
  outputs: number,
  d: number,
): void {
  const row = new Float64Array(d)
  for (const c of columns) {
    const pivot = inverse[c * d + c]!
    row.set(inverse.subarray(c * d, c * d + d))
    for (let o = 0; o < outputs; o++) {
      const f = w[o * d + c]! / pivot
      if (f === 0) continue
      const start = o * d
      for (let j = 0; j < d; j++) w[start + j]! -= f * row[j]!
      w[start + c] = 0
    }
    for (let i = 0; i < d; i++) {
      const f = row[i]! / pivot
      if (f === 0) continue
      const start = i * d
      for (let j = 0; j < d; j++) inverse[start + j]! -= f * row[j]!
    }
    inverse[c * d + c] = 1e-30
  }
}
