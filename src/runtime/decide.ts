import { formatBytes } from '../base/index.ts'
import type { Readings } from './device.ts'

/** What the device allows now, beside what was wished for. */
export interface Conditions {
  readonly memoryBytes?: number | undefined
  readonly cores?: number | undefined
  /** by model: how many times slower it runs than was measured when it was profiled */
  readonly slowdown: ReadonlyMap<string, number>
}

/** What the runtime sees of itself. */
export interface Observation {
  /** memory of what is loaded */
  readonly usedBytes: number
  /** engines: more cores than these are of no use */
  readonly engines: number
  /** by model: latency measured lately over latency predicted; only where enough was measured */
  readonly drift: ReadonlyMap<string, number>
}

/** Rules of the controller. Times in milliseconds. */
export const RULES = {
  /** memory that is left to others: a share of all, and at least so much */
  reserveShare: 0.05,
  reserveBytes: 32e6,
  /** above this share of waiting, no memory more is taken, and some is given back */
  memoryPressure: 0.1,
  /** a lack of memory is acted on at once; other changes for the worse when they lasted so long */
  worseAfterMs: 3_000,
  /** changes for the better when they lasted so long: longer, so that it does not flap */
  betterAfterMs: 10_000,
  /** changes smaller than this share are not worth a swap */
  band: 0.15,
  /** drift within this factor is noise, and what a chain costs over a fused graph */
  drift: 1.3,
  /** so many times what is loaded is plenty: then memory does not limit plans */
  plenty: 4,
  hotC: 85,
  /** share of the cores that is used when it is too hot, or the battery is low */
  sparing: 0.5,
  lowBattery: 0.15,
} as const

/** What the controller remembers between two looks. */
export interface ControlState {
  /** what the plan in force was made for */
  readonly applied: Conditions
  /** since when conditions have been worse, or better, than applied */
  readonly worseSince?: number | undefined
  readonly betterSince?: number | undefined
}

export type Decision =
  | { readonly kind: 'steady' }
  | { readonly kind: 'hold'; readonly why: string }
  | { readonly kind: 'replan'; readonly conditions: Conditions; readonly why: string }

export const initialState: ControlState = { applied: { slowdown: new Map() } }

/**
 * Whether to plan anew. Down fast and up slowly: a lack of memory counts at once, other changes when they last, and gains only when they last
 * longer and are worth it.
 */
export function decide(
  state: ControlState,
  readings: Readings,
  observation: Observation,
  nowMs: number,
): { readonly state: ControlState; readonly decision: Decision } {
  const { applied } = state
  const now = conditionsOf(readings, observation, applied)
  const lack = now.memoryBytes !== undefined && now.memoryBytes < observation.usedBytes
  const worse = lack ? [lackOf(now.memoryBytes, observation.usedBytes)] : reasons(applied, now, observation, 'worse')
  const better = reasons(applied, now, observation, 'better')
  if (worse.length > 0) {
    const worseSince = state.worseSince ?? nowMs
    if (lack || nowMs - worseSince >= RULES.worseAfterMs) return apply(now, worse)
    const why = `${worse.join('; ')}: waiting whether it lasts`
    return { state: { applied, worseSince }, decision: { kind: 'hold', why } }
  }
  if (better.length > 0) {
    const betterSince = state.betterSince ?? nowMs
    if (nowMs - betterSince >= RULES.betterAfterMs) return apply(now, better)
    const why = `${better.join('; ')}: waiting whether it lasts`
    return { state: { applied, betterSince }, decision: { kind: 'hold', why } }
  }
  return { state: { applied }, decision: { kind: 'steady' } }
}

const apply = (conditions: Conditions, why: readonly string[]) => ({
  state: { applied: conditions },
  decision: { kind: 'replan' as const, conditions, why: why.join('; ') },
})

const lackOf = (has: number | undefined, used: number): string =>
  `the device leaves ${formatBytes(has ?? 0)} for models, which take ${formatBytes(used)}`

function conditionsOf(readings: Readings, { usedBytes, engines, drift }: Observation, applied: Conditions): Conditions {
  const slowdown = new Map(applied.slowdown)
  for (const [model, factor] of drift) {
    if (factor > RULES.drift || slowdown.has(model)) slowdown.set(model, factor)
  }
  for (const [model, factor] of slowdown) if (factor <= RULES.drift && drift.has(model)) slowdown.delete(model)
  return {
    memoryBytes: memoryFor(readings, usedBytes),
    cores: Math.min(coresFor(readings) ?? engines, engines),
    slowdown,
  }
}

function memoryFor(readings: Readings, usedBytes: number): number | undefined {
  const { memoryForModelsBytes, memoryAvailableBytes, memoryTotalBytes, memoryPressure } = readings
  if (memoryForModelsBytes !== undefined) return memoryForModelsBytes
  if (memoryAvailableBytes === undefined) return undefined
  const reserve = Math.max(RULES.reserveBytes, RULES.reserveShare * (memoryTotalBytes ?? 0))
  const room = Math.max(0, usedBytes + memoryAvailableBytes - reserve)
  // Under pressure what is free on paper is not to be had.
  if ((memoryPressure ?? 0) > RULES.memoryPressure) return Math.min(room, 0.8 * usedBytes)
  return room > RULES.plenty * usedBytes ? undefined : room
}

function coresFor({ cores, steal, temperatureC, battery }: Readings): number | undefined {
  if (cores === undefined) return undefined
  const sparing = (temperatureC ?? 0) >= RULES.hotC || (battery ?? 1) <= RULES.lowBattery
  return cores * (1 - (steal ?? 0)) * (sparing ? RULES.sparing : 1)
}

/** What changed by more than the band in one direction. */
function reasons(from: Conditions, to: Conditions, { engines }: Observation, direction: 'worse' | 'better'): string[] {
  const found: string[] = []
  const changed = (before: number, after: number) =>
    direction === 'worse' ? after < before * (1 - RULES.band) : after > before * (1 + RULES.band)
  // Less memory is a lack once it is less than what is loaded; more is a gain where it had limited the plan.
  const room = to.memoryBytes ?? Number.MAX_VALUE
  if (direction === 'better' && from.memoryBytes !== undefined && changed(from.memoryBytes, room)) {
    const now = to.memoryBytes === undefined ? 'plenty of memory' : `${formatBytes(to.memoryBytes)}`
    found.push(`there is ${now} for models, ${formatBytes(from.memoryBytes)} before`)
  }
  const [coresBefore, coresNow] = [from.cores ?? engines, to.cores ?? engines]
  if (changed(coresBefore, coresNow)) {
    found.push(`there are ${coresNow.toFixed(2)} cores, ${coresBefore.toFixed(2)} before`)
  }
  for (const model of new Set([...from.slowdown.keys(), ...to.slowdown.keys()])) {
    const [before, after] = [from.slowdown.get(model) ?? 1, to.slowdown.get(model) ?? 1]
    if (changed(1 / before, 1 / after)) found.push(`${model} takes ${after.toFixed(2)} times as long as predicted`)
  }
  return found
}
