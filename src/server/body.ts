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
export const readBody = async (request: Request, limit: number): Promise<Buffer> =>
  (await readParts(request, limit, 0)).rest

/** The first bytes of a body and the others, each in memory of its own. */
export interface BodyParts {
  readonly head: Buffer
  readonly rest: Buffer
}

/**
 * Reads a body in two parts. A tensor that is all of the second part begins where its memory begins, so it needs no copy
 * to be aligned and can be handed over to another thread.
 *
 * @param headBytes length of the first part; a body that is shorter is all head
 */
export async function readParts(request: Request, limit: number, headBytes: number): Promise<BodyParts> {
  const length = Number(request.headers['content-length'] ?? Number.NaN)
  if (length > limit) throw tooLarge(limit)
  const encoding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
  if (encoding === 'identity' && Number.isSafeInteger(length)) {
    const head = Buffer.allocUnsafeSlow(Math.min(headBytes, length))
    const rest = Buffer.allocUnsafeSlow(length - head.length)
    let size = 0
    await collect(request, request, length, (chunk) => {
      const toHead = chunk.copy(head, Math.min(size, head.length))
      if (toHead < chunk.length) chunk.copy(rest, Math.max(0, size - head.length), toHead)
      size += chunk.length
    })
    return { head, rest }
  }
  const source = encoding === 'identity' ? request : request.pipe(decoderOf(encoding))
  const chunks: Buffer[] = []
  await collect(request, source, limit, (chunk) => chunks.push(chunk))
  const whole = Buffer.concat(chunks)
  return { head: whole.subarray(0, headBytes), rest: whole.subarray(headBytes) }
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

/** Gives each chunk to `take`, until the end or until there are more than `limit` bytes. */
function collect(request: Request, source: Readable, limit: number, take: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let size = 0
    const end = (settle: () => void): void => {
      source.off('data', more).off('end', finish).off('error', broken)
      request.off('close', gone)
      settle()
    }
    const fail = (error: BlockscaleError): void =>
      end(() => {
        request.unpipe()
        // What is too large is not worth receiving, and its connection is closed. Of anything else the rest goes by unread: left where it
        // is, it would stand before the next request of the same connection.
        if (error.code === 'BODY_TOO_LARGE') request.pause()
        else request.resume()
        if (source !== request) source.on('error', () => {}).destroy()
        reject(error)
      })
    const more = (chunk: Buffer): void => {
      size += chunk.length
      if (size > limit) fail(tooLarge(limit))
      else take(chunk)
    }
    const finish = (): void => end(resolve)
    const broken = (cause: Error): void =>
      fail(new BlockscaleError('USAGE', `the body cannot be read: ${cause.message}`, undefined, { cause }))
    const gone = (): void => {
      if (!request.complete) fail(new BlockscaleError('CANCELLED', 'the client left before its request was complete'))
    }
    source.on('data', more).on('end', finish).on('error', broken)
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
