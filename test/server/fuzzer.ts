import { request as send } from 'node:http'
import { connect } from 'node:net'
import fc, { type Arbitrary } from 'fast-check'
import { WebSocket } from 'ws'
import { type BrokenPicture, brokenPictures, wholePictures } from './broken-pictures.ts'

/** One request as it goes over the wire. */
export interface FuzzedRequest {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

interface Schema {
  readonly [key: string]: unknown
}
interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Schema }[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
}
export interface OpenApi {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components?: { readonly schemas?: Readonly<Record<string, Schema>> }
}

/** Inputs of the models that are asked: the name and the shape. */
export interface FuzzedModel {
  readonly model: string
  readonly input: string
  readonly dims: readonly number[]
}

const strange = fc.constantFrom(
  '',
  '..',
  '../../etc/passwd',
  '%00',
  '__proto__',
  'constructor',
  'x'.repeat(3000),
  '\u{1f600}',
  '%',
  '-1',
  '0',
  '1e999',
  'null',
  'a b',
  "';drop table models;--",
  '<script>',
)
const junk: Arbitrary<unknown> = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  strange,
  fc.constantFrom(-1, 0, 1e308, -0.5, 2 ** 53, 1e-320, true, null, [], {}, [[]]),
)

/** Requests for every operation that the document names: mostly as it says, and wrong in one or more ways. */
export async function requests(document: OpenApi, models: readonly FuzzedModel[]): Promise<Arbitrary<FuzzedRequest>> {
  const broken = await brokenPictures()
  const whole = await wholePictures()
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  )
  const schemas = new FromSchema(document.components?.schemas ?? {}, models)
  return fc.constantFrom(...operations).chain(({ method, path, operation }) => {
    const parameters = (place: string) => operation.parameters?.filter((each) => each.in === place) ?? []
    const inPath = fc.record(Object.fromEntries(parameters('path').map(({ name }) => [name, nameOf(name, models)])))
    const query = fc.record(
      Object.fromEntries(
        parameters('query').map(({ name, schema }) => [name, fc.option(schemas.value(schema), { nil: undefined })]),
      ),
    )
    const json = Object.values(operation.requestBody?.content ?? {}).find(({ schema }) => schema)?.schema
    const body = bodyOf(
      path,
      Object.keys(operation.requestBody?.content ?? {}),
      schemas.value(json ?? {}),
      broken,
      whole,
      models,
    )
    const verb = fc.oneof(
      { weight: 30, arbitrary: fc.constant(method) },
      { weight: 1, arbitrary: fc.constantFrom('get', 'post', 'put', 'delete', 'patch', 'options', 'head') },
    )
    return fc
      .record({ inPath, query, body, verb })
      .map(({ inPath: values, query: asked, body: content, verb: chosen }) => ({
        method: chosen.toUpperCase(),
        path: filled(path, values) + queryOf(asked),
        headers: content.headers,
        body: content.bytes,
      }))
  })
}

const nameOf = (name: string, models: readonly FuzzedModel[]): Arbitrary<string> =>
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom(...(name === 'version' ? ['1'] : [...models.map(({ model }) => model), 'door'])),
    },
    { weight: 1, arbitrary: strange },
    { weight: 1, arbitrary: fc.string({ maxLength: 30 }) },
  )

const filled = (path: string, values: Readonly<Record<string, string>>): string =>
  path.replace(/\{(\w+)\}/g, (_, name: string) => encoded(values[name] ?? ''))

/** Encoded as a client would, save for what only a hostile one sends. */
const encoded = (text: string): string =>
  text === '%00' || text === '%' ? text : encodeURIComponent(text.replace(/[\ud800-\udfff]/g, ''))

function queryOf(asked: Readonly<Record<string, unknown>>): string {
  const pairs = Object.entries(asked).filter(([, value]) => value !== undefined)
  if (pairs.length === 0) return ''
  return `?${pairs.map(([key, value]) => `${key}=${encoded(typeof value === 'string' ? value : (JSON.stringify(value) ?? ''))}`).join('&')}`
}

interface Content {
  readonly headers: Readonly<Record<string, string>>
  readonly bytes: Uint8Array
}

function bodyOf(
  path: string,
  types: readonly string[],
  value: Arbitrary<unknown>,
  broken: readonly BrokenPicture[],
  whole: readonly Uint8Array[],
  models: readonly FuzzedModel[],
): Arbitrary<Content> {
  const none = fc.constant<Content>({ headers: {}, bytes: new Uint8Array() })
  const json = jsonContent(value)
  if (path.endsWith('/infer')) return fc.oneof(json, { weight: 4, arbitrary: inference(models) })
  if (!types.some((type) => type.startsWith('image/') || type.startsWith('multipart/'))) {
    return types.length > 0
      ? fc.oneof({ weight: 8, arbitrary: json }, none)
      : fc.oneof({ weight: 4, arbitrary: none }, json)
  }
  const picture = fc.oneof(
    fc.constantFrom(...whole),
    fc.constantFrom(...broken).map(({ bytes }) => bytes),
    fc.uint8Array({ maxLength: 300 }),
  )
  return fc.oneof(
    { weight: 4, arbitrary: pictureContent(picture) },
    { weight: 4, arbitrary: multipart(picture) },
    { weight: 1, arbitrary: json },
    { weight: 1, arbitrary: none },
  )
}

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'utf8'))

/** JSON as asked for, or malformed. */
const jsonContent = (value: Arbitrary<unknown>): Arbitrary<Content> =>
  fc
    .record({
      value,
      fault: fc.constantFrom(
        'none',
        'none',
        'none',
        'cut',
        'nan',
        'deep',
        'twice',
        'bytes',
        'huge number',
        'proto',
        'gzip',
      ),
      type: fc.constantFrom(
        'application/json',
        'application/json',
        'text/plain',
        'image/jpeg',
        'multipart/form-data',
        '',
      ),
    })
    .map(({ value: given, fault, type }) => {
      const text = JSON.stringify(given) ?? ''
      const faults: Readonly<Record<string, Uint8Array>> = {
        cut: bytesOf(text.slice(0, text.length / 2)),
        nan: bytesOf(text.replace(/\d+/, 'NaN')),
        deep: bytesOf('['.repeat(20_000)),
        twice: bytesOf(text + text),
        bytes: Uint8Array.of(0xff, 0xfe, 0x7b, 0x80, 0x7d),
        'huge number': bytesOf(text.replace(/\d+/, '1e99999')),
        proto: bytesOf(`{"__proto__":{"model":"x"},"constructor":{"prototype":1},"inputs":{"length":9}}`),
      }
      const headers: Record<string, string> = type ? { 'content-type': type } : {}
      if (fault === 'gzip') headers['content-encoding'] = 'gzip'
      return { headers, bytes: faults[fault] ?? bytesOf(text) }
    })

const pictureContent = (picture: Arbitrary<Uint8Array>): Arbitrary<Content> =>
  fc
    .record({
      bytes: picture,
      type: fc.constantFrom(
        'image/jpeg',
        'image/png',
        'image/webp',
        'application/octet-stream',
        'image/svg+xml',
        'a/b/c',
        '',
      ),
      encoding: fc.constantFrom('', '', '', '', 'gzip', 'br', 'deflate', 'zstd'),
    })
    .map(({ bytes, type, encoding }) => ({
      bytes,
      headers: { ...(type ? { 'content-type': type } : {}), ...(encoding ? { 'content-encoding': encoding } : {}) },
    }))

/** Forms with a picture, and the oddities of forms. */
const multipart = (picture: Arbitrary<Uint8Array>): Arbitrary<Content> =>
  fc
    .record({
      pictures: fc.array(picture, { maxLength: 3 }),
      fields: fc.array(
        fc.tuple(fc.constantFrom('min_confidence', 'api_key', '__proto__', 'image', 'x'.repeat(200)), strange),
        { maxLength: 4 },
      ),
      many: fc.constantFrom(0, 0, 0, 40),
      fault: fc.constantFrom(
        'none',
        'none',
        'none',
        'no end',
        'no boundary',
        'other boundary',
        'long boundary',
        'no headers',
        'cut',
        'lone newlines',
        'nested',
      ),
    })
    .map(({ pictures, fields, many, fault }) => {
      const boundary = fault === 'long boundary' ? 'b'.repeat(5000) : 'boundary'
      const parts: Buffer[] = []
      const part = (head: string, content: Uint8Array | string) => {
        const newline = fault === 'lone newlines' ? '\n' : '\r\n'
        const headers = fault === 'no headers' ? '' : head.replaceAll('\r\n', newline) + newline
        parts.push(
          Buffer.from(`--${boundary}${newline}${headers}${newline}`),
          Buffer.from(content),
          Buffer.from(newline),
        )
      }
      for (const bytes of pictures) {
        part(
          'Content-Disposition: form-data; name="image"; filename="../../x\0.jpg"\r\nContent-Type: image/jpeg',
          bytes,
        )
      }
      for (const [name, value] of fields) part(`Content-Disposition: form-data; name="${name}"`, value)
      for (let i = 0; i < many; i++) part(`Content-Disposition: form-data; name="f${i}"`, 'x')
      if (fault === 'nested') part('Content-Type: multipart/mixed; boundary=boundary', '--boundary\r\n\r\n--boundary--')
      if (fault !== 'no end') parts.push(Buffer.from(`--${boundary}--\r\n`))
      const all = Buffer.concat(parts)
      const type = fault === 'no boundary' ? '' : `; boundary=${fault === 'other boundary' ? 'another' : boundary}`
      return {
        headers: { 'content-type': `multipart/form-data${type}` },
        bytes: new Uint8Array(fault === 'cut' ? all.subarray(0, all.length / 2) : all),
      }
    })

/** Tensors as JSON or raw, with values that are no numbers and lengths that lie. */
const inference = (models: readonly FuzzedModel[]): Arbitrary<Content> =>
  fc
    .record({
      model: fc.constantFrom(...models),
      raw: fc.boolean(),
      fill: fc.constantFrom(0, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 3.4e38, -1e-40),
      datatype: fc.constantFrom('FP32', 'FP32', 'FP32', 'FP64', 'INT8', 'BYTES', 'BF16', 'nothing'),
      shape: fc.constantFrom('right', 'right', 'right', 'flat', 'huge', 'negative', 'empty', 'words'),
      lie: fc.constantFrom('none', 'none', 'header', 'size', 'short', 'long', 'negative', 'words'),
      outputs: fc.option(
        fc.array(fc.record({ name: strange, parameters: fc.constant({ binary_data: true }) }), { maxLength: 2 }),
        { nil: undefined },
      ),
      extra: fc.option(junk, { nil: undefined }),
    })
    .map(({ model, raw, fill, datatype, shape, lie, outputs, extra }) => {
      const count = model.dims.reduce((product, dim) => product * dim, 1)
      const values = new Float32Array(lie === 'short' ? count - 1 : lie === 'long' ? count + 1 : count).fill(fill)
      const shapes = {
        right: model.dims,
        flat: [count],
        huge: [2 ** 31, 2 ** 31],
        negative: [-1, 3],
        empty: [],
        words: ['a'],
      }
      const size = { size: 2 ** 40, negative: -4, words: 'many' }[lie as 'size'] ?? values.byteLength
      const input = {
        name: model.input,
        datatype,
        shape: shapes[shape as 'right'],
        ...(raw ? { parameters: { binary_data_size: size } } : { data: [...values] }),
      }
      const head = bytesOf(JSON.stringify({ inputs: [input], outputs, parameters: extra }))
      const length = { header: head.length + 7, negative: -1, words: 'NaN' }[lie as 'header'] ?? head.length
      const body = raw ? Buffer.concat([head, Buffer.from(values.buffer)]) : head
      return {
        headers: raw ? { 'inference-header-content-length': String(length) } : { 'content-type': 'application/json' },
        bytes: new Uint8Array(body),
      }
    })

/** Values that follow a JSON schema, save for one part in a dozen. */
class FromSchema {
  readonly #known: Readonly<Record<string, Schema>>
  readonly #models: readonly FuzzedModel[]

  constructor(known: Readonly<Record<string, Schema>>, models: readonly FuzzedModel[]) {
    this.#known = known
    this.#models = models
  }

  value(schema: Schema, depth = 0): Arbitrary<unknown> {
    if (depth > 6) return fc.constant(null)
    return fc.oneof({ weight: 12, arbitrary: this.#right(schema, depth) }, { weight: 1, arbitrary: junk })
  }

  #right(schema: Schema, depth: number): Arbitrary<unknown> {
    const { $ref, anyOf, oneOf, allOf, type, properties, items, additionalProperties, required = [] } = schema
    if (typeof $ref === 'string') return this.value(this.#known[$ref.split('/').at(-1)!] ?? {}, depth + 1)
    const either = (anyOf ?? oneOf ?? allOf) as readonly Schema[] | undefined
    if (either?.length) return fc.oneof(...either.map((each) => this.value(each, depth + 1)))
    if (Array.isArray(schema.enum)) return fc.constantFrom(...schema.enum)
    if ('const' in schema) return fc.constant(schema.const)
    switch (Array.isArray(type) ? type[0] : type) {
      case 'object': {
        const known = Object.entries((properties ?? {}) as Record<string, Schema>)
        const own = fc.record(
          Object.fromEntries(
            known.map(([name, each]) => [
              name,
              name === 'model' ? nameOf(name, this.#models) : this.value(each, depth + 1),
            ]),
          ),
          { requiredKeys: required as string[] },
        )
        if (typeof additionalProperties !== 'object' || additionalProperties === null) return own
        const others = fc.dictionary(
          fc.string({ maxLength: 8 }),
          this.value(additionalProperties as Schema, depth + 1),
          { maxKeys: 3 },
        )
        return fc.tuple(own, others).map(([a, b]) => ({ ...b, ...a }))
      }
      case 'array':
        return fc.array(this.value((items ?? {}) as Schema, depth + 1), { maxLength: 4 })
      case 'integer':
        return fc.oneof(fc.integer({ min: 0, max: 100 }), fc.constantFrom(-1, 2 ** 31, 2 ** 53))
      case 'number':
        return fc.oneof(
          fc.double({ min: 0, max: 1e3, noNaN: true }),
          fc.double({ min: 1e5, max: 1e9, noNaN: true }),
          fc.double(),
        )
      case 'string':
        return fc.oneof(
          fc.constantFrom(...this.#models.map(({ model }) => model)),
          fc.string({ maxLength: 20 }),
          strange,
        )
      case 'boolean':
        return fc.boolean()
      default:
        return junk
    }
  }
}

/** Sends a request. @returns the status; undefined when the connection was closed without an answer */
export function statusOf(
  port: number,
  { method, path, headers, body }: FuzzedRequest,
): Promise<{ status: number | undefined; text: string }> {
  return new Promise((resolve) => {
    const request = send(
      { port, host: '127.0.0.1', method, path, headers: { ...headers, 'content-length': body.length } },
      (response) => {
        const status = response.statusCode
        const chunks: Buffer[] = []
        const done = () => resolve({ status, text: Buffer.concat(chunks).toString('utf8').slice(0, 300) })
        // A stream of events has no end.
        if (response.headers['content-type']?.startsWith('text/event-stream')) {
          response.destroy()
          return done()
        }
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', done)
        response.on('error', done)
      },
    )
    const started = performance.now()
    request.on('error', (error: NodeJS.ErrnoException) => {
      const where = request.reusedSocket ? 'a kept connection' : 'a new connection'
      const text = `${error.code} ${error.message} after ${Math.round(performance.now() - started)} ms on ${where}`
      resolve({ status: undefined, text })
    })
    request.end(body)
  })
}

/** Bytes that are hardly HTTP at all. Resolves when the service has closed the connection or stayed silent. */
export function sendRaw(port: number, text: string, ms = 200): Promise<string> {
  return new Promise((resolve) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(text, 'latin1'))
    const timer = setTimeout(() => socket.destroy(), ms)
    socket.on('data', (data) => {
      answer += data
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(answer)
    })
  })
}

export const rawOddities: readonly string[] = [
  'GET / HTTP/1.1\r\n\r\n',
  'POST /v1/models/x/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde',
  'POST /v1/models/x/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n',
  'POST /v1/models/x/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx',
  'PUT /v1/budget HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n',
  'PUT /v1/budget HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n',
  `GET /${'a'.repeat(100_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
  `GET / HTTP/1.1\r\nHost: localhost\r\n${'x: y\r\n'.repeat(3000)}\r\n`,
  'GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
  'GET /v1/stream?models=x HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
  'GET http://evil.example/v1/plan HTTP/1.1\r\nHost: evil.example\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n',
]

/** Opens a stream, sends what no camera would, and goes without a word. */
export function abuseStream(port: number, models: string, frames: readonly (Uint8Array | string)[]): Promise<void> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/stream?models=${encodeURIComponent(models)}`)
    socket.on('open', () => {
      for (const frame of frames) socket.send(frame)
      setTimeout(() => socket.terminate(), 30)
    })
    socket.on('error', () => {})
    socket.on('unexpected-response', () => {
      socket.terminate()
      resolve()
    })
    socket.on('close', () => resolve())
  })
}
