import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'
import { asBlockscaleError, type BlockscaleError } from '../base/index.ts'
import { failureBody, failureShapeOf, statusOf } from './failure.ts'
import { requestIdOf } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { Route } from './route.ts'
import type { Service } from './service.ts'

const LOG_MS = 1000

interface Loading {
  readonly route: Route
  readonly pattern: RegExp
}

/**
 * Refuses what would be refused anyway before anything else is done for it and before its body is read.
 *
 * Under ten times the load that a model can bear nine of ten requests end here, on the machine that has to answer the tenth: so it costs
 * them as little as can be, and the log gets a line for each second of it rather than one for each request.
 */
export function refuseEarly(service: Service, routes: readonly Route[], metrics: Metrics): RequestHandler {
  const loading = routes.flatMap((route): Loading[] =>
    route.models ? [{ route, pattern: patternOf(route.path) }] : [],
  )
  const log = refusalLog(service)
  return (request, response, next) => {
    const expectsNod = request.headers.expect?.toLowerCase() === '100-continue'
    const [path = '', query] = request.url.split('?', 2)
    const found = request.method === 'POST' ? find(loading, path) : undefined
    try {
      if (found) service.gate.check(found.route.models!(found.params, new URLSearchParams(query)))
    } catch (thrown) {
      const failure = asBlockscaleError(thrown)
      // What is wrong with its words is told when its turn comes.
      if (failure.code === 'OVERLOADED') {
        metrics.refused(request, found!.route)
        log(request, failure)
        const text = JSON.stringify(failureBody(failure, failureShapeOf(path)))
        response.writeHead(statusOf(failure), {
          'Content-Type': 'application/json; charset=utf-8',
          'Content-Length': Buffer.byteLength(text),
          'Cache-Control': 'no-store',
          'X-Content-Type-Options': 'nosniff',
          'X-Request-Id': requestIdOf(request) ?? randomUUID(),
          'Retry-After': '1',
          // whether a body follows that was not asked for, only the client knows
          ...(expectsNod ? { Connection: 'close' } : {}),
        })
        response.end(text)
        return
      }
    }
    if (expectsNod) response.writeContinue()
    next()
  }
}

function find(
  loading: readonly Loading[],
  path: string,
): { route: Route; params: Readonly<Record<string, string>> } | undefined {
  for (const { route, pattern } of loading) {
    const match = pattern.exec(path)
    if (match) return { route, params: match.groups ?? {} }
  }
  return undefined
}

/** `/v1/models/{model}/predict` with its parameters as groups. Names of models need no decoding. */
const patternOf = (path: string): RegExp => new RegExp(`^${path.replace(/\{(\w+)\}/g, '(?<$1>[^/]+)')}/?$`)

function refusalLog({ logger }: Service): (request: IncomingMessage, failure: BlockscaleError) => void {
  let since = Number.NEGATIVE_INFINITY
  let refused = 0
  return ({ url }, { message }) => {
    refused++
    if (performance.now() - since < LOG_MS) return
    logger.warn({ path: url?.split('?')[0], refused }, `requests are refused: ${message}`)
    since = performance.now()
    refused = 0
  }
}
