import type { BlockColumns } from './compile.ts'

/** How many kept choices a new one is compared with in the general case; more would only drop a few more. */
const COMPARED = 2000

/**
 * The block without choices that another choice beats or equals in cost and in everything that a limit looks at.
 *
 * What no limit looks at decides between equals, so that of two equally good choices the lighter one stays.
 */
export function undominated(
  block: BlockColumns,
  active: { readonly latency: boolean; readonly memory: boolean; readonly loss: boolean },
): BlockColumns {
  const { cost, latency, memory, loss } = block
  const order = Array.from(cost, (_, i) => i).sort(
    (a, b) =>
      cost[a]! - cost[b]! || latency[a]! - latency[b]! || memory[a]! - memory[b]! || loss[a]! - loss[b]! || a - b,
  )
  const limited = [active.latency ? latency : null, active.memory ? memory : null, active.loss ? loss : null].filter(
    (column) => column !== null,
  )
  const kept: number[] = []
  // In order of cost, a choice is beaten when an earlier one is no greater in every limited column.
  if (limited.length <= 1) {
    let least = Number.POSITIVE_INFINITY
    for (const i of order) {
      const value = limited[0] ? limited[0][i]! : 0
      if (value < least) {
        kept.push(i)
        least = value
      }
    }
  } else {
    for (const i of order) {
      let beaten = false
      for (let k = 0; k < kept.length && k < COMPARED && !beaten; k++) {
        beaten = limited.every((column) => column[kept[k]!]! <= column[i]!)
      }
      if (!beaten) kept.push(i)
    }
  }
  const take = (column: Float64Array) => Float64Array.from(kept, (i) => column[i]!)
  return {
    choice: Int32Array.from(kept, (i) => block.choice[i]!),
    cost: take(cost),
    latency: take(latency),
    memory: take(memory),
    loss: take(loss),
  }
}
