import { deflateSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { change, frontier, livePlan, modelSummary, plan } from '../../src/server/schemas.ts'
import { CLASSIFIER, DETECTOR, FACES, json, pictureOf, type Service, startService } from './serving.ts'

type Body = string | Blob | Uint8Array<ArrayBuffer>

let service: Service
let jpeg: Uint8Array<ArrayBuffer>
beforeAll(async () => {
  service = await startService()
  jpeg = await pictureOf('jpeg')
})

const get = (path: string, init: RequestInit = {}) => fetch(service.url + path, init)
const send = (method: string, path: string, body: unknown) =>
  get(path, { method, body: typeof body === 'string' ? body : JSON.stringify(body) })
const code = async (response: Response) => ((await json(response)).error as { code: string }).code
const plannedBytes = async () => livePlan.parse(await json(await get('/v1/plan'))).totals!.memoryBytes

describe('plan and budget', () => {
  it('GET /v1/plan tells the plan in force, predicted and measured, in the words of plan --json', async () => {
    const live = livePlan.parse(await json(await get('/v1/plan')))
    expect(live.models.map((each) => each.model).sort()).toEqual([CLASSIFIER, DETECTOR, FACES])
    expect(plan.parse(live).status).toMatch(/optimal|feasible/)
    for (const model of live.models) {
      expect(model.choices).toHaveLength(model.blocks.length)
      expect(model.predicted.latencyMs).toBeGreaterThan(0)
      expect(model.measured.memoryBytes).toBeGreaterThan(0)
    }
  })

  it('PUT /v1/budget answers with the plan and what was swapped, and is what GET then says', async () => {
    const before = await plannedBytes()
    const response = await send('PUT', '/v1/budget', { memoryBytes: Math.floor(before * 0.8) })
    expect(response.status).toBe(200)
    const body = await json(response)
    const { swap } = change.parse(body)
    expect(swap?.models.some((each) => each.changed.length > 0)).toBe(true)
    expect(await plannedBytes()).toBeLessThanOrEqual(before * 0.8)
    expect((await json(await get('/v1/budget'))).memoryBytes).toBe(Math.floor(before * 0.8))
    await send('PUT', '/v1/budget', {})
    expect((await json(await get('/v1/budget'))).memoryBytes).toBeUndefined()
  })

  it('a budget that nothing fits into is refused with the least that would do, and changes nothing', async () => {
    const before = await json(await get('/v1/plan'))
    const response = await send('PUT', '/v1/budget', { memoryBytes: 10 })
    expect(response.status).toBe(409)
    expect(await code(response)).toBe('PLAN_INFEASIBLE')
    expect((await json(await get('/v1/plan'))).id).toBe(before.id)
    expect((await json(await get('/v1/budget'))).memoryBytes).toBeUndefined()
  })

  it.each<[string, unknown]>([
    ['negative', { memoryBytes: -1 }],
    ['zero', { cores: 0 }],
    ['a string', { memoryBytes: '64MB' }],
    ['an unknown field', { memory: 64e6 }],
    ['an array', []],
    ['no JSON', '{"memoryBytes": 1e6'],
    ['infinite', '{"memoryBytes": 1e999}'],
  ])('refuses a budget that is %s', async (_name, body) => {
    const response = await send('PUT', '/v1/budget', body)
    expect(response.status).toBe(400)
    expect(await json(response)).toEqual({
      error: { code: 'USAGE', message: expect.any(String), hint: expect.any(String) },
    })
  })

  it('POST /v1/plan answers what would be, also when nothing would fit, and changes nothing', async () => {
    const before = await json(await get('/v1/plan'))
    const small = plan.parse(await json(await send('POST', '/v1/plan', { workloads: { w: { model: CLASSIFIER } } })))
    expect(small.models.map((each) => each.model)).toEqual([CLASSIFIER])
    const none = plan.parse(await json(await send('POST', '/v1/plan', { budget: { memoryBytes: 10 } })))
    expect(none.status).toBe('infeasible')
    expect(none.infeasible?.needs).toBeGreaterThan(10)
    expect((await json(await get('/v1/plan'))).id).toBe(before.id)
    expect(await code(await send('POST', '/v1/plan', { workloads: { w: { model: 'nobody' } } }))).toBe('MODEL_UNKNOWN')
  })
})

describe('frontier', () => {
  it('GET …/frontier gives both curves whole, each point better and dearer than the one before; fewer where asked', async () => {
    const path = `/v1/models/${DETECTOR}/frontier`
    const whole = frontier.parse(await json(await get(path)))
    expect(whole.tolerance).toBe(0)
    for (const axis of ['latencyMs', 'memoryBytes'] as const) {
      const curve = axis === 'latencyMs' ? whole.latency : whole.memory
      expect(curve.length).toBeGreaterThan(1)
      for (const [i, point] of curve.slice(1).entries()) {
        expect(point.quality).toBeGreaterThan(curve[i]!.quality)
        expect(point[axis]).toBeGreaterThan(curve[i]![axis])
      }
      expect(curve.at(-1)!.quality).toBeGreaterThanOrEqual(whole.original.quality - 1e-9)
    }
    const few = frontier.parse(await json(await get(`${path}?points=2`)))
    expect(few.latency).toEqual([whole.latency[0], whole.latency.at(-1)])
  })

  it.each([
    ['an unknown model', '/v1/models/nobody/frontier', 404],
    ['too few points', `/v1/models/${DETECTOR}/frontier?points=1`, 400],
  ])('%s is refused', async (_name, path, status) => {
    expect((await get(path)).status).toBe(status)
  })
})

describe('workloads', () => {
  it('are put, listed, read, changed and deleted', async () => {
    const wish = { model: CLASSIFIER, maxLatencyMs: 900, rate: 2, weight: 2 }
    const put = await json(await send('PUT', '/v1/workloads/door', wish))
    expect(put.workload).toEqual({ id: 'door', ...wish })
    change.parse(put)
    expect(await json(await get('/v1/workloads/door'))).toEqual({ id: 'door', ...wish })
    const { workloads } = (await json(await get('/v1/workloads'))) as { workloads: { id: string }[] }
    expect(workloads.map((each) => each.id)).toContain('door')
    expect((await get('/v1/workloads/door', { method: 'DELETE' })).status).toBe(200)
    expect((await get('/v1/workloads/door')).status).toBe(404)
    expect((await get('/v1/workloads/door', { method: 'DELETE' })).status).toBe(404)
  })

  it.each<[number, string, unknown]>([
    [404, 'door', { model: 'nobody' }],
    [400, 'door', {}],
    [400, 'door', { model: CLASSIFIER, maxLatencyMs: -1 }],
    [400, 'door', { model: CLASSIFIER, colour: 'red' }],
    [400, 'a%2Fb', { model: CLASSIFIER }],
    [400, '%2e%2e', { model: CLASSIFIER }],
    [409, 'door', { model: CLASSIFIER, maxLatencyMs: 1e-6 }],
  ])('answers %i to %s %o and keeps nothing of it', async (status, id, wish) => {
    const before = await json(await get('/v1/workloads'))
    const response = await send('PUT', `/v1/workloads/${id}`, wish)
    expect([status, 404]).toContain(response.status)
    expect(await json(await get('/v1/workloads'))).toEqual(before)
  })
})

describe('predict', () => {
  it.each(['jpeg', 'png', 'webp'] as const)('answers a raw %s', async (format) => {
    const body = await pictureOf(format)
    const headers = { 'content-type': `image/${format}` }
    const response = await get(`/v1/models/${CLASSIFIER}/predict`, { method: 'POST', headers, body })
    expect(response.status).toBe(200)
    const answer = await json(response)
    expect(answer).toMatchObject({
      task: 'classification',
      picture: { width: 64, height: 48 },
      plan: expect.any(String),
    })
    expect(answer.latencyMs).toBeGreaterThan(0)
    expect(answer.quality).toBeGreaterThan(0)
    expect((answer.labels as unknown[]).length).toBeGreaterThan(0)
  })

  it('answers a form, whatever field and file are called and wherever the file stands', async () => {
    for (const [field, file] of [
      ['image', 'a.jpg'],
      ['file', '../../etc/passwd'],
      ['x', 'ä"ö\n.svg'],
    ] as const) {
      const form = new FormData()
      form.append('note', 'before')
      form.append(field, new Blob([jpeg]), file)
      form.append('after', 'it')
      const response = await get(`/v1/models/${DETECTOR}/predict`, { method: 'POST', body: form })
      expect(response.status).toBe(200)
      expect(await json(response)).toMatchObject({ task: 'detection' })
    }
  })

  it('knows pictures by their content, not by what the client calls them', async () => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const response = await get(`/v1/models/${FACES}/predict`, { method: 'POST', headers, body: jpeg })
    expect(await json(response)).toMatchObject({ task: 'face-detection' })
  })

  const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>'
  it.each<[string, number, string, () => Body | Promise<Body>]>([
    ['nothing', 400, 'PICTURE_UNREADABLE', () => ''],
    ['text', 400, 'PICTURE_UNREADABLE', () => 'hello'],
    ['SVG that says it is JPEG', 400, 'PICTURE_UNREADABLE', () => svg],
    [
      'a JPEG that is cut off',
      400,
      'PICTURE_UNREADABLE',
      async () => (await pictureOf('jpeg', 900, 700)).slice(0, 9000),
    ],
    ['a PNG that promises 10^9 pixels', 413, 'PICTURE_TOO_LARGE', () => bomb(40_000, 25_000)],
    ['a PNG whose data is missing', 400, 'PICTURE_UNREADABLE', () => bomb(100, 100)],
  ])('refuses %s', async (_name, status, expected, make) => {
    const headers = { 'content-type': 'image/jpeg' }
    const response = await get(`/v1/models/${CLASSIFIER}/predict`, { method: 'POST', headers, body: await make() })
    expect(response.status).toBe(status)
    expect(await code(response)).toBe(expected)
  })

  it('refuses forms without a picture, with too much in them, and broken ones', async () => {
    const empty = new FormData()
    empty.append('image', 'a string')
    expect(await code(await get(`/v1/models/${CLASSIFIER}/predict`, { method: 'POST', body: empty }))).toBe(
      'PICTURE_UNREADABLE',
    )
    const many = new FormData()
    for (let i = 0; i < 200; i++) many.append(`field${i}`, 'x')
    expect(await code(await get(`/v1/models/${CLASSIFIER}/predict`, { method: 'POST', body: many }))).toBe('USAGE')
    for (const [type, body] of [
      ['multipart/form-data', 'no boundary'],
      [
        'multipart/form-data; boundary=x',
        '--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nnever ends',
      ],
      ['multipart/form-data; boundary=x', 'nothing of the kind'],
    ] as const) {
      const response = await get(`/v1/models/${CLASSIFIER}/predict`, {
        method: 'POST',
        headers: { 'content-type': type },
        body,
      })
      expect(response.status).toBe(400)
    }
  })

  it('answers 404 for a model that there is not, 504 when the deadline cannot be met, 400 for a deadline that is none', async () => {
    const post = (path: string) => get(path, { method: 'POST', body: jpeg })
    expect(await code(await post('/v1/models/nobody/predict'))).toBe('MODEL_UNKNOWN')
    // no picture is decoded for it either
    expect(await code(await get('/v1/models/nobody/predict', { method: 'POST', body: 'x' }))).toBe('MODEL_UNKNOWN')
    expect(await code(await post(`/v1/models/${CLASSIFIER}/predict?deadlineMs=0.001`))).toBe('DEADLINE_EXCEEDED')
    expect(await code(await post(`/v1/models/${CLASSIFIER}/predict?deadlineMs=soon`))).toBe('USAGE')
    expect((await post(`/v1/models/${CLASSIFIER}/predict?deadlineMs=60000`)).status).toBe(200)
  })
})

describe('frames', () => {
  it('go to several models at once; one that is unknown does not spoil the others', async () => {
    const response = await get(`/v1/frames?models=${CLASSIFIER},${DETECTOR},nobody`, { method: 'POST', body: jpeg })
    expect(response.status).toBe(200)
    const { answers } = (await json(response)) as {
      answers: Record<string, { task?: string; error?: { code: string } }>
    }
    expect(answers[CLASSIFIER]?.task).toBe('classification')
    expect(answers[DETECTOR]?.task).toBe('detection')
    expect(answers.nobody?.error?.code).toBe('MODEL_UNKNOWN')
  })

  it('need a model that there is', async () => {
    const post = (query: string) => get(`/v1/frames${query}`, { method: 'POST', body: jpeg })
    const none = await post('')
    expect(none.status).toBe(400)
    expect(await json(none)).toMatchObject({
      error: { message: 'query.models: is missing; it must be of type string' },
    })
    expect((await post('?models=,')).status).toBe(400)
    expect((await post('?models=nobody')).status).toBe(404)
    expect((await post(`?models=${Array.from({ length: 99 }, (_, i) => `m${i}`)}`)).status).toBe(400)
  })
})

describe('every route', () => {
  it('GET /v1/models lists what is there', async () => {
    const { models } = (await json(await get('/v1/models'))) as { models: unknown[] }
    expect(models.map((each) => modelSummary.parse(each).model)).toEqual(
      expect.arrayContaining([CLASSIFIER, DETECTOR, FACES]),
    )
    expect((await get(`/v1/models/${CLASSIFIER}`)).status).toBe(200)
    expect((await get('/v1/models/nobody')).status).toBe(404)
  })

  it('answers unknown paths and methods in the one shape', async () => {
    for (const path of ['/nope', '/v1', '/v1/models/x/y/z', '/../package.json', '/library/preact.mjs']) {
      const response = await get(path)
      expect(response.status).toBe(404)
      expect(await code(response)).toBe('NOT_FOUND')
    }
    const wrong = await get('/v1/budget', { method: 'PATCH' })
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'GET, PUT, HEAD'])
    expect((await get('/v1/budget', { method: 'HEAD' })).status).toBe(200)
  })

  it('carries a request id and security headers, and no sign of what is behind', async () => {
    const response = await get('/v1/plan', { headers: { 'x-request-id': 'mine-7' } })
    expect(response.headers.get('x-request-id')).toBe('mine-7')
    const other = await get('/v1/plan', { headers: { 'x-request-id': 'not plain; at all' } })
    expect(other.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(response.headers.get('x-powered-by')).toBeNull()
  })

  it('health tells the truth', async () => {
    expect(await json(await get('/health/live'))).toEqual({ live: true })
    expect(await json(await get('/health/ready'))).toEqual({ ready: true })
    expect(await json(await get('/v2/health/ready'))).toEqual({ ready: true })
  })
})

/** A PNG header for a picture of any size, without the data that it promises. */
function bomb(width: number, height: number): Blob {
  const header = Buffer.alloc(33)
  Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex').copy(header)
  header.writeUInt32BE(width, 16)
  header.writeUInt32BE(height, 20)
  header.set([8, 2, 0, 0, 0], 24)
  return new Blob([header, deflateSync(Buffer.alloc(1000))])
}
