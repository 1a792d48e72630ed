import { availableParallelism } from 'node:os'

/** What the service accepts at most. Every limit exists so that memory and waiting stay bounded whatever clients do. */
export interface Limits {
  /** bytes of one request body, after decompression */
  readonly bodyBytes: number
  /** bytes of a JSON body on the routes that take no tensors */
  readonly jsonBytes: number
  /** bytes of all bodies that are being received at the same time */
  readonly uploadBytes: number
  /** bytes of all answers that their clients have not read yet; beyond it nothing new is taken up */
  readonly unreadBytes: number
  /** pixels of one picture, before it is decoded */
  readonly pixels: number
  /** pixels of all pictures that are decoded at the same time; 3 bytes each */
  readonly pixelsInWorks: number
  /** fields and files of one multipart form */
  readonly fields: number
  /** pictures or tensors for one model that are decoded, waiting or running while it is overloaded; the rest gets 503 at once */
  readonly inWorksPerModel: number
  /** the same otherwise: several cameras may send in the same instant */
  readonly burstPerModel: number
  /** milliseconds that an overload lasts at least, and after which is looked whether it still does */
  readonly overloadMs: number
  /** the same over all models */
  readonly inWorks: number
  /** open connections */
  readonly connections: number
  /** WebSocket streams, and listeners of events, each */
  readonly streams: number
  /** models that one frame may be sent to */
  readonly modelsPerFrame: number
  /** milliseconds for a whole request to arrive, and for its headers alone */
  readonly requestMs: number
  readonly headersMs: number
  /** milliseconds without a byte in either direction before a connection is closed */
  readonly idleMs: number
  /** milliseconds that accepted work may take to end when the service stops */
  readonly drainMs: number
}

/**
 * Defaults for a small machine.
 *
 * A model runs on one core. Two in the works keep it busy while the next picture is decoded, and the second of them still finishes within
 * three times of the unloaded time, also when those who are refused take a part of the machine; a longer queue would only make
 * every answer late.
 */
export function defaultLimits(cores: number = availableParallelism()): Limits {
  return {
    bodyBytes: 32e6,
    jsonBytes: 1e6,
    uploadBytes: 256e6,
    unreadBytes: 128e6,
    pixels: 25e6,
    pixelsInWorks: 75e6,
    fields: 16,
    inWorksPerModel: 2,
    burstPerModel: 8,
    overloadMs: 1000,
    inWorks: Math.max(16, 8 * cores),
    connections: 512,
    streams: 32,
    modelsPerFrame: 16,
    requestMs: 30_000,
    headersMs: 10_000,
    idleMs: 60_000,
    drainMs: 30_000,
  }
}
