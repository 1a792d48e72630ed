import { invertSymmetric, type LinearAlgebra, withRidge } from './linear.ts'

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
  /** `loss[n]`: error after n removals, relative to the power of the output; `loss[0]` is 0 */
  readonly loss: readonly number[]
}

export const scaledBy = ({ order, loss }: Ranking, scale: number): Ranking => ({
  order,
  loss: loss.map((each) => scale * each),
})

/** Above this length of a column the inverse that OBS needs takes too long. */
const LONGEST_FOR_OBS = 1536
/** With fewer rows than this for each column the inverse is one of noise. */
const LEAST_ROWS_FOR_OBS = 4

/**
 * Ranks channels by what their removal does to the layers that read them, on average over these.
 *
 * Greedy structured OBS, score `w_cᵀ (G⁻¹_cc)⁻¹ w_c` with the usual update of weights and inverse, foresees the least-squares
 * refit. With very long columns, or too few rows for a refit to go by, what counts is how much of the output all that is removed
 * makes up together: features that rise and fall together cost more than each by itself.
 *
 * @see OBC (arXiv 2208.11580) for the update
 */
export async function rankClasses(consumers: readonly ConsumerStatistics[], algebra: LinearAlgebra): Promise<Ranking> {
  const canBeRefitted = consumers.every(
    ({ columnLength, rows }) => columnLength <= LONGEST_FOR_OBS && rows >= LEAST_ROWS_FOR_OBS * columnLength,
  )
  return (canBeRefitted ? rankByObs(consumers) : undefined) ?? rankByShare(consumers, algebra)
}

/** Greedily by the power of what is removed, `tr(W_R G_RR W_Rᵀ)`. */
async function rankByShare(consumers: readonly ConsumerStatistics[], algebra: LinearAlgebra): Promise<Ranking> {
  const count = consumers[0]?.columnsOf.length ?? 0
  // what each pair of classes adds
  const pairs = new Float64Array(count * count)
  for (const { gram, weights, outputs, columnLength: d, columnsOf, power } of consumers) {
    const overlap = await algebra.transposedProduct(weights, weights, outputs)
    for (let a = 0; a < count; a++) {
      for (let b = 0; b < count; b++) {
        let sum = 0
        for (const i of columnsOf[a]!) for (const j of columnsOf[b]!) sum += overlap[i * d + j]! * gram[i * d + j]!
        pairs[a * count + b]! += sum / power / consumers.length
      }
    }
  }
  const added = Float64Array.from({ length: count }, (_, a) => pairs[a * count + a]!)
  const alive = new Set(added.keys())
  const order: number[] = []
  const loss = [0]
  let share = 0
  while (alive.size > 0) {
    let best = -1
    for (const rank of alive) if (best < 0 || added[rank]! < added[best]!) best = rank
    share += added[best]!
    alive.delete(best)
    order.push(best)
    loss.push(Math.max(loss[loss.length - 1]!, share))
    for (const rank of alive) added[rank]! += 2 * pairs[best * count + rank]!
  }
  return { order, loss }
}

function rankByObs(consumers: readonly ConsumerStatistics[]): Ranking | undefined {
  const readers: Reader[] = []
  for (const { gram, weights, outputs, columnLength: d, columnsOf, power } of consumers) {
    const inverse = invertSymmetric(withRidge(gram, d, 1e-4), d)
    if (!inverse) return undefined
    readers.push({ inverse, w: Float64Array.from(weights), outputs, d, columnsOf, power: power * consumers.length })
  }
  const alive = new Set(consumers[0]?.columnsOf.keys())
  const order: number[] = []
  const loss = [0]
  while (alive.size > 1) {
    let best = -1
    let bestScore = Number.POSITIVE_INFINITY
    for (const rank of alive) {
      let score = 0
      for (const each of readers) score += removalCost(each.columnsOf[rank]!, each) / each.power
      if (score < bestScore) {
        best = rank
        bestScore = score
      }
    }
    if (best < 0) break
    for (const each of readers) eliminate(each.columnsOf[best]!, each)
    alive.delete(best)
    order.push(best)
    loss.push(loss[loss.length - 1]! + Math.max(0, bestScore))
  }
  return { order: [...order, ...alive], loss: [...loss, ...[...alive].map(() => Number.POSITIVE_INFINITY)] }
}

/** A layer while channels are taken from it: its weights make up for those that are gone. */
interface Reader {
  readonly inverse: Float64Array
  /** `[outputs, d]` */
  readonly w: Float64Array
  readonly outputs: number
  readonly d: number
  readonly columnsOf: ConsumerStatistics['columnsOf']
  readonly power: number
}

function removalCost(columns: readonly number[], { inverse, w, outputs, d }: Reader): number {
  if (columns.length === 0) return 0
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
function eliminate(columns: readonly number[], { inverse, w, outputs, d }: Reader): void {
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
