/** Time as a value that tests can replace. */
export interface Clock {
  /** milliseconds since the epoch */
  now(): number
  /** milliseconds of a clock that never goes back, for measuring */
  monotonic(): number
}

export const systemClock: Clock = { now: () => Date.now(), monotonic: () => performance.now() }
