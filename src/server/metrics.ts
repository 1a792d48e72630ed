import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { z } from 'zod'
import type { ModelStatistics, Runtime, Statistics } from '../runtime/index.ts'
import { VERSION } from './oip/inference.ts'
import { expressPath, type Route, route } from './route.ts'
import type { Service } from './service.ts'
import { statisticsOf } from './statistics.ts'

/** The metrics of one service. */
export interface Metrics {
  /** counts requests and their times by route */
  readonly observe: RequestHandler
  /** counts a request that was refused before it came to a route */
  refused(request: IncomingMessage, route: Route): void
  readonly routes: readonly Route[]
}

type Facts = Pick<Runtime, 'live' | 'statistics'>

const KEPT_MS = 100

/** One scrape asks a dozen times for what costs a look into /proc. */
function brieflyKept<T>(read: () => T): () => T {
  let value: { readonly of: T; readonly until: number } | undefined
  return () => {
    if (!value || performance.now() > value.until) value = { of: read(), until: performance.now() + KEPT_MS }
    return value.of
  }
}

/** Triton's metrics: name, help and where the number is in the statistics of a model. */
const triton: readonly (readonly [string, string, (model: ModelStatistics) => number])[] = [
  ['nv_inference_request_success', 'Successful inference requests', (model) => model.success.count],
  ['nv_inference_request_failure', 'Failed inference requests', (model) => model.fail.count],
  ['nv_inference_count', 'Inferences', (model) => model.inferenceCount],
  ['nv_inference_exec_count', 'Executions of the model', (model) => model.executionCount],
  ['nv_inference_request_duration_us', 'Cumulative time of requests', (model) => model.success.ns / 1000],
  ['nv_inference_queue_duration_us', 'Cumulative time in the queue', (model) => model.queue.ns / 1000],
  ['nv_inference_compute_input_duration_us', 'Cumulative time of pre-processing', (model) => model.input.ns / 1000],
  ['nv_inference_compute_infer_duration_us', 'Cumulative time of the network', (model) => model.infer.ns / 1000],
  ['nv_inference_compute_output_duration_us', 'Cumulative time of decoding answers', (model) => model.output.ns / 1000],
]

/** Metrics are read from the runtime when they are asked for, so that they cannot differ from what it says elsewhere. */
export function openMetrics(service: Service, streams: () => number): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const { gate } = service
  const runtime = { live: brieflyKept(() => service.runtime.live()), statistics: () => service.runtime.statistics() }
  tritonMetrics(registry, runtime)
  swapMetrics(registry, runtime)
  planMetrics(registry, runtime)
  gauge(
    registry,
    'blockscale_http_in_works',
    'Pictures and tensors that are decoded, waiting or running',
    () => gate.inWorks,
  )
  gauge(
    registry,
    'blockscale_http_receiving_bytes',
    'Bytes of bodies that are being received',
    () => gate.receivingBytes,
  )
  gauge(
    registry,
    'blockscale_http_unread_bytes',
    'Bytes of answers that clients have not read yet',
    () => gate.unreadBytes,
  )
  gauge(registry, 'blockscale_streams', 'Open WebSocket streams', streams)
  counter(
    registry,
    'blockscale_http_refused_total',
    'Requests refused because too much was in the works',
    () => gate.refused,
  )
  return { ...requestMetrics(registry), routes: [metricsRoute(registry)] }
}

function metricsRoute(registry: Registry): Route {
  return route({
    method: 'get',
    path: '/metrics',
    tag: 'health',
    summary: 'Prometheus metrics',
    answer: [{ type: 'text/plain', schema: z.string() }],
    async handle({ response }) {
      response.type(registry.contentType).send(await registry.metrics())
      return undefined
    },
  })
}

function requestMetrics(registry: Registry): Pick<Metrics, 'observe' | 'refused'> {
  const seconds = new Histogram({
    name: 'blockscale_http_request_duration_seconds',
    help: 'Time from the headers of a request to the end of its answer',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5],
    registers: [registry],
  })
  return {
    observe(request, response, next) {
      const since = performance.now()
      response.once('finish', () => {
        // the pattern, not the path: what clients make up must not become labels
        const pattern: unknown = request.route?.path
        const path = typeof pattern === 'string' ? pattern : 'other'
        seconds.observe(
          { method: request.method, route: path, status: response.statusCode },
          (performance.now() - since) / 1000,
        )
      })
      next()
    },
    refused({ method = '' }, { path }) {
      seconds.observe({ method, route: expressPath(path), status: 503 }, 0)
    },
  }
}

function tritonMetrics(registry: Registry, runtime: Facts): void {
  for (const [name, help, read] of triton) {
    new Counter({
      name,
      help,
      labelNames: ['model', 'version'] as const,
      registers: [registry],
      collect() {
        this.reset()
        for (const each of statisticsOf(runtime)) this.inc({ model: each.model, version: VERSION }, read(each))
      },
    })
  }
}

function swapMetrics(registry: Registry, runtime: Facts): void {
  const of = (name: string, help: string, read: (swaps: Statistics['swaps']) => number): void =>
    counter(registry, name, help, () => read(runtime.statistics().swaps))
  of('blockscale_swaps_total', 'Swaps of deployments', (swaps) => swaps.count)
  of('blockscale_swaps_failed_total', 'Swaps that failed and changed nothing', (swaps) => swaps.failed)
  of('blockscale_swap_seconds_total', 'Time from decisions to flips', (swaps) => swaps.ms / 1000)
  of('blockscale_swap_bytes_total', 'Bytes of block files that swaps loaded', (swaps) => swaps.bytes)
  new Gauge({
    name: 'blockscale_engine_queue_length',
    help: 'Requests that wait for an engine',
    labelNames: ['core'] as const,
    registers: [registry],
    collect() {
      this.reset()
      for (const each of runtime.statistics().engines) this.set({ core: each.core }, each.queueLength)
    },
  })
  counter(registry, 'blockscale_engines_replaced_total', 'Engines that died and were replaced', () =>
    runtime.statistics().engines.reduce((sum, each) => sum + each.replaced, 0),
  )
}

function planMetrics(registry: Registry, runtime: Facts): void {
  type LiveModel = ReturnType<Runtime['live']>['models'][number]
  const perModel: readonly (readonly [string, string, (model: LiveModel) => number | null])[] = [
    ['blockscale_plan_quality', 'Expected quality of the plan in force', (model) => model.predicted.quality],
    ['blockscale_latency_predicted_ms', 'Predicted time of one picture', (model) => model.predicted.latencyMs],
    ['blockscale_latency_measured_ms', 'Measured time of one picture', (model) => model.measured.latencyMs],
    ['blockscale_latency_measured_p95_ms', 'Measured 95th percentile', (model) => model.measured.p95],
    [
      'blockscale_model_memory_bytes',
      'Planned bytes of what a model keeps loaded',
      (model) => model.measured.memoryBytes,
    ],
    ['blockscale_model_ready', 'Whether a model answers', (model) => (model.state === 'failed' ? 0 : 1)],
  ]
  for (const [name, help, read] of perModel) {
    new Gauge({
      name,
      help,
      labelNames: ['model'] as const,
      registers: [registry],
      collect() {
        this.reset()
        for (const each of runtime.live().models) {
          const value = read(each)
          if (value !== null) this.set({ model: each.model }, value)
        }
      },
    })
  }
  new Gauge({
    name: 'blockscale_queue_length',
    help: 'Requests that wait for a model',
    labelNames: ['model'] as const,
    registers: [registry],
    collect() {
      this.reset()
      for (const each of statisticsOf(runtime)) this.set({ model: each.model }, each.queueLength)
    },
  })
  gauge(
    registry,
    'blockscale_memory_planned_bytes',
    'Planned bytes of all that is loaded',
    () => runtime.live().memory.plannedBytes,
  )
  gauge(registry, 'blockscale_memory_measured_bytes', 'What the system says', () => runtime.live().memory.measuredBytes)
  gauge(
    registry,
    'blockscale_memory_limit_bytes',
    'The budget; +Inf when there is none',
    () => runtime.live().memory.limitBytes ?? Number.POSITIVE_INFINITY,
  )
}

function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read())
    },
  })
}

function counter(registry: Registry, name: string, help: string, read: () => number): void {
  new Counter({
    name,
    help,
    registers: [registry],
    collect() {
      this.reset()
      this.inc(read())
    },
  })
}
