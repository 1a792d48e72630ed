import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import type { NumberedEvent } from '../event-feed.ts'
import { type Route, route } from '../route.ts'
import type { Service } from '../service.ts'
import { livePlanJson } from './plan.ts'

const HEARTBEAT_MS = 15_000
/** A listener that reads so slowly that this much waits for it is let go; it may come back with Last-Event-ID. */
const MAX_WAITING_BYTES = 1_000_000

/** Plan changes, swaps and limits as they happen. */
export function eventRoutes(service: Service): Route[] {
  let listeners = 0
  return [
    route({
      method: 'get',
      path: '/v1/events',
      tag: 'plan',
      summary: 'Server-sent events: plans, swaps, limits, gears, throughput and decisions as they happen',
      description:
        'Begins with an event `live` that holds what GET /v1/plan answers. A client that comes back with Last-Event-ID gets what it missed, as far as it is kept (256 events).',
      answer: [{ type: 'text/event-stream', schema: z.string() }],
      errors: ['OVERLOADED'],
      handle({ request, response }) {
        if (listeners >= service.limits.streams) {
          throw new BlockscaleError('OVERLOADED', `${listeners} clients listen to events already`)
        }
        response.writeHead(200, {
          'Content-Type': 'text/event-stream; charset=utf-8',
          'Cache-Control': 'no-store',
          'X-Accel-Buffering': 'no',
        })
        if (request.method === 'HEAD') return void response.end()
        listeners++
        const send = (text: string): void => {
          response.write(text)
          if (response.writableLength > MAX_WAITING_BYTES) response.destroy()
        }
        send(`retry: 2000\nevent: live\ndata: ${JSON.stringify(livePlanJson(service.runtime.live()))}\n\n`)
        const last = Number(request.get('Last-Event-ID') ?? Number.NaN)
        if (Number.isSafeInteger(last)) for (const missed of service.feed.since(last)) send(eventText(missed))
        const end = service.feed.listen((event) => send(eventText(event)))
        const heartbeat = setInterval(() => send(': still here\n\n'), HEARTBEAT_MS)
        const stop = (): void => void response.end()
        service.stopping.addEventListener('abort', stop)
        response.once('close', () => {
          listeners--
          clearInterval(heartbeat)
          service.stopping.removeEventListener('abort', stop)
          end()
        })
        return undefined
      },
    }),
  ]
}

const eventText = ({ id, event }: NumberedEvent): string =>
  `id: ${id}\nevent: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`
