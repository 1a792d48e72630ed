import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'
import { ipKeyGenerator, MemoryStore } from 'express-rate-limit'
import { BlockscaleError } from '../base/index.ts'

const WINDOW_MS = 60_000
const ALLOWED = 30

/**
 * Makes guessing tokens slow: after so many wrong ones in a minute from one address, none from there is looked at.
 *
 * Only what was refused counts, so a camera with the right token may have any number of requests under way.
 */
export interface Attempts {
  /** @throws BlockscaleError TOO_MANY_ATTEMPTS */
  check(request: IncomingMessage): Promise<void>
  failed(request: IncomingMessage): void
}

export function openAttempts(): Attempts {
  const store = new MemoryStore()
  store.init({ windowMs: WINDOW_MS } as Parameters<MemoryStore['init']>[0])
  // one household or provider has many IPv6 addresses: they count as one
  const keyOf = ({ socket }: IncomingMessage): string => ipKeyGenerator(socket.remoteAddress ?? '')
  return {
    async check(request) {
      const known = await store.get(keyOf(request))
      if (known && known.totalHits >= ALLOWED) {
        throw new BlockscaleError('TOO_MANY_ATTEMPTS', 'too many requests with a wrong token')
      }
    },
    failed(request) {
      void store.increment(keyOf(request))
    },
  }
}

export function slowGuessing(attempts: Attempts): RequestHandler {
  return async (request, response, next) => {
    try {
      await attempts.check(request)
    } catch (thrown) {
      response.set('Retry-After', String(WINDOW_MS / 1000))
      throw thrown
    }
    next()
  }
}
