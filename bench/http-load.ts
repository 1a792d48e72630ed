/** The clients of the HTTP benchmark, in a process of their own: sends what it is told to and reports times. */
import { readFileSync } from 'node:fs'
import { Agent, request as httpRequest } from 'node:http'

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

const agent = new Agent({ keepAlive: true, maxSockets: 256 })

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

function send(url: string, { bytes, headers }: Body): Promise<number> {
  return new Promise((resolve) => {
    const request = httpRequest(url, { method: 'POST', agent, headers: { ...headers, 'content-length': bytes.length } })
    request.on('response', (response) => {
      response.resume()
      response.on('end', () => resolve(response.statusCode ?? 0))
      response.on('error', () => resolve(0))
    })
    request.on('error', () => resolve(0))
    request.end(bytes)
  })
}

async function work(load: LoadRequest): Promise<LoadReport> {
  const body = bodyOf(load)
  const latenciesMs: number[] = []
  const refusedMs: number[] = []
  let failed = 0
  const urls = typeof load.url === 'string' ? [load.url] : load.url
  let next = 0
  const one = async (): Promise<void> => {
    const since = performance.now()
    const status = await send(urls[next++ % urls.length]!, body)
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
