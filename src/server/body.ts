import type { Readable } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib'
import type { Request, RequestHandler } from 'express'
import { BlockscaleError } from '../base/index.ts'

/**
 * Reads a body whole, decompressed where its Content-Encoding says so.
 *
 * Express's own parsers read a body that is too large to its end before they say so; a client that never ends would keep
 * them busy. This one stops at the limit, and takes memory once where the length is told beforehand.
 *
 * @param limit bytes, after decompression
 * @throws BlockscaleError BODY_TOO_LARGE, USAGE for an unknown or broken encoding, CANCELLED when the client is gone
 */
export async function readBody(request: Request, limit: number): Promise<Buffer> {
  const length = Number(request.headers['content-length'] ?? Number.NaN)
  if (length > limit) throw tooLarge(limit)
  const encoding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
  if (encoding === 'identity')
    return collect(request, request, limit, Number.isSafeInteger(length) ? length : undefined)
  const decoder = decoderOf(encoding)
  request.pipe(decoder)
  return collect(request, decoder, limit, undefined)
}

function decoderOf(encoding: string): ReturnType<typeof createGunzip> {
  switch (encoding) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip()
    case 'deflate':
      return createInflate()
    case 'br':
      return createBrotliDecompress()
    default:
      throw new BlockscaleError('USAGE', `Content-Encoding ${encoding} is not read`, 'send gzip, deflate, br or none')
  }
}

function collect(request: Request, source: Readable, limit: number, length: number | undefined): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const whole = length === undefined ? undefined : Buffer.allocUnsafeSlow(length)
    const parts: Buffer[] = []
    let size = 0
    const end = (settle: () => void): void => {
      source.off('data', take).off('end', finish).off('error', broken)
      request.off('close', gone)
      settle()
    }
    const fail = (error: BlockscaleError): void =>
      end(() => {
        request.unpipe()
        request.pause()
        if (source !== request) source.on('error', () => {}).destroy()
        reject(error)
      })
    const take = (chunk: Buffer): void => {
      if (size + chunk.length > Math.min(limit, length ?? limit)) {
        fail(tooLarge(limit))
        return
      }
      if (whole) chunk.copy(whole, size)
      else parts.push(chunk)
      size += chunk.length
    }
    const finish = (): void => end(() => resolve(whole ?? Buffer.concat(parts, size)))
    const broken = (cause: Error): void =>
      fail(new BlockscaleError('USAGE', `the body cannot be read: ${cause.message}`, undefined, { cause }))
    const gone = (): void => {
      if (!request.complete) fail(new BlockscaleError('CANCELLED', 'the client left before its request was complete'))
    }
    source.on('data', take).on('end', finish).on('error', broken)
    request.on('close', gone)
  })
}

const tooLarge = (limit: number): BlockscaleError =>
  new BlockscaleError('BODY_TOO_LARGE', `the body has more than the ${limit} bytes that are allowed`)

/** Puts the bytes of a body into `request.body`. */
export function rawBody(limit: number): RequestHandler {
  return async (request, _response, next) => {
    request.body = await readBody(request, limit)
    next()
  }
}

/**
 * Reads a body as JSON whatever its content type says: curl and small clients often send none or a wrong one.
 * Pages of other sites, which could abuse that, are refused by their Origin. No body at all counts as `{}`.
 */
export function jsonBody(limit: number): RequestHandler {
  return async (request, _response, next) => {
    const text = (await readBody(request, limit)).toString('utf8')
    try {
      request.body = text.trim() === '' ? {} : JSON.parse(text)
    } catch (cause) {
      throw new BlockscaleError('USAGE', `the body is not JSON: ${(cause as Error).message}`)
    }
    next()
  }
}
