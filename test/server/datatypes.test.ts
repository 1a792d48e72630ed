import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { blockId, modelId, ORIGINAL, sha256 } from '../../src/base/index.ts'
import { node, weightBytes, writeModel } from '../../src/onnx/index.ts'
import { openRuntime } from '../../src/runtime/index.ts'
import { type Serving, serve } from '../../src/server/index.ts'
import { datatypeOf } from '../../src/server/oip/datatypes.ts'
import { fromJson, toBinary } from '../../src/server/oip/tensors.ts'
import { readCard } from '../../src/tasks/index.ts'
import type { TensorType } from '../../src/tensor/index.ts'
import { type BorderValue, openZoo } from '../../src/zoo/index.ts'
import { modelOf, writeProfile } from './tiny-zoo.ts'

/** Every type that ONNX Runtime runs, with values at the ends of its range. */
const values: Partial<Record<TensorType, readonly unknown[]>> = {
  float32: [0, -1.5, 3.4028234663852886e38, 1.401298464324817e-45],
  float64: [0, -1.5, Number.MAX_VALUE, Number.MIN_VALUE],
  float16: [0, -1.5, 65504, 2 ** -24],
  int8: [0, -128, 127, 1],
  uint8: [0, 255, 1, 2],
  int16: [0, -32768, 32767, 1],
  uint16: [0, 65535, 1, 2],
  int32: [0, -(2 ** 31), 2 ** 31 - 1, 1],
  uint32: [0, 2 ** 32 - 1, 1, 2],
  int64: [0, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 1],
  uint64: [0, Number.MAX_SAFE_INTEGER, 1, 2],
  bool: [true, false, true, true],
  string: ['', 'ä', 'a "quoted" word', '漢字 ✓'],
}
const types = Object.keys(values) as TensorType[]
const DIMS = [2, 2]

let dir: string
let serving: Serving
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'blockscale-types-'))
  await writeIdentities(dir)
  serving = await serve(await openRuntime({ zoo: dir, models: ['types'], workers: 1 }), { port: 0 })
})
afterAll(async () => {
  await serving?.close()
  await rm(dir, { recursive: true, force: true })
})

const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  fetch(`${serving.url}/v2/models/types/infer`, { method: 'POST', body, headers })

const input = (type: TensorType) => ({ name: `in_${type}`, shape: DIMS, datatype: datatypeOf(type) })

interface Answer {
  readonly outputs: readonly { name: string; shape: number[]; datatype: string; data: unknown[] }[]
}

it('a model with an input and an output of every datatype is told of in metadata', async () => {
  const { inputs, outputs } = (await (await fetch(`${serving.url}/v2/models/types`)).json()) as Record<
    string,
    unknown[]
  >
  expect(inputs).toEqual(types.map((type) => ({ name: `in_${type}`, datatype: datatypeOf(type), shape: DIMS })))
  expect(outputs).toHaveLength(types.length)
})

it('gives back as JSON what was sent as JSON', async () => {
  const response = await post(JSON.stringify({ inputs: types.map((type) => ({ ...input(type), data: values[type] })) }))
  expect(response.status).toBe(200)
  const { outputs } = (await response.json()) as Answer
  const expected = types.map((type) => ({
    name: `out_${type}`,
    shape: DIMS,
    datatype: datatypeOf(type),
    data: values[type],
  }))
  expect(outputs).toEqual(expected)
})

it('gives back as bytes what was sent as bytes, some in JSON between them', async () => {
  const isJson = (type: TensorType) => type === 'int16' || type === 'string'
  const sent = types.map((type) => ({ type, bytes: toBinary(fromJson('x', type, DIMS, values[type])) }))
  const inputs = sent.map(({ type, bytes }) =>
    isJson(type)
      ? { ...input(type), data: values[type] }
      : { ...input(type), parameters: { binary_data_size: bytes.length } },
  )
  // null is what many clients write for what they do not ask
  const head = Buffer.from(
    JSON.stringify({ id: null, parameters: { binary_data_output: true }, inputs, outputs: null }),
  )
  const raw = sent.filter(({ type }) => !isJson(type)).map(({ bytes }) => bytes)
  const response = await post(new Uint8Array(Buffer.concat([head, ...raw])), {
    'Inference-Header-Content-Length': String(head.length),
  })
  expect(response.status).toBe(200)
  const body = Buffer.from(await response.arrayBuffer())
  let at = Number(response.headers.get('inference-header-content-length'))
  const { outputs } = JSON.parse(body.subarray(0, at).toString()) as {
    outputs: { name: string; parameters: { binary_data_size: number } }[]
  }
  for (const { type, bytes } of sent) {
    const size = outputs.find((each) => each.name === `out_${type}`)!.parameters.binary_data_size
    expect([type, body.subarray(at, at + size).toString('hex')]).toEqual([type, Buffer.from(bytes).toString('hex')])
    at += size
  }
  expect(at).toBe(body.length)
})

it('passes NaN and infinities on: as they are in bytes, as null in JSON', async () => {
  const ask = async (binary: boolean) => {
    const odd = Buffer.from(Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1).buffer)
    const others = types.filter((type) => type !== 'float32').map((type) => ({ ...input(type), data: values[type] }))
    const inputs = [{ ...input('float32'), parameters: { binary_data_size: odd.length } }, ...others]
    const outputs = [{ name: 'out_float32', parameters: { binary_data: binary } }]
    const head = Buffer.from(JSON.stringify({ inputs, outputs }))
    return post(new Uint8Array(Buffer.concat([head, odd])), { 'Inference-Header-Content-Length': String(head.length) })
  }
  expect(((await (await ask(false)).json()) as Answer).outputs[0]!.data).toEqual([null, null, null, 1])
  const bytes = Buffer.from(await (await ask(true)).arrayBuffer()).subarray(-16)
  expect([0, 4, 8, 12].map((offset) => bytes.readFloatLE(offset))).toEqual([
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    1,
  ])
})

/** A zoo with one model of one block that gives back each of its inputs. */
async function writeIdentities(folder: string): Promise<void> {
  const zoo = openZoo(folder)
  const ends = (side: string): BorderValue[] =>
    types.map((type) => ({ name: `${side}_${type}`, fact: { type, dims: DIMS } }))
  const nodes = types.map((type) => node('Identity', [`in_${type}`], [`out_${type}`]))
  const onnx = modelOf(ends('in'), ends('out'), { nodes, initializers: new Map() })
  const bytes = writeModel(onnx)
  const model = modelId('types')
  const file = await zoo.writeBlock(model, blockId('b0'), ORIGINAL, bytes)
  const facts = { parameters: {}, file, weightBytes: weightBytes(onnx), macs: 0 }
  const manifest = {
    format: 1 as const,
    model,
    card: readCard({
      id: 'types',
      task: 'generic',
      file: 'model.onnx',
      input: { name: 'in_float32', size: [2, 2] },
      output: { decoder: 'none' },
    }),
    source: sha256(bytes),
    original: await zoo.writeFile(model, 'original.onnx', bytes),
    inputs: ends('in'),
    outputs: ends('out'),
    blocks: [
      {
        id: blockId('b0'),
        inputs: ends('in'),
        outputs: ends('out'),
        descendants: [{ id: ORIGINAL, kind: 'original' as const, ...facts }],
      },
    ],
    sizes: [[2, 2] as const],
    dropped: [],
    stitchedError: 0,
    builtWith: 'test',
  }
  await zoo.writeManifest(manifest)
  writeProfile(zoo, manifest)
}
