import { BlockscaleError } from '../base/index.ts'
import type { Limits } from './limits.ts'

/** A place among the requests in the works; `leave` may be called more than once. */
export interface Place {
  leave(): void
}

/**
 * Counts what is being received and what is in the works, and refuses the rest at once.
 *
 * Bodies and work are counted apart: a client that sends its body slowly holds bytes, but no place in the works.
 * A burst (several cameras in the same instant) is let in and drained. When more comes than a burst holds that is overload, and from
 * then on only so many are let in that they are answered in time, until most of what comes would be let in again.
 */
export interface Gate {
  /** @throws BlockscaleError OVERLOADED when a request for these models would be refused now; takes no place */
  check(models: readonly string[]): void
  /** @throws BlockscaleError OVERLOADED */
  enter(models: readonly string[]): Place
  /**
   * Counts a body that is about to be received, and the bytes of its answer that the client has not read yet.
   *
   * @throws BlockscaleError OVERLOADED
   */
  receive(bytes: number, unread?: () => number): Place
  /** Counts pixels that are about to be decoded. @throws BlockscaleError OVERLOADED */
  decode(pixels: number): Place
  readonly inWorks: number
  readonly receivingBytes: number
  /** of answers that wait for clients who read slowly */
  readonly unreadBytes: number
  readonly refused: number
}

interface Pressure {
  count: number
  /** since when more comes than a burst holds, or since it was last seen that it still does; what came from then on */
  overload: { readonly since: number; entered: number; refused: number } | undefined
}

/** With two places and arrivals at random a third is refused when just as much comes as can be answered. */
const REFUSED_AT_CAPACITY = 1 / 3
/** Models that are remembered while nobody asks for them: the names come from clients. */
const MOST_IDLE = 64

/** @param now milliseconds of a clock that never goes back */
export function openGate(limits: Limits, now: () => number = () => performance.now()): Gate {
  const perModel = new Map<string, Pressure>()
  let inWorks = 0
  let receivingBytes = 0
  let decodedPixels = 0
  let refused = 0
  const answers = new Set<() => number>()
  const unreadBytes = (): number => [...answers].reduce((sum, unread) => sum + unread(), 0)

  const refuse = (message: string): never => {
    refused++
    throw new BlockscaleError('OVERLOADED', message)
  }

  const placesOf = (pressure: Pressure): number => {
    const { overload } = pressure
    if (!overload) return limits.burstPerModel
    const age = now() - overload.since
    if (age <= limits.overloadMs) return limits.inWorksPerModel
    // a pause of another such time in which nothing came ends it too
    const lasts =
      age <= 2 * limits.overloadMs && overload.refused > REFUSED_AT_CAPACITY * (overload.refused + overload.entered)
    pressure.overload = lasts ? { since: now(), entered: 0, refused: 0 } : undefined
    return lasts ? limits.inWorksPerModel : limits.burstPerModel
  }

  const check = (models: readonly string[]): void => {
    if (inWorks + models.length > limits.inWorks) refuse(`${inWorks} pictures are in the works already`)
    for (const model of models) {
      const pressure = perModel.get(model)
      if (!pressure || pressure.count < placesOf(pressure)) continue
      pressure.overload ??= { since: now(), entered: 0, refused: 0 }
      pressure.overload.refused++
      refuse(`${pressure.count} pictures are in the works for ${model} already`)
    }
  }

  return {
    check,
    enter(models) {
      check(models)
      inWorks += models.length
      for (const model of models) {
        const pressure = perModel.get(model) ?? { count: 0, overload: undefined }
        pressure.count++
        if (pressure.overload) pressure.overload.entered++
        perModel.set(model, pressure)
      }
      return once(() => {
        inWorks -= models.length
        for (const model of models) {
          const pressure = perModel.get(model)!
          pressure.count--
          if (pressure.count === 0 && (!pressure.overload || perModel.size > MOST_IDLE)) perModel.delete(model)
        }
      })
    },
    receive(bytes, unread) {
      if (receivingBytes > 0 && receivingBytes + bytes > limits.uploadBytes) {
        refuse(`${receivingBytes} bytes are being received already`)
      }
      const waiting = unreadBytes()
      if (waiting > limits.unreadBytes) refuse(`${waiting} bytes of answers wait for clients that do not read them`)
      receivingBytes += bytes
      if (unread) answers.add(unread)
      return once(() => {
        receivingBytes -= bytes
        if (unread) answers.delete(unread)
      })
    },
    decode(pixels) {
      if (decodedPixels > 0 && decodedPixels + pixels > limits.pixelsInWorks) {
        refuse(`pictures with ${decodedPixels} pixels are in the works already`)
      }
      decodedPixels += pixels
      return once(() => {
        decodedPixels -= pixels
      })
    },
    get inWorks() {
      return inWorks
    },
    get receivingBytes() {
      return receivingBytes
    },
    get unreadBytes() {
      return unreadBytes()
    },
    get refused() {
      return refused
    },
  }
}

function once(action: () => void): Place {
  let done = false
  return {
    leave() {
      if (done) return
      done = true
      action()
    },
  }
}
