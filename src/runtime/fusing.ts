/** What is known of a chain that could be fused. */
export interface FusingCase {
  /** pictures that it has answered since it took over */
  readonly answered: number
  /** of one picture, as measured lately; nothing before there were enough */
  readonly chainMs: number | undefined
  /** of one picture as one graph, as predicted */
  readonly fusedMs: number
  /** that mapping the fused graph takes from the engine */
  readonly loadMs: number
  readonly ageMs: number
  readonly maxLatencyMs?: number | undefined
}

/** What being cut costs at least, where measuring says less: then other things that the machine did hide it. */
const LEAST_SHARE = 0.05
/** A plan that has stayed so long is fused whatever is asked of it, so that what comes next finds it quick. */
const STAYED_MS = 15_000

/**
 * Whether a choice that runs as a chain should be fused now: once the time that its pictures have lost to being cut is as much as
 * fusing costs.
 *
 * Nobody knows how long a plan will stay. Paying at that moment costs at most twice of what knowing it would (the ski-rental rule; Karlin,
 * Manasse, Rudolph and Sleator, Competitive snoopy caching, 1988), and plans that are soon replaced never pay. A limit on latency
 * that the chain breaks is another matter: then at once.
 */
export function isWorthFusing({ answered, chainMs, fusedMs, loadMs, ageMs, maxLatencyMs }: FusingCase): boolean {
  if (ageMs >= STAYED_MS) return true
  if (chainMs !== undefined && maxLatencyMs !== undefined && chainMs > maxLatencyMs) return true
  const lostMs = answered * Math.max((chainMs ?? fusedMs) - fusedMs, LEAST_SHARE * fusedMs)
  return lostMs >= loadMs
}
