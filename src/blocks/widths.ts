import type { Ranking } from './importance.ts'

/** A group as the choice of widths sees it. */
export interface GroupCost {
  readonly size: number
  readonly ranking: Ranking
  /** multiply–accumulates that one channel causes in the layers that make and read it */
  readonly macsPerChannel: number
}

/**
 * Chooses a width for each group so that together they keep at most the fraction `keep` of their operations, at the least
 * predicted loss: sensitive groups stay wide, others give.
 *
 * Widths are multiples of 16, up to 32 channels of 8: CPUs run 63 channels slower than 64, and int8 layers slower
 * still off the multiples of 16.
 *
 * @returns channels to keep in each group
 */
export function chooseWidths(groups: readonly GroupCost[], keep: number): number[] {
  const total = groups.reduce((sum, group) => sum + group.size * group.macsPerChannel, 0)
  const allowed = keep * total
  const options = groups.map((group) => candidateWidths(group.size))
  const pick = (price: number) =>
    groups.map((group, index) => {
      let best = group.size
      let bestCost = Number.POSITIVE_INFINITY
      for (const width of options[index]!) {
        const loss = group.ranking.loss[group.size - width] ?? Number.POSITIVE_INFINITY
        const cost = loss + price * width * group.macsPerChannel
        if (cost < bestCost) {
          best = width
          bestCost = cost
        }
      }
      return best
    })
  const macs = (widths: readonly number[]) =>
    widths.reduce((sum, width, index) => sum + width * groups[index]!.macsPerChannel, 0)

  let low = 0
  let high = 1 / Math.max(total, 1)
  while (macs(pick(high)) > allowed && high < 1e12) high *= 4
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2
    if (macs(pick(middle)) > allowed) low = middle
    else high = middle
  }
  return pick(high)
}

export function candidateWidths(size: number): number[] {
  const step = size <= 32 ? 8 : 16
  const widths = [size]
  for (let width = Math.ceil(size / step) * step - step; width >= step; width -= step) widths.push(width)
  return widths
}
