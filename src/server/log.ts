import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'
import { type Logger, pino } from 'pino'
import { pinoHttp } from 'pino-http'

/** A structured log on standard error, so that standard output stays for what a command prints. */
export const createLogger = (level: string): Logger =>
  pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: false }))

const REQUEST_ID = /^[\w.:-]{1,64}$/

/** The id that a client gave its request, where it is a plain one. */
export function requestIdOf(request: IncomingMessage): string | undefined {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : undefined
}

/** Polled often and interesting to nobody: logged only at debug. */
const quiet = (path: string): boolean => path.includes('/health/') || path === '/metrics' || path.endsWith('/ping')

/**
 * Gives each request an id (the client's own `x-request-id` where it sends a plain one), returns it in the answer and
 * logs the request once it is done. Queries and headers are not logged: they may carry keys.
 */
export function logRequests(logger: Logger): RequestHandler {
  const log = pinoHttp({
    logger,
    quietReqLogger: true,
    genReqId(request, response) {
      const id = requestIdOf(request) ?? randomUUID()
      response.setHeader('X-Request-Id', id)
      return id
    },
    serializers: {
      req: (request: { id: unknown; method: string; url: string }) => ({
        id: request.id,
        method: request.method,
        path: request.url.split('?')[0],
      }),
      res: (response: { statusCode: number }) => ({ status: response.statusCode }),
    },
    customLogLevel(request, response, error) {
      if (error && response.statusCode >= 500) return 'error'
      if (response.statusCode >= 500 && response.statusCode !== 503) return 'error'
      return quiet(request.url ?? '') ? 'debug' : 'info'
    },
    customAttributeKeys: { responseTime: 'ms', reqId: 'requestId' },
  })
  return (request, response, next) => {
    log(request, response)
    next()
  }
}
