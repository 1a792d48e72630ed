import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { BlockscaleError } from '../base/index.ts'
import type { Runtime } from '../runtime/index.ts'
import { type AppOptions, createApplication } from './app.ts'
import { checkExposure } from './guard.ts'

export interface ServeOptions extends AppOptions {
  /** 127.0.0.1 unless given; any other address needs a token */
  readonly host?: string | undefined
  /** 8080 unless given; 0 for any that is free */
  readonly port?: number | undefined
}

export interface Serving {
  readonly url: string
  readonly port: number
  /** Stops accepting, finishes what was accepted, then closes the runtime. */
  close(): Promise<void>
}

/**
 * How much the heap may grow until it is searched for garbage as a whole, in percent of what is in use.
 *
 * A picture leaves some megabytes outside of the heap that V8 counts like its own; with its own small heap V8 would search it all after
 * every third picture, at a sixth of all CPU time.
 */
const HEAP_GROWTH_PERCENT = 150

/**
 * Serves a runtime over HTTP. Sets when the process collects garbage, which is meant to be one of its own.
 *
 * @throws BlockscaleError USAGE when the address is open to others and no token is given, or cannot be listened on
 */
export async function serve(runtime: Runtime, options: ServeOptions = {}): Promise<Serving> {
  const host = options.host ?? '127.0.0.1'
  checkExposure(host, options.token)
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWTH_PERCENT}`)
  const application = createApplication(runtime, options)
  const { limits } = application
  const server = createServer(
    {
      requestTimeout: limits.requestMs,
      headersTimeout: Math.min(limits.headersMs, limits.requestMs),
      connectionsCheckingInterval: Math.min(5000, limits.headersMs),
      keepAliveTimeout: 10_000,
      noDelay: true,
    },
    application.app,
  )
  server.maxConnections = limits.connections
  server.timeout = limits.idleMs
  server.on('upgrade', application.upgrade)
  // the application says itself whether it wants the body
  server.on('checkContinue', application.app)
  await listen(server, host, options.port ?? 8080)
  const { port } = server.address() as AddressInfo
  let closing: Promise<void> | undefined
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    port,
    close() {
      closing ??= drain(server, limits.drainMs, () => application.stop()).then(() => runtime.close())
      return closing
    },
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code === 'EADDRINUSE' ? 'another program listens there' : cause.message
      reject(
        new BlockscaleError('USAGE', `cannot listen on ${host}:${port}: ${why}`, 'choose another --port or --host', {
          cause,
        }),
      )
    })
    server.listen(port, host, resolve)
  })
}

/** Requests that were accepted get their answers; connections that only idle are closed at once. */
async function drain(server: Server, drainMs: number, stop: () => Promise<void>): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  const stopped = stop()
  server.closeIdleConnections()
  // keep-alive connections turn idle as their last answers are sent
  const sweep = setInterval(() => server.closeIdleConnections(), 50)
  const force = setTimeout(() => server.closeAllConnections(), drainMs)
  await Promise.all([closed, stopped])
  clearInterval(sweep)
  clearTimeout(force)
}
