import type { Matters, VariantProgram } from './program.ts'

/** How many kept choices a new one is compared with in the general case; more would only drop a few more. */
const COMPARED = 2000

type Columns = Pick<VariantProgram, 'choice' | 'cost' | 'latency' | 'memory' | 'loss'>

/**
 * Drops from positions `from` to `end - 1` every choice that another one beats or equals in cost and in all that a limit looks at,
 * and closes the gaps.
 *
 * What no limit looks at decides between equals, so that of two equally good choices the lighter one stays.
 *
 * @returns the new end
 */
export function keepUndominated(columns: Columns, from: number, end: number, matters: Matters): number {
  const { choice, cost, latency, memory, loss } = columns
  const order: number[] = []
  for (let i = from; i < end; i++) order.push(i)
  order.sort(
    (a, b) =>
      cost[a]! - cost[b]! || latency[a]! - latency[b]! || memory[a]! - memory[b]! || loss[a]! - loss[b]! || a - b,
  )
  const kept = undominated(order, [
    ...(matters.latency ? [latency] : []),
    ...(matters.memory ? [memory] : []),
    ...(matters.loss ? [loss] : []),
  ])
  for (const column of [choice, cost, latency, memory, loss]) {
    const values = kept.map((i) => column[i]!)
    column.set(values, from)
  }
  return from + kept.length
}

/** In order of cost, a choice is beaten when an earlier one is no greater in every limited column. */
function undominated(order: readonly number[], limited: readonly Float64Array[]): number[] {
  const [first, second] = limited
  if (!first) return order.slice(0, 1)
  if (!second) {
    let least = Number.POSITIVE_INFINITY
    return order.filter((i) => {
      if (first[i]! >= least) return false
      least = first[i]!
      return true
    })
  }
  const kept: number[] = []
  for (const i of order) {
    let beaten = false
    for (let k = 0; k < kept.length && k < COMPARED && !beaten; k++) {
      beaten = true
      for (const column of limited) if (column[kept[k]!]! > column[i]!) beaten = false
    }
    if (!beaten) kept.push(i)
  }
  return kept
}
