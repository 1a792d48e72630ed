import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'
import { BlockscaleError } from '../base/index.ts'
import type { Attempts } from './attempts.ts'
import type { Service } from './service.ts'

export interface GuardOptions {
  readonly token?: string | undefined
  /** names by which the service may be called without a token, beside those of this machine itself */
  readonly allowedHosts?: readonly string[] | undefined
}

const MIN_TOKEN = 16

/** @throws BlockscaleError USAGE when the service would be open to others without a (long enough) token */
export function checkExposure(host: string, token: string | undefined): void {
  if (token !== undefined && token.length < MIN_TOKEN) {
    throw new BlockscaleError(
      'USAGE',
      `the token has ${token.length} characters`,
      `use at least ${MIN_TOKEN} random ones`,
    )
  }
  if (token === undefined && !isLoopback(host)) {
    throw new BlockscaleError(
      'USAGE',
      `listening on ${host} lets others in`,
      'give a token, which clients then send as `Authorization: Bearer <token>`, or listen on 127.0.0.1',
    )
  }
}

export const isLoopback = (host: string): boolean => {
  const bare = host.toLowerCase().replace(/^\[|\]$/g, '')
  return bare === 'localhost' || bare.endsWith('.localhost') || bare === '::1' || /^127(\.\d{1,3}){3}$/.test(bare)
}

/** Whether a given key is the token, in a time that does not depend on how much of it is right. */
export function sameToken(expected: string, given: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(expected), digest(given))
}

/** The token of a request: in its Authorization, or for WebSockets of pages in a subprotocol `token.<token>`. */
export function tokenOf(request: IncomingMessage): string | undefined {
  const bearer = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')
  if (bearer) return bearer[1]
  const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((each) => each.trim())
  return protocols.find((each) => each.startsWith('token.'))?.slice('token.'.length)
}

/**
 * Why a request is not let in, or undefined.
 *
 * Without a token only this machine may call, and a browser on it is a way in for every page that it shows: pages of
 * other sites are known by their Origin, and names that were re-pointed to 127.0.0.1 by their Host.
 */
export function refusal(request: IncomingMessage, options: GuardOptions, key?: string): BlockscaleError | undefined {
  const { token, allowedHosts = [] } = options
  if (token !== undefined) {
    const given = tokenOf(request) ?? key
    if (given !== undefined && given !== '' && sameToken(token, given)) return undefined
    return new BlockscaleError('UNAUTHORISED', 'the request carries no valid token')
  }
  const host = request.headers.host ?? ''
  const hostname = host.replace(/:\d+$/, '')
  if (!isLoopback(hostname) && !allowedHosts.includes(hostname.toLowerCase())) {
    return new BlockscaleError('FORBIDDEN', `the request names the host ${hostname}, which is not this machine`)
  }
  return foreignPage(request, host)
}

function foreignPage(request: IncomingMessage, host: string): BlockscaleError | undefined {
  const { origin } = request.headers
  if (origin === undefined || origin === `http://${host}` || origin === `https://${host}`) return undefined
  return new BlockscaleError('FORBIDDEN', `the request comes from a page of ${origin}`)
}

/** `refusal` for one service, with wrong tokens counted at once. */
export const refusalsOf =
  (options: GuardOptions, attempts?: Attempts): Service['refusal'] =>
  (request, key) => {
    const refused = refusal(request, options, key)
    if (refused?.code === 'UNAUTHORISED') attempts?.failed(request)
    return refused
  }

/** Lets in who may. DeepStack's routes look for their key in the form themselves. */
export function guard(options: GuardOptions, refusalOf: Service['refusal']): RequestHandler {
  return (request, _response, next) => {
    const keyComesLater = options.token !== undefined && request.path.startsWith('/v1/vision/')
    next(keyComesLater ? undefined : refusalOf(request))
  }
}
