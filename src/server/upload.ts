import type { Request, RequestHandler, Response } from 'express'
import multer from 'multer'
import { BlockscaleError } from '../base/index.ts'
import { decodePicture, type Picture, readPictureHeader } from '../tensor/index.ts'
import { rawBody } from './body.ts'
import type { Service } from './service.ts'

/** What came with a request: the bytes of its first file (or of the body itself) and the text fields of its form. */
export interface Upload {
  readonly bytes: Uint8Array | undefined
  readonly fields: Readonly<Record<string, string>>
}

const uploads = new WeakMap<Request, Upload>()

export const uploadOf = (request: Request): Upload => uploads.get(request) ?? { bytes: undefined, fields: {} }

/**
 * Reads a picture from the body: as it is, or as the first file of a multipart form (whatever its field and file name).
 */
export function readUpload(service: Service): RequestHandler[] {
  const { limits } = service
  const form = multer({
    storage: multer.memoryStorage(),
    limits: {
      fileSize: limits.bodyBytes,
      files: 4,
      fields: limits.fields,
      parts: limits.fields + 4,
      fieldSize: 65_536,
      fieldNameSize: 100,
      headerPairs: 32,
    },
  }).any()
  const raw = rawBody(limits.bodyBytes)
  return [
    countUpload(service),
    (request, response, next) => (request.is('multipart/form-data') ? form : raw)(request, response, next),
    (request, _response, next) => {
      const files = Array.isArray(request.files) ? request.files : []
      const file = files.find((each) => each.size > 0) ?? files[0]
      const bytes = file?.buffer ?? (Buffer.isBuffer(request.body) ? request.body : undefined)
      const fields = file || !Buffer.isBuffer(request.body) ? textFields(request.body) : {}
      uploads.set(request, { bytes, fields })
      next()
    },
  ]
}

/** Counts the bytes of a body before it is read. */
export function countUpload(service: Service): RequestHandler {
  return (request, response, next) => {
    const length = Number(request.headers['content-length'] ?? service.limits.bodyBytes)
    if (length > service.limits.bodyBytes) {
      throw new BlockscaleError(
        'BODY_TOO_LARGE',
        `the body has ${length} bytes; ${service.limits.bodyBytes} are allowed`,
      )
    }
    const place = service.gate.receive(length, () => response.writableLength)
    response.once('close', place.leave)
    letGoWhenUnread(response, service.limits.requestMs)
    next()
  }
}

/** An answer has as long to be read as a request has to arrive: a client that reads a byte now and then cannot hold it for ever. */
function letGoWhenUnread(response: Response, ms: number): void {
  response.once('prefinish', () => {
    const late = setTimeout(() => response.destroy(), ms)
    response.once('close', () => clearTimeout(late))
  })
}

const textFields = (body: unknown): Record<string, string> =>
  Object.fromEntries(
    Object.entries((body ?? {}) as Record<string, unknown>).map(([key, value]) => [
      key,
      String(Array.isArray(value) ? value[0] : value),
    ]),
  )

/**
 * Decodes a picture once and gives it to `work`, inside the limits on pictures and pixels in the works.
 *
 * `signal` fires when the client has gone, so that nobody computes an answer that nobody reads.
 *
 * @throws BlockscaleError OVERLOADED, PICTURE_UNREADABLE, PICTURE_TOO_LARGE and what `work` throws
 */
export async function withPicture<T>(
  service: Service,
  models: readonly string[],
  bytes: Uint8Array | undefined,
  work: (picture: Picture) => Promise<T>,
): Promise<T> {
  if (!bytes || bytes.length === 0) {
    throw new BlockscaleError('PICTURE_UNREADABLE', 'the request holds no picture')
  }
  const header = readPictureHeader(bytes)
  if (!header) throw new BlockscaleError('PICTURE_UNREADABLE', 'the bytes are no JPEG, PNG or WebP picture')
  const pixels = header.width * header.height
  if (pixels > service.limits.pixels) {
    throw new BlockscaleError(
      'PICTURE_TOO_LARGE',
      `the picture has ${header.width} × ${header.height} pixels; ${service.limits.pixels} are allowed`,
    )
  }
  const place = service.gate.enter(models)
  try {
    const decoding = service.gate.decode(pixels)
    try {
      const picture = await decodePicture(bytes, { maxPixels: service.limits.pixels })
      service.onPicture?.(models, bytes)
      return await work(picture)
    } finally {
      decoding.leave()
    }
  } finally {
    place.leave()
  }
}

/** Fires when the client has gone before it had its answer. */
export function goneSignal(response: Response): AbortSignal {
  const controller = new AbortController()
  response.once('close', () => {
    if (!response.writableFinished) controller.abort()
  })
  return controller.signal
}
