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
 * A burst (several cameras in the same instant) is let in and drained; pressure that lasts is overload, and then only so
 * many are let in that they are answered in time.
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
  /** when the works filled up, and they have not been (almost) empty since */
  since: number | undefined
}

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

  const check = (models: readonly string[]): void => {
    if (inWorks + models.length > limits.inWorks) refuse(`${inWorks} pictures are in the works already`)
    for (const model of models) {
      const { count, since } = perModel.get(model) ?? { count: 0, since: undefined }
      const isOverload = since !== undefined && now() - since > limits.burstMs
      if (count >= (isOverload ? limits.inWorksPerModel : limits.burstPerModel))
        refuse(`${count} pictures are in the works for ${model} already`)
    }
  }

  return {
    check,
    enter(models) {
      check(models)
      inWorks += models.length
      for (const model of models) {
        const pressure = perModel.get(model) ?? { count: 0, since: undefined }
        pressure.count++
        if (pressure.count >= limits.inWorksPerModel) pressure.since ??= now()
        perModel.set(model, pressure)
      }
      return once(() => {
        inWorks -= models.length
        for (const model of models) {
          const pressure = perModel.get(model)!
          pressure.count--
          if (pressure.count <= 1) pressure.since = undefined
          if (pressure.count === 0) perModel.delete(model)
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
