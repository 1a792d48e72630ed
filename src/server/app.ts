import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import express, { type Express, Router } from 'express'
import type { Logger } from 'pino'
import { BlockscaleError, packageVersion } from '../base/index.ts'
import type { Runtime } from '../runtime/index.ts'
import { refuseEarly } from './admission.ts'
import { openAttempts, slowGuessing } from './attempts.ts'
import { openEventFeed } from './event-feed.ts'
import { handleFailure } from './failure.ts'
import { openGate } from './gate.ts'
import { type GuardOptions, guard, refusalsOf } from './guard.ts'
import { defaultLimits, type Limits } from './limits.ts'
import { createLogger, logRequests } from './log.ts'
import { openMetrics } from './metrics.ts'
import { inferenceRoutes } from './oip/inference.ts'
import { metadataRoutes } from './oip/metadata.ts'
import { repositoryRoutes } from './oip/repository.ts'
import { type OpenApiDocument, openApiDocument } from './openapi.ts'
import { pageRoutes, securityHeaders } from './page-routes.ts'
import { mount, type Route } from './route.ts'
import { deepstackRoutes } from './routes/deepstack.ts'
import { eventRoutes } from './routes/events.ts'
import { healthRoutes } from './routes/health.ts'
import { modelRoutes } from './routes/models.ts'
import { planRoutes } from './routes/plan.ts'
import { predictRoutes } from './routes/predict.ts'
import { workloadRoutes } from './routes/workloads.ts'
import type { Service } from './service.ts'
import { openStreams } from './stream.ts'

export interface AppOptions extends GuardOptions {
  readonly limits?: Partial<Limits> | undefined
  /** silent unless given; `createLogger(level)` makes one */
  readonly logger?: Logger | undefined
  /** Told of every picture that was decoded, and which models it is for. The bytes are valid for as long as they are held. */
  readonly onPicture?: ((models: readonly string[], bytes: Uint8Array) => void) | undefined
}

/** The application with what is needed to put it on a server: the handler of upgrades, and how it stops. */
export interface Application {
  readonly app: Express
  readonly limits: Limits
  readonly routes: readonly Route[]
  /** what `/openapi.json` says */
  readonly document: OpenApiDocument
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
  /** Readiness turns to no, streams and event listeners end. Does not close the runtime. */
  stop(): Promise<void>
}

/** Every route over a runtime, apart from listening. */
export function createApplication(runtime: Runtime, options: AppOptions = {}): Application {
  const limits = { ...defaultLimits(), ...options.limits }
  const stopping = new AbortController()
  const feed = openEventFeed(runtime)
  const logger = options.logger ?? createLogger('silent')
  const attempts = options.token === undefined ? undefined : openAttempts()
  const service: Service = {
    runtime,
    models: cachedModels(runtime),
    limits,
    gate: openGate(limits),
    feed,
    logger,
    onPicture: options.onPicture,
    stopping: stopping.signal,
    refusal: refusalsOf(options, attempts),
  }
  const streams = openStreams(service, attempts)
  const metrics = openMetrics(service, () => streams.open)
  const routes = [...routesOf(service), ...metrics.routes]
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use(refuseEarly(service, routes, metrics))
  app.use(logRequests(logger), securityHeaders(), metrics.observe)
  if (attempts) app.use(slowGuessing(attempts))
  const document = openApiDocument(routes, packageVersion, options.token !== undefined)
  app.use(pageRoutes(document))
  app.use((_request, response, next) => {
    response.set('Cache-Control', 'no-store')
    if (stopping.signal.aborted) response.set('Connection', 'close')
    next()
  })
  app.use(routerOf(routes.filter((each) => each.open)))
  app.use((_request, _response, next) => {
    if (stopping.signal.aborted) throw new BlockscaleError('OVERLOADED', 'the service is stopping')
    next()
  })
  app.use(guard(options, service.refusal))
  app.use(routerOf(routes.filter((each) => !each.open)))
  app.get('/v1/stream', (_request, response) => {
    response.set({ Upgrade: 'websocket', Connection: 'Upgrade' }).status(426)
    response.json({ error: { code: 'USAGE', message: 'this is a WebSocket', hint: 'open it with ws://' } })
  })
  app.use((request) => {
    throw new BlockscaleError('NOT_FOUND', `there is no ${request.path}`, '`/docs` lists the routes')
  })
  app.use(handleFailure)
  return {
    app,
    limits,
    routes,
    document,
    upgrade: streams.upgrade,
    async stop() {
      stopping.abort()
      feed.close()
      await streams.close()
    },
  }
}

const MODELS_MS = 500

/** The runtime looks at the zoo's files for each answer; recorders and cameras ask many times in a second. */
function cachedModels(runtime: Runtime): Service['models'] {
  let models = runtime.models()
  let until = 0
  runtime.events(() => {
    until = 0
  })
  return () => {
    if (performance.now() > until) {
      models = runtime.models()
      until = performance.now() + MODELS_MS
    }
    return models
  }
}

/** The Express application of a runtime, apart from listening. Streams (WebSocket) need `serve`. */
export const createApp = (runtime: Runtime, options: AppOptions = {}): Express =>
  createApplication(runtime, options).app

const routesOf = (service: Service): Route[] => [
  ...healthRoutes(service),
  ...workloadRoutes(service),
  ...planRoutes(service),
  ...modelRoutes(service),
  ...predictRoutes(service),
  ...eventRoutes(service),
  ...deepstackRoutes(service),
  ...metadataRoutes(service, packageVersion),
  ...inferenceRoutes(service),
  ...repositoryRoutes(service),
]

function routerOf(routes: readonly Route[]): Router {
  const router = Router({ caseSensitive: true })
  mount(router, routes)
  return router
}
