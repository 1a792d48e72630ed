import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import type { Runtime } from '../../src/runtime/index.ts'
import { serve } from '../../src/server/index.ts'
import { CLASSIFIER, DETECTOR, json, pictureOf, type Service, startService } from './serving.ts'

const token = 'a-long-enough-token-of-ours'
let service: Service
afterEach(() => service?.close())

const predict = (body: Uint8Array<ArrayBuffer> | FormData, headers: Record<string, string> = {}) =>
  fetch(`${service.url}/v1/models/${CLASSIFIER}/predict`, { method: 'POST', body, headers })

/** A runtime whose predictions wait until they are let go: the only way to know that requests are under way. */
function held(runtime: Runtime): { runtime: Runtime; waiting(): number; release(): void } {
  const waiting: (() => void)[] = []
  return {
    runtime: {
      ...runtime,
      async predict(model, picture, options) {
        await new Promise<void>((resolve) => waiting.push(resolve))
        return runtime.predict(model, picture, options)
      },
    },
    waiting: () => waiting.length,
    release: () => {
      for (const go of waiting.splice(0)) go()
    },
  }
}

/** As long as a busy machine needs. */
const PATIENCE_MS = 60_000
const until = (condition: () => boolean) => expect.poll(condition, { timeout: PATIENCE_MS, interval: 10 }).toBe(true)

describe('overload', () => {
  it('answers 503 with Retry-After at once, and everything that was accepted', async () => {
    let gate!: ReturnType<typeof held>
    service = await startService({ limits: { inWorksPerModel: 3, burstPerModel: 3 } }, (runtime) => {
      gate = held(runtime)
      return gate.runtime
    })
    const jpeg = await pictureOf('jpeg')
    const accepted = [predict(jpeg), predict(jpeg), predict(jpeg)]
    await until(() => gate.waiting() === 3)
    // while those that were accepted are still under way: nobody waits for his refusal
    const refused = await Promise.all(Array.from({ length: 20 }, () => predict(jpeg)))
    expect(gate.waiting()).toBe(3)
    for (const response of refused) {
      expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
      expect(await json(response)).toMatchObject({ error: { code: 'OVERLOADED' } })
    }
    // another model is not held up by it
    const other = fetch(`${service.url}/v1/models/${DETECTOR}/predict`, { method: 'POST', body: jpeg })
    await until(() => gate.waiting() === 4)
    gate.release()
    expect((await Promise.all([...accepted, other])).map((each) => each.status)).toEqual([200, 200, 200, 200])
  })

  it('refuses in the words of each contract, without asking for the body, and counts and names what it refused', async () => {
    let gate!: ReturnType<typeof held>
    service = await startService({ limits: { inWorksPerModel: 1, burstPerModel: 1 } }, (runtime) => {
      gate = held(runtime)
      return gate.runtime
    })
    const jpeg = await pictureOf('jpeg')
    const accepted = [CLASSIFIER, DETECTOR].map((model) =>
      fetch(`${service.url}/v1/models/${model}/predict`, { method: 'POST', body: jpeg }),
    )
    await until(() => gate.waiting() === 2)
    const refusedAt = (path: string) =>
      new Promise<unknown>((resolve, reject) => {
        const headers = { 'content-length': 1e6, expect: '100-continue', 'x-request-id': 'mine' }
        const sent = request({ port: service.port, method: 'POST', path, headers }, async (response) => {
          let text = ''
          for await (const chunk of response) text += chunk
          const { 'retry-after': retry, 'x-request-id': id, connection } = response.headers
          resolve([response.statusCode, retry, id, connection, Object.keys(JSON.parse(text))])
        })
        sent.once('continue', () => reject(new Error(`${path} asked for a body that it refuses`)))
        sent.once('error', reject).flushHeaders()
      })
    const head = [503, '1', 'mine', 'close']
    expect(await refusedAt(`/v1/models/${CLASSIFIER}/predict?deadlineMs=5`)).toEqual([...head, ['error']])
    expect(await refusedAt(`/v1/frames?models=${DETECTOR}`)).toEqual([...head, ['error']])
    expect(await refusedAt(`/v2/models/${CLASSIFIER}/versions/1/infer`)).toEqual([...head, ['error']])
    expect(await refusedAt('/v1/vision/scene')).toEqual([...head, ['success', 'error', 'code', 'duration']])
    expect(await refusedAt(`/v1/vision/custom/${DETECTOR}`)).toEqual([
      ...head,
      ['success', 'error', 'code', 'duration'],
    ])
    const metrics = await (await fetch(`${service.url}/metrics`)).text()
    expect(metrics).toContain('blockscale_http_refused_total 5')
    expect(metrics).toContain(
      'blockscale_http_request_duration_seconds_count{method="POST",route="/v1/frames",status="503"} 1',
    )
    gate.release()
    expect((await Promise.all(accepted)).map((each) => each.status)).toEqual([200, 200])
    // and asks for the body of what it takes
    const nodded = await new Promise<unknown>((resolve, reject) => {
      const path = `/v1/models/${CLASSIFIER}/predict`
      const headers = { 'content-length': jpeg.length, expect: '100-continue' }
      const sent = request({ port: service.port, method: 'POST', path, headers }, (response) => {
        response.resume().once('end', () => resolve(response.statusCode))
      })
      sent.once('error', reject).flushHeaders()
      sent.once('continue', () => {
        gate.release()
        sent.end(jpeg)
        until(() => gate.waiting() === 1).then(gate.release, reject)
      })
    })
    expect(nodded).toBe(200)
  })
})

describe('limits', () => {
  it('refuses bodies that are too large, told or not', async () => {
    service = await startService({ limits: { bodyBytes: 20_000, jsonBytes: 1000 } })
    expect((await predict(new Uint8Array(30_000))).status).toBe(413)
    const chunks = new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(8000))
      },
    })
    const request = { method: 'POST', body: chunks, duplex: 'half' } as RequestInit
    const answer = await fetch(`${service.url}/v1/models/${CLASSIFIER}/predict`, request).catch(() => undefined)
    expect([413, undefined]).toContain(answer?.status)
    const form = new FormData()
    form.append('image', new Blob([new Uint8Array(19_900)]))
    expect((await predict(form)).status).toBe(413)
    const budget = await fetch(`${service.url}/v1/budget`, {
      method: 'PUT',
      body: JSON.stringify({ a: 'x'.repeat(2000) }),
    })
    expect(budget.status).toBe(413)
    expect((await predict(await pictureOf('jpeg'))).status).toBe(200)
  })

  it.each(['deflate', 'gzip', 'br', 'zstd'])(
    'a body that is no %s leaves its connection to the next request, however much of it was left unread',
    async (encoding) => {
      service = await startService()
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      const send = (method: string, path: string, headers: Record<string, string>, body = new Uint8Array()) =>
        new Promise<{ status: number | undefined; kept: boolean }>((resolve, reject) => {
          const length = { 'content-length': body.length }
          const options = {
            agent,
            port: service.port,
            method,
            path,
            headers: { ...headers, ...length },
            timeout: 30_000,
          }
          const sent = request(options, (response) => {
            const kept = sent.reusedSocket
            response.resume().once('end', () => resolve({ status: response.statusCode, kept }))
          })
          sent.once('error', reject).once('timeout', () => sent.destroy(new Error('no answer within 30 s')))
          sent.end(body)
        })
      const path = `/v1/models/${CLASSIFIER}/predict`
      const broken = await send('POST', path, { 'content-encoding': encoding }, new Uint8Array(2_000_000).fill(255))
      expect(broken.status).toBe(400)
      expect(await send('GET', '/v1/plan', {})).toEqual({ status: 200, kept: true })
      agent.destroy()
    },
  )

  it('refuses pictures with too many pixels', async () => {
    service = await startService({ limits: { pixels: 5000 } })
    expect((await predict(await pictureOf('jpeg', 100, 51))).status).toBe(413)
    expect((await predict(await pictureOf('jpeg', 100, 50))).status).toBe(200)
  })

  it('lets slow clients go', async () => {
    service = await startService({ limits: { requestMs: 300, headersMs: 200 } })
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(service.port, '127.0.0.1', () => {
        socket.write(
          `POST /v1/models/${CLASSIFIER}/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nslow`,
        )
      })
      let text = ''
      socket.on('data', (data) => {
        text += data
      })
      socket.on('close', () => resolve(text))
    })
    expect(answer).toMatch(/^HTTP\/1.1 408/)
  })

  it('lets go of clients that do not read their answers, and takes up nothing new while too much waits for them', async () => {
    const large = new Float32Array(8e6)
    service = await startService({ limits: { requestMs: 4000, unreadBytes: 4e6 } }, (runtime) => ({
      ...runtime,
      async infer(...asked) {
        const { outputs: _, ...rest } = await runtime.infer(...asked)
        return { ...rest, outputs: { logits: { type: 'float32', dims: [large.length], data: large } } }
      },
    }))
    const input = { name: 'x', shape: [1, 3, 32, 32], datatype: 'FP32', data: new Array(3072).fill(0) }
    const body = JSON.stringify({ inputs: [input], parameters: { binary_data_output: true } })
    const socket = connect(service.port, '127.0.0.1')
    const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()).on('error', () => {}))
    socket.pause()
    socket.write(
      `POST /v2/models/${CLASSIFIER}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    const jpeg = await pictureOf('jpeg')
    const status = () => expect.poll(async () => (await predict(jpeg)).status, { timeout: PATIENCE_MS })
    await status().toBe(503)
    // only then is it read at all: what the system had taken up comes, and the rest does not
    await status().toBe(200)
    socket.resume()
    await closed
    expect(socket.bytesRead).toBeLessThan(4 * large.length)
  })

  it('says nothing of its inside when something unexpected happens', async () => {
    service = await startService({}, (runtime) => ({
      ...runtime,
      predict: () => Promise.reject(new Error('cannot read /secret/place')),
      live: () => {
        throw new TypeError('undefined is not a function')
      },
    }))
    for (const response of [await predict(await pictureOf('jpeg')), await fetch(`${service.url}/v1/plan`)]) {
      expect(response.status).toBe(500)
      const text = await response.text()
      expect(JSON.parse(text)).toMatchObject({ error: { code: 'INTERNAL' } })
      expect(text).not.toMatch(/secret|undefined|at /)
    }
  })
})

describe('who may call', () => {
  it('another address needs a token', async () => {
    service = await startService()
    await expect(serve(service.runtime, { host: '0.0.0.0', port: 0 })).rejects.toMatchObject({ code: 'USAGE' })
  })

  it('a token opens what it guards, and wrong ones soon are not looked at any more', async () => {
    service = await startService({ token })
    const plan = (authorization?: string) =>
      fetch(`${service.url}/v1/plan`, authorization ? { headers: { authorization } } : {})
    expect((await plan()).status).toBe(401)
    expect((await plan(`Bearer ${token}`)).status).toBe(200)
    for (const path of ['/health/live', '/v2/health/ready', '/', '/openapi.json', '/docs', '/v1/server/status/ping']) {
      expect((await fetch(service.url + path)).status).toBe(200)
    }
    for (const path of ['/metrics', '/v1/events', '/v2', '/v1/models', '/v1/stream']) {
      expect((await fetch(service.url + path)).status).toBe(401)
    }
    const statuses = await Promise.all(Array.from({ length: 60 }, async () => (await plan('Bearer wrong')).status))
    expect(statuses).toContain(429)
  })

  it('guessing at streams is as slow', async () => {
    service = await startService({ token })
    const open = (key: string) =>
      new Promise((resolve) => {
        const address = `${service.url.replace('http', 'ws')}/v1/stream?models=${CLASSIFIER}`
        const socket = new WebSocket(address, ['blockscale', `token.${key}`])
        socket.on('unexpected-response', (_request, response) => resolve(response.statusCode))
        socket.on('open', () => {
          socket.terminate()
          resolve('open')
        })
        socket.on('error', () => {})
      })
    // with the right token there may be any number, at once too
    expect(new Set(await Promise.all(Array.from({ length: 32 }, () => open(token))))).toEqual(new Set(['open']))
    const answers: unknown[] = []
    for (let i = 0; i < 32; i++) answers.push(await open('wrong'))
    expect([answers[0], answers.at(-1)]).toEqual([401, 429])
  })

  it('many requests at once with the right token are no guessing', async () => {
    service = await startService({ token })
    const headers = { authorization: `Bearer ${token}` }
    const answers = await Promise.all(Array.from({ length: 80 }, () => fetch(`${service.url}/v1/budget`, { headers })))
    expect(new Set(answers.map((each) => each.status))).toEqual(new Set([200]))
  })

  it('recorders send the token as api_key in their form', async () => {
    service = await startService({ token })
    const detect = async (key?: string) => {
      const form = new FormData()
      form.append('image', new Blob([await pictureOf('jpeg')]), 'frame.jpg')
      if (key) form.append('api_key', key)
      return fetch(`${service.url}/v1/vision/detection`, { method: 'POST', body: form })
    }
    expect((await detect()).status).toBe(401)
    expect((await detect('wrong')).status).toBe(401)
    expect((await detect(token)).status).toBe(200)
  })

  it('pages of other sites and names of other hosts get nothing, also as a stream', async () => {
    service = await startService()
    const headers = { origin: 'http://evil.example' }
    expect((await fetch(`${service.url}/v1/plan`, { headers })).status).toBe(403)
    expect((await predict(await pictureOf('jpeg'), headers)).status).toBe(403)
    const opened = await new Promise((resolve) => {
      const socket = new WebSocket(`${service.url.replace('http', 'ws')}/v1/stream?models=${CLASSIFIER}`, {
        origin: 'http://evil.example',
      })
      socket.on('unexpected-response', (_request, response) => resolve(response.statusCode))
      socket.on('open', () => resolve('open'))
      socket.on('error', () => {})
    })
    expect(opened).toBe(403)
  })
})

describe('stopping', () => {
  it('finishes what it accepted, takes nothing new, and ends streams and listeners', async () => {
    let gate!: ReturnType<typeof held>
    service = await startService({}, (runtime) => {
      gate = held(runtime)
      return gate.runtime
    })
    const jpeg = await pictureOf('jpeg')
    const accepted = [predict(jpeg), predict(jpeg)]
    const events = await fetch(`${service.url}/v1/events`)
    const socket = new WebSocket(`${service.url.replace('http', 'ws')}/v1/stream?models=${CLASSIFIER}`)
    await new Promise((resolve) => socket.on('open', resolve))
    const closedWith = new Promise((resolve) => socket.on('close', resolve))
    await until(() => gate.waiting() === 2)
    const closing = service.close()
    expect(await closedWith).toBe(1001)
    await events.text()
    await expect(fetch(`${service.url}/health/live`)).rejects.toThrow()
    gate.release()
    expect((await Promise.all(accepted)).map((each) => each.status)).toEqual([200, 200])
    await closing
  })

  it('answers the frames that a stream has sent', async () => {
    let gate!: ReturnType<typeof held>
    service = await startService({}, (runtime) => {
      gate = held(runtime)
      return gate.runtime
    })
    const socket = new WebSocket(`${service.url.replace('http', 'ws')}/v1/stream?models=${CLASSIFIER}`)
    await new Promise((resolve) => socket.on('open', resolve))
    const frames: number[] = []
    socket.on('message', (data) => frames.push((JSON.parse(String(data)) as { frame: number }).frame))
    const closedWith = new Promise((resolve) => socket.on('close', resolve))
    const jpeg = await pictureOf('jpeg')
    socket.send(jpeg)
    await until(() => gate.waiting() === 1)
    const closing = service.close()
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(socket.readyState).toBe(WebSocket.OPEN)
    gate.release()
    expect(await closedWith).toBe(1001)
    expect(frames).toEqual([1])
    await closing
  })
})
