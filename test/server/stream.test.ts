import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { CLASSIFIER, DETECTOR, pictureOf, type Service, startService } from './serving.ts'

let service: Service
let jpeg: Uint8Array<ArrayBuffer>
beforeAll(async () => {
  service = await startService({ limits: { streams: 4, bodyBytes: 1e6 } })
  jpeg = await pictureOf('jpeg', 320, 240)
})

interface Message {
  readonly frame: number
  readonly dropped: number
  readonly answers?: Record<string, { task?: string; error?: { code: string } }>
  readonly error?: { readonly code: string }
}

/** As long as a busy machine needs for an answer. */
const PATIENCE_MS = 60_000

const open: WebSocket[] = []
afterEach(() => {
  for (const socket of open.splice(0)) socket.terminate()
})

/** A stream with its messages as they come. */
async function stream(
  query: string,
): Promise<{ socket: WebSocket; messages: Message[]; next(count: number): Promise<void> }> {
  const socket = new WebSocket(`${service.url.replace('http', 'ws')}/v1/stream${query}`)
  open.push(socket)
  const messages: Message[] = []
  socket.on('message', (data) => messages.push(JSON.parse(String(data)) as Message))
  await new Promise<void>((resolve, reject) => {
    socket.on('open', resolve)
    socket.on('unexpected-response', (_request, response) => reject(new Error(String(response.statusCode))))
    socket.on('error', reject)
  })
  const next = async (count: number) => {
    await expect.poll(() => messages.length, { timeout: PATIENCE_MS, interval: 10 }).toBeGreaterThanOrEqual(count)
  }
  return { socket, messages, next }
}

describe('a stream of frames', () => {
  it('answers each frame that waits for its answer', async () => {
    const { socket, messages, next } = await stream(`?models=${CLASSIFIER},${DETECTOR}`)
    for (let frame = 1; frame <= 5; frame++) {
      socket.send(jpeg)
      await next(frame)
    }
    expect(messages.map((each) => each.frame)).toEqual([1, 2, 3, 4, 5])
    expect(messages.at(-1)).toMatchObject({
      dropped: 0,
      answers: { [CLASSIFIER]: { task: 'classification' }, [DETECTOR]: { task: 'detection' } },
    })
  })

  it('drops what is older when frames come faster than answers, and always answers the newest', async () => {
    const { socket, messages, next } = await stream(`?models=${CLASSIFIER}`)
    for (let i = 0; i < 100; i++) socket.send(jpeg)
    await next(2)
    await expect.poll(() => messages.at(-1)?.frame, { timeout: PATIENCE_MS, interval: 10 }).toBe(100)
    const last = messages.at(-1)!
    expect(last.frame).toBe(100)
    expect(last.dropped).toBe(100 - messages.length)
    expect(last.dropped).toBeGreaterThan(0)
    const frames = messages.map((each) => each.frame)
    expect(frames).toEqual([...frames].sort((a, b) => a - b))
  })

  it('goes on after a frame that is no picture, and when one model is unloaded', async () => {
    const { socket, messages, next } = await stream(`?models=${CLASSIFIER},${DETECTOR}`)
    socket.send(Buffer.from('no picture'))
    await next(1)
    expect(messages[0]).toMatchObject({ frame: 1, error: { code: 'PICTURE_UNREADABLE' } })
    await service.runtime.unload(DETECTOR)
    socket.send(jpeg)
    await next(2)
    expect(messages[1]!.answers).toMatchObject({
      [CLASSIFIER]: { task: 'classification' },
      [DETECTOR]: { error: { code: 'MODEL_UNKNOWN' } },
    })
    await service.runtime.load(DETECTOR)
  })

  it('closes on text and on frames that are too large', async () => {
    for (const [message, code] of [
      ['hello', 1003],
      [Buffer.alloc(2e6), 1009],
    ] as const) {
      const { socket } = await stream(`?models=${CLASSIFIER}`)
      const closed = new Promise((resolve) => socket.on('close', resolve))
      socket.on('error', () => {})
      socket.send(message)
      expect(await closed).toBe(code)
    }
  })

  it('is refused for no model, unknown ones, another path, and when too many are open', async () => {
    await expect(stream('')).rejects.toThrow('400')
    await expect(stream('?models=nobody')).rejects.toThrow('404')
    await expect(stream(`/more?models=${CLASSIFIER}`)).rejects.toThrow('404')
    for (let i = 0; i < 4; i++) await stream(`?models=${CLASSIFIER}`)
    await expect(stream(`?models=${CLASSIFIER}`)).rejects.toThrow('503')
  })

  it('a plain GET is told to upgrade', async () => {
    expect((await fetch(`${service.url}/v1/stream`)).status).toBe(426)
  })
})
