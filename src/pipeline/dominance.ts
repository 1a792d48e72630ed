import type { DescendantId } from '../base/index.ts'

/** Costs of one descendant, all of which a plan would rather have smaller. */
export interface Costs {
  readonly id: DescendantId
  readonly latencyMs: number
  readonly memoryBytes: number
  readonly weightBytes: number
  readonly divergence: number
}

/** Differences below this are noise of the measurement. */
const LATENCY_NOISE = 0.01
/** What a plan can tell apart, and what `inspect` shows on a page. */
const MOST_DESCENDANTS = 12

/**
 * The descendants that no plan could want, with the sibling that is better in everything. The original is never dropped.
 *
 * Where more than a dozen remain, those go whose neighbours on the latency scale are closest.
 */
export function dominated(descendants: readonly Costs[]): ReadonlyMap<DescendantId, string> {
  const [original, ...rest] = descendants
  const dropped = new Map<DescendantId, string>()
  if (!original) return dropped
  for (const each of rest) {
    const better = descendants.find(
      (other) =>
        other !== each &&
        !dropped.has(other.id) &&
        other.latencyMs <= each.latencyMs * (1 + LATENCY_NOISE) &&
        other.memoryBytes <= each.memoryBytes * (1 + LATENCY_NOISE) &&
        other.weightBytes <= each.weightBytes &&
        other.divergence <= each.divergence,
    )
    if (better) dropped.set(each.id, `${better.id} is not slower, not larger and loses less`)
  }
  const left = rest.filter(({ id }) => !dropped.has(id)).sort((a, b) => b.latencyMs - a.latencyMs)
  while (left.length > MOST_DESCENDANTS - 1) {
    let closest = 1
    let least = Number.POSITIVE_INFINITY
    for (let i = 1; i < left.length - 1; i++) {
      const gap = left[i - 1]!.latencyMs / left[i + 1]!.latencyMs
      if (gap < least) {
        closest = i
        least = gap
      }
    }
    const [gone] = left.splice(closest, 1)
    dropped.set(gone!.id, 'its neighbours are so close that a plan would hardly tell them apart')
  }
  return dropped
}
