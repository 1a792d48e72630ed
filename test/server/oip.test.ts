import { gzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { inferResponse } from '../../src/server/oip/message.ts'
import { CLASSIFIER, DETECTOR, json, type Service, startService } from './serving.ts'

let service: Service
beforeAll(async () => {
  service = await startService()
})

const at = (path: string, init: RequestInit = {}) => fetch(service.url + path, init)
const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  at(path, { method: 'POST', headers, body: body instanceof Uint8Array ? new Uint8Array(body) : JSON.stringify(body) })
const infer = (body: unknown, headers?: Record<string, string>, model = CLASSIFIER) =>
  post(`/v2/models/${model}/infer`, body, headers)

const SHAPE = [1, 3, 32, 32]
const values = Array.from({ length: 3 * 32 * 32 }, (_, i) => (i % 17) / 17)
const input = { name: 'x', shape: SHAPE, datatype: 'FP32', data: values }
const raw = Buffer.from(Float32Array.from(values).buffer)

/** JSON and raw tensors in one body, as Triton's clients send them. */
function binary(request: object, ...tensors: Uint8Array[]): { body: Uint8Array; headers: Record<string, string> } {
  const head = Buffer.from(JSON.stringify(request))
  const headers = { 'Inference-Header-Content-Length': String(head.length), 'Content-Type': 'application/octet-stream' }
  return { body: Buffer.concat([head, ...tensors]), headers }
}
const binaryInput = { name: 'x', shape: SHAPE, datatype: 'FP32', parameters: { binary_data_size: raw.length } }

async function logits(response: Response): Promise<number[]> {
  expect(response.status).toBe(200)
  return inferResponse.parse(await json(response)).outputs.find((each) => each.name === 'logits')!.data as number[]
}

describe('metadata', () => {
  it('of the server names the extensions', async () => {
    const server = await json(await at('/v2'))
    expect(server).toMatchObject({ name: 'blockscale', version: expect.any(String) })
    expect(server.extensions).toEqual(expect.arrayContaining(['binary_tensor_data', 'model_repository', 'statistics']))
  })

  it('of a model is the same with and without its version', async () => {
    const model = await json(await at(`/v2/models/${DETECTOR}`))
    expect(model).toEqual({
      name: DETECTOR,
      versions: ['1'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'x', datatype: 'FP32', shape: SHAPE }],
      outputs: [
        { name: 'boxes', datatype: 'FP32', shape: [1, 25, 4] },
        { name: 'scores', datatype: 'FP32', shape: [1, 25, 3] },
      ],
    })
    expect(await json(await at(`/v2/models/${DETECTOR}/versions/1`))).toEqual(model)
    expect(await json(await at(`/v2/models/${DETECTOR}/config`))).toMatchObject({ name: DETECTOR, max_batch_size: 0 })
  })

  it('answers what there is not with 404 and its own error shape', async () => {
    for (const path of ['/v2/models/nobody', `/v2/models/${CLASSIFIER}/versions/9`, '/v2/nope']) {
      const response = await at(path)
      expect(response.status).toBe(404)
      expect(await json(response)).toEqual({ error: expect.any(String) })
    }
  })

  it('readiness is 200 and true', async () => {
    expect(await json(await at(`/v2/models/${CLASSIFIER}/ready`))).toEqual({ name: CLASSIFIER, ready: true })
    expect(await json(await at(`/v2/models/${CLASSIFIER}/versions/1/ready`))).toEqual({ name: CLASSIFIER, ready: true })
  })
})

describe('infer', () => {
  it('gives the same for JSON flat and nested, binary in, binary out, compressed, and by version', async () => {
    const expected = await logits(await infer({ inputs: [input] }))
    expect(expected).toHaveLength(4)
    const nested = [
      [0, 1, 2].map((c) => [...Array(32).keys()].map((y) => values.slice(c * 1024 + y * 32, c * 1024 + y * 32 + 32))),
    ]
    expect(await logits(await infer({ inputs: [{ ...input, data: nested }] }))).toEqual(expected)
    const sent = binary({ inputs: [binaryInput] }, raw)
    expect(await logits(await infer(sent.body, sent.headers))).toEqual(expected)
    const zipped = { ...sent.headers, 'Content-Encoding': 'gzip' }
    expect(await logits(await infer(gzipSync(sent.body), zipped))).toEqual(expected)
    expect(await logits(await post(`/v2/models/${CLASSIFIER}/versions/1/infer`, { inputs: [input] }))).toEqual(expected)

    const both = binary({ id: '42', inputs: [binaryInput], parameters: { binary_data_output: true } }, raw)
    const response = await infer(both.body, both.headers)
    const length = Number(response.headers.get('inference-header-content-length'))
    const bytes = Buffer.from(await response.arrayBuffer())
    const head = inferResponse.parse(JSON.parse(bytes.subarray(0, length).toString()))
    expect(head).toMatchObject({ id: '42', model_name: CLASSIFIER, model_version: '1' })
    expect(head.outputs).toEqual([
      { name: 'logits', shape: [1, 4], datatype: 'FP32', parameters: { binary_data_size: 16 } },
    ])
    expect([0, 4, 8, 12].map((offset) => bytes.readFloatLE(length + offset))).toEqual(expected)
  })

  it('gives the outputs that are asked for, each as it is asked for', async () => {
    const outputs = [{ name: 'scores', parameters: { binary_data: true } }, { name: 'boxes' }]
    const response = await infer({ inputs: [input], outputs }, {}, DETECTOR)
    const length = Number(response.headers.get('inference-header-content-length'))
    const bytes = Buffer.from(await response.arrayBuffer())
    const head = inferResponse.parse(JSON.parse(bytes.subarray(0, length).toString()))
    expect(head.outputs.map((each) => [each.name, each.data?.length])).toEqual([
      ['scores', undefined],
      ['boxes', 100],
    ])
    expect(bytes.length - length).toBe(4 * 75)
    expect(bytes.readFloatLE(length)).toBeCloseTo(0.95)
    const all = inferResponse.parse(await json(await infer({ inputs: [input] }, {}, DETECTOR)))
    expect(all.outputs.map((each) => each.name)).toEqual(['boxes', 'scores'])
  })

  it('says which plan answered and what is expected of it; takes limits for one request', async () => {
    const { parameters } = inferResponse.parse(
      await json(await infer({ inputs: [input], parameters: { timeout: 5e6 } })),
    )
    expect(parameters).toMatchObject({
      plan: expect.any(String),
      quality: expect.any(Number),
      latency_ms: expect.any(Number),
    })
    expect((await infer({ inputs: [input], parameters: { timeout: 0.1 } })).status).toBe(504)
    expect((await infer({ inputs: [input], parameters: { deadline_ms: -1 } })).status).toBe(400)
    expect((await infer({ inputs: [input], parameters: { min_quality: 0.999 } })).status).toBe(409)
    expect((await infer({ inputs: [input], parameters: { min_quality: 0.1 } })).status).toBe(200)
  })

  const lying = (size: number) => binary({ inputs: [{ ...binaryInput, parameters: { binary_data_size: size } }] }, raw)
  it.each<[string, unknown, Record<string, string>?]>([
    ['no inputs', { inputs: [] }],
    ['another input', { inputs: [{ ...input, name: 'y' }] }],
    ['an input twice', { inputs: [input, input] }],
    ['another shape', { inputs: [{ ...input, shape: [1, 3, 16, 64] }] }],
    ['a shape of another rank', { inputs: [{ ...input, shape: [3072] }] }],
    ['a negative dimension', { inputs: [{ ...input, shape: [1, -3, -32, 32] }] }],
    ['another datatype', { inputs: [{ ...input, datatype: 'FP64' }] }],
    ['a datatype that there is not', { inputs: [{ ...input, datatype: 'float' }] }],
    ['too few elements', { inputs: [{ ...input, data: values.slice(1) }] }],
    ['too many elements', { inputs: [{ ...input, data: [...values, 1] }] }],
    ['no data', { inputs: [{ name: 'x', shape: SHAPE, datatype: 'FP32' }] }],
    ['strings as numbers', { inputs: [{ ...input, data: values.map(String) }] }],
    ['an output that there is not', { inputs: [input], outputs: [{ name: 'nope' }] }],
    [
      'the classification extension',
      { inputs: [input], outputs: [{ name: 'logits', parameters: { classification: 2 } }] },
    ],
    ['a binary size that is too large', lying(raw.length + 4).body, lying(raw.length + 4).headers],
    ['a binary size that is too small', lying(raw.length - 4).body, lying(raw.length - 4).headers],
    ['a binary size that is no number', lying(Number.NaN).body, lying(Number.NaN).headers],
    ['a header that is longer than the body', raw, { 'Inference-Header-Content-Length': '999999' }],
    ['a header that is negative', raw, { 'Inference-Header-Content-Length': '-1' }],
    ['a header that is no number', raw, { 'Inference-Header-Content-Length': 'x' }],
    ['no JSON', raw, {}],
    ['an unknown encoding', raw, { 'Content-Encoding': 'zip' }],
    ['a broken encoding', raw, { 'Content-Encoding': 'gzip' }],
  ])('refuses %s', async (_name, body, headers) => {
    const response = await infer(body, headers)
    expect(response.status).toBe(400)
    expect(await json(response)).toEqual({ error: expect.any(String) })
  })
})

describe('repository and statistics', () => {
  it('unload and load take a model away and bring it back, and the index says so', async () => {
    const stateOf = async () => {
      const index = (await (await post('/v2/repository/index', {})).json()) as {
        name: string
        state: string
        reason: string
      }[]
      return index.find((each) => each.name === DETECTOR)
    }
    expect(await stateOf()).toMatchObject({ version: '1', state: 'READY', reason: '' })
    expect(
      (await post(`/v2/repository/models/${DETECTOR}/unload`, { parameters: { unload_dependents: false } })).status,
    ).toBe(200)
    expect(await stateOf()).toMatchObject({ state: 'UNAVAILABLE', reason: 'unloaded' })
    expect((await at(`/v2/models/${DETECTOR}/ready`)).status).toBe(503)
    expect((await infer({ inputs: [input] }, {}, DETECTOR)).status).toBe(404)
    const ready = (await (await post('/v2/repository/index', { ready: true })).json()) as { name: string }[]
    expect(ready.map((each) => each.name)).not.toContain(DETECTOR)
    expect((await at(`/v2/repository/models/${DETECTOR}/load`, { method: 'POST' })).status).toBe(200)
    expect((await at(`/v2/models/${DETECTOR}/ready`)).status).toBe(200)
    expect((await infer({ inputs: [input] }, {}, DETECTOR)).status).toBe(200)
  })

  it('refuses models that come with the request, and those that there are not', async () => {
    const parameters = { config: '{}', 'file:1/model.onnx': 'AAAA' }
    expect((await post(`/v2/repository/models/${DETECTOR}/load`, { parameters })).status).toBe(400)
    expect((await post('/v2/repository/models/nobody/load', {})).status).toBe(404)
    expect((await post('/v2/repository/models/..%2Fx/load', {})).status).toBe(400)
  })

  it('count what was answered', async () => {
    const counted = async () => {
      const { model_stats } = (await json(await at(`/v2/models/${CLASSIFIER}/stats`))) as {
        model_stats: {
          name: string
          inference_count: number
          inference_stats: Record<string, { count: number; ns: number }>
        }[]
      }
      expect(model_stats).toHaveLength(1)
      return model_stats[0]!
    }
    const before = await counted()
    await infer({ inputs: [input] })
    const after = await counted()
    expect(after.inference_count).toBe(before.inference_count + 1)
    expect(after.inference_stats.compute_infer!.ns).toBeGreaterThan(before.inference_stats.compute_infer!.ns)
    const { model_stats } = (await json(await at('/v2/models/stats'))) as { model_stats: { name: string }[] }
    expect(model_stats.map((each) => each.name)).toContain(CLASSIFIER)
    const metrics = await (await at('/metrics')).text()
    expect(metrics).toMatch(
      new RegExp(
        `nv_inference_request_success\\{model="${CLASSIFIER}",version="1"\\} ${after.inference_stats.success!.count}\n`,
      ),
    )
  })
})
