/**
 * The clients of the HTTP benchmark, in a process of their own: sends what it is told to and reports times.
 *
 * They run on the cores of the service, so they are as light as can be: plain sockets, requests whose bytes are prepared, and of answers
 * only the status and the length are read.
 */
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'

interface Rate {
  /** closed loop: so many clients, each sends when it has its answer */
  readonly concurrency?: number
  /** open loop: so many in a second, whatever comes back */
  readonly perSecond?: number
  readonly requests?: number
  readonly durationMs?: number
}

export type LoadRequest = Rate &
  (
    | { readonly kind: 'picture'; readonly url: string | readonly string[]; readonly picturePath: string }
    /** a form with one file and a key, as recorders send it */
    | { readonly kind: 'form'; readonly url: string; readonly picturePath: string }
    | { readonly kind: 'binary'; readonly url: string; readonly input: string; readonly dims: readonly number[] }
  )

export interface LoadReport {
  readonly answered: number
  readonly refused: number
  readonly failed: number
  readonly ms: number
  readonly latenciesMs: readonly number[]
  readonly refusedMs: readonly number[]
}

interface Body {
  readonly bytes: Buffer
  readonly headers: Record<string, string>
}

function bodyOf(load: LoadRequest): Body {
  if (load.kind === 'picture') {
    return { bytes: readFileSync(load.picturePath), headers: { 'content-type': 'image/jpeg' } }
  }
  if (load.kind === 'form') {
    const boundary = 'f1d2d2f924e986ac86fdf7b36c94bcdf'
    const part = (headers: string): string => `--${boundary}\r\nContent-Disposition: form-data; ${headers}\r\n\r\n`
    const bytes = Buffer.concat([
      Buffer.from(`${part('name="api_key"')}\r\n${part('name="image"; filename="image"')}`),
      readFileSync(load.picturePath),
      Buffer.from(`\r\n--${boundary}--\r\n`),
    ])
    return { bytes, headers: { 'content-type': `multipart/form-data; boundary=${boundary}` } }
  }
  const size = 4 * load.dims.reduce((product, dim) => product * dim, 1)
  const input = { name: load.input, shape: load.dims, datatype: 'FP32', parameters: { binary_data_size: size } }
  const head = Buffer.from(JSON.stringify({ inputs: [input], parameters: { binary_data_output: true } }))
  const headers = { 'content-type': 'application/octet-stream', 'inference-header-content-length': String(head.length) }
  return { bytes: Buffer.concat([head, Buffer.alloc(size)]), headers }
}

/** A whole request as it goes over the wire. */
function requestOf({ pathname, search, host }: URL, { bytes, headers }: Body): Buffer {
  const lines = Object.entries({ host, ...headers, 'content-length': String(bytes.length) })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')
  return Buffer.concat([Buffer.from(`POST ${pathname}${search} HTTP/1.1\r\n${lines}\r\n`), bytes])
}

/** A connection that is kept, with one request on it at a time. */
interface Client {
  readonly isOpen: boolean
  /** @returns the status of the answer once all of it is there; 0 when the connection broke */
  send(request: Buffer): Promise<number>
}

function connectTo(url: URL, scratch: Buffer): Client {
  let settle: (status: number) => void = () => {}
  let status = 0
  let head = ''
  let missing = -1
  const take = (length: number): boolean => {
    if (missing < 0) {
      head += scratch.toString('latin1', 0, length)
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return true
      status = Number(head.slice(9, 12))
      missing =
        Number(/\r\ncontent-length: *(\d+)/i.exec(head.slice(0, end))?.[1] ?? Number.NaN) + end + 4 - head.length
      if (Number.isNaN(missing)) throw new Error(`an answer does not tell its length: ${head.slice(0, end)}`)
      head = ''
    } else missing -= length
    if (missing > 0) return true
    missing = -1
    settle(status)
    return true
  }
  const socket: Socket = connect({
    host: url.hostname,
    port: Number(url.port),
    noDelay: true,
    onread: { buffer: scratch, callback: take },
  })
  socket.on('error', () => {})
  socket.on('close', () => settle(0))
  return {
    get isOpen() {
      return !socket.destroyed
    },
    send(request) {
      return new Promise((resolve) => {
        settle = resolve
        if (socket.destroyed) return resolve(0)
        socket.write(request)
      })
    },
  }
}

/** Reads are taken one after the other, so all connections share where they are read to. */
const scratch = Buffer.allocUnsafeSlow(1 << 20)
const idle = new Map<string, Client[]>()

async function send(url: URL, request: Buffer): Promise<number> {
  const waiting = idle.get(url.host) ?? []
  idle.set(url.host, waiting)
  let client = waiting.pop()
  while (client && !client.isOpen) client = waiting.pop()
  client ??= connectTo(url, scratch)
  const status = await client.send(request)
  if (client.isOpen) waiting.push(client)
  return status
}

async function work(load: LoadRequest): Promise<LoadReport> {
  const body = bodyOf(load)
  const latenciesMs: number[] = []
  const refusedMs: number[] = []
  let failed = 0
  const targets = [load.url].flat().map((text) => {
    const url = new URL(text)
    return { url, request: requestOf(url, body) }
  })
  let next = 0
  const one = async (): Promise<void> => {
    const { url, request } = targets[next++ % targets.length]!
    const since = performance.now()
    const status = await send(url, request)
    const ms = performance.now() - since
    if (status === 200) latenciesMs.push(ms)
    else if (status === 503) refusedMs.push(ms)
    else failed++
  }
  const since = performance.now()
  const until = since + (load.durationMs ?? Number.POSITIVE_INFINITY)
  if (load.perSecond !== undefined) {
    const waiting: Promise<void>[] = []
    let sent = 0
    while (performance.now() < until) {
      const due = ((performance.now() - since) * load.perSecond) / 1000
      for (; sent < due; sent++) waiting.push(one())
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    await Promise.all(waiting)
  } else {
    let left = load.requests ?? Number.POSITIVE_INFINITY
    const loop = async (): Promise<void> => {
      while (left-- > 0 && performance.now() < until) await one()
    }
    await Promise.all(Array.from({ length: load.concurrency ?? 1 }, loop))
  }
  const ms = performance.now() - since
  return { answered: latenciesMs.length, refused: refusedMs.length, failed, ms, latenciesMs, refusedMs }
}

process.on('message', (message) => {
  void work(message as LoadRequest).then((report) => process.send!(report))
})
