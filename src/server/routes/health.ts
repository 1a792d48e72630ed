import { z } from 'zod'
import { type Route, route } from '../route.ts'
import type { Service } from '../service.ts'

export interface Readiness {
  readonly ready: boolean
  readonly reason?: string
}

/** Ready means: every model that somebody asked for answers, and the service is not stopping. */
export function readiness({ runtime, stopping }: Pick<Service, 'runtime' | 'stopping'>): Readiness {
  if (stopping.aborted) return { ready: false, reason: 'the service is stopping' }
  const { models, unserved } = runtime.live()
  const [waiting] = unserved
  if (waiting) return { ready: false, reason: `the workload ${waiting.id} is not served: ${waiting.why}` }
  const failed = models.find((each) => each.state === 'failed')
  if (failed) return { ready: false, reason: `${failed.model} has lost its engine, another one is being started` }
  return { ready: true }
}

export function healthRoutes(service: Service): Route[] {
  const live = z.object({ live: z.boolean() }).meta({ id: 'Liveness' })
  const ready = z.object({ ready: z.boolean(), reason: z.string().optional() }).meta({ id: 'Readiness' })
  return ['/health', '/v2/health'].flatMap((at) => [
    route({
      method: 'get',
      path: `${at}/live`,
      tag: 'health',
      summary: 'Whether the process answers',
      open: true,
      answer: live,
      handle: () => ({ live: true }),
    }),
    route({
      method: 'get',
      path: `${at}/ready`,
      tag: 'health',
      summary: 'Whether every model that is asked for answers; 503 and the reason when not',
      open: true,
      answer: ready,
      handle({ response }) {
        const state = readiness(service)
        if (!state.ready) response.status(503).set('Retry-After', '1')
        return state
      },
    }),
  ])
}
