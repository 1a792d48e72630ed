import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type RawData, type WebSocket, WebSocketServer } from 'ws'
import { asBlockscaleError, BlockscaleError } from '../base/index.ts'
import type { Attempts } from './attempts.ts'
import { failureJson, failureOf, statusOf } from './failure.ts'
import { modelList, predictAll } from './routes/predict.ts'
import type { Service } from './service.ts'
import { withPicture } from './upload.ts'

const PING_MS = 15_000
/** for a client to say goodbye too */
const GOODBYE_MS = 1000
/** While this much waits to be read by the client, no further frame is taken up. */
const MAX_WAITING_BYTES = 1_000_000

/** Frames in, answers out, over one WebSocket. */
export interface Streams {
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>
  readonly open: number
  close(): Promise<void>
}

/**
 * `GET /v1/stream?models=a,b`: each binary message is a picture, each answer a text message
 * `{"frame", "dropped", "answers": {model: answer or error}}`.
 *
 * One frame is in the works for each engine that runs all the models, and one may wait; a newer frame takes the place of the waiting one
 * and counts it as dropped. So a camera may send as fast as it likes: answers belong to the newest frame and come in the order of the
 * frames, and memory stays bounded.
 */
export function openStreams(service: Service, attempts?: Attempts): Streams {
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: service.limits.bodyBytes,
    perMessageDeflate: false,
    handleProtocols: (protocols) => [...protocols].find((each) => !each.startsWith('token.')) ?? false,
  })
  const alive = new WeakSet<WebSocket>()
  const ping = setInterval(() => {
    for (const socket of server.clients) {
      if (!alive.delete(socket)) socket.terminate()
      else socket.ping()
    }
  }, PING_MS)
  ping.unref()

  return {
    async upgrade(request, socket, head) {
      socket.on('error', () => socket.destroy())
      try {
        await attempts?.check(request)
        const models = accept(service, request, server.clients.size)
        server.handleUpgrade(request, socket, head, (webSocket) => {
          alive.add(webSocket)
          webSocket.on('pong', () => alive.add(webSocket))
          webSocket.on('error', () => webSocket.terminate())
          serveFrames(service, webSocket, models)
        })
      } catch (thrown) {
        refuse(socket, asBlockscaleError(thrown))
      }
    },
    get open() {
      return server.clients.size
    },
    close() {
      clearInterval(ping)
      // each stream ends itself once the frame in its works is answered
      return new Promise((resolve) => {
        const force = setTimeout(() => {
          for (const socket of server.clients) socket.terminate()
        }, service.limits.drainMs)
        server.close(() => {
          clearTimeout(force)
          resolve()
        })
      })
    },
  }
}

/** @returns the models that the frames are for. @throws BlockscaleError why there is no stream */
function accept(service: Service, request: IncomingMessage, open: number): readonly string[] {
  const [path = '', query = ''] = (request.url ?? '').split('?', 2)
  if (path !== '/v1/stream') throw new BlockscaleError('NOT_FOUND', `${path} is no stream`)
  const refused = service.refusal(request)
  if (refused) throw refused
  if (service.stopping.aborted) throw new BlockscaleError('OVERLOADED', 'the service is stopping')
  if (open >= service.limits.streams) throw new BlockscaleError('OVERLOADED', `${open} streams are open already`)
  const models = modelList(service, new URLSearchParams(query).get('models') ?? '')
  const known = new Set(service.models().map((each) => each.model))
  const unknown = models.find((model) => !known.has(model))
  if (unknown) throw new BlockscaleError('MODEL_UNKNOWN', `there is no model ${unknown} in the zoo`)
  return models
}

function refuse(socket: Duplex, failure: BlockscaleError): void {
  const body = JSON.stringify(failureJson(failure))
  const status = statusOf(failure)
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `${status === 503 ? 'Retry-After: 1\r\n' : ''}Connection: close\r\n\r\n${body}`,
  )
}

function serveFrames(service: Service, socket: WebSocket, models: readonly string[]): void {
  const gone = new AbortController()
  let waiting: { bytes: Uint8Array; frame: number } | undefined
  let working = 0
  let sent: Promise<void> = Promise.resolve()
  let frames = 0
  let dropped = 0

  const atOnce = (): number => Math.min(...models.map((model) => service.runtime.framesAtOnce(model)))
  const work = (): void => {
    while (waiting && working < atOnce() && socket.readyState === socket.OPEN) {
      const { bytes, frame } = waiting
      waiting = undefined
      working++
      const answer = answerTo(bytes, frame)
      // A frame counts until its answer was read, so that a slow reader slows down what is taken up.
      sent = sent
        .then(async () => send(socket, await answer))
        .finally(() => {
          working--
          if (service.stopping.aborted && working === 0) end()
          else work()
        })
    }
  }
  const end = (): void => {
    socket.close(1001, 'the service is stopping')
    setTimeout(() => socket.terminate(), GOODBYE_MS).unref()
  }
  const stop = (): void => {
    if (working === 0) end()
  }
  service.stopping.addEventListener('abort', stop)

  const answerTo = async (bytes: Uint8Array, frame: number): Promise<string> => {
    try {
      const answers = await withPicture(service, models, bytes, async (picture) => {
        const asked = { since: performance.now(), deadlineMs: undefined, signal: gone.signal }
        return (await predictAll(service, models, picture, asked)).answers
      })
      return JSON.stringify({ frame, dropped, answers })
    } catch (thrown) {
      return JSON.stringify({ frame, dropped, ...failureJson(failureOf(thrown)) })
    }
  }

  socket.on('message', (data: RawData, isBinary: boolean) => {
    if (!isBinary) {
      socket.close(1003, 'send pictures as binary messages')
      return
    }
    // what comes while the service stops was not accepted
    if (service.stopping.aborted) return
    if (waiting) {
      dropped++
      for (const model of models) service.runtime.missed(model)
    }
    waiting = { bytes: bytesOf(data), frame: ++frames }
    work()
  })
  socket.on('close', () => {
    waiting = undefined
    service.stopping.removeEventListener('abort', stop)
    gone.abort()
  })
}

/** Waits until the client has read enough; frames that come meanwhile replace each other. */
async function send(socket: WebSocket, text: string): Promise<void> {
  if (socket.readyState !== socket.OPEN) return
  socket.send(text)
  while (socket.bufferedAmount > MAX_WAITING_BYTES && socket.readyState === socket.OPEN) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

const bytesOf = (data: RawData): Uint8Array =>
  Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? new Uint8Array(data) : data
