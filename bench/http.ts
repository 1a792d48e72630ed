/**
 * What the service adds to the networks that it serves, and what it does under ten times the load that it can bear.
 *
 *     npx tsx bench/http.ts [nanodet-m-320 …]     # about a minute for each model; needs the assets folder
 *
 * Clients run in a process of their own, but on the same cores: what they cost, little as it is, is a part of every figure. What Node's
 * own HTTP costs for the same bytes and the same call is measured beside it, by a server that does nothing else.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { openRuntime, type Runtime } from '../src/runtime/index.ts'
import { type Serving, serve } from '../src/server/index.ts'
import { answerJson } from '../src/tasks/index.ts'
import { decodePicture, floats, fromBytes, type NumericType, type Tensor, toBytes } from '../src/tensor/index.ts'
import { type Bare, serveBare } from './http-bare.ts'
import type { LoadReport, LoadRequest } from './http-load.ts'
import { originalsOnly } from './http-zoo.ts'
import { median, type ResultRow, writeResult } from './result.ts'

const assets = process.env.BLOCKSCALE_ASSETS ?? fileURLToPath(new URL('../../shared/assets', import.meta.url))
const names = process.argv.slice(2).length ? process.argv.slice(2) : ['nanodet-m-320', 'mobilenetv2', 'deeplabv3-257']
const picturePath = join(assets, 'images/coco128/000000000009.jpg')
const round = (value: number, digits = 2) => Number(value.toFixed(digits))

/** What one benchmark works with: the model, a second one of the same network on the other core, and who asks. */
interface Bench {
  readonly name: string
  readonly twin: string
  readonly runtime: Runtime
  readonly serving: Serving
  readonly client: ChildProcess
  /** as recorders send them: 320 × 320 at quality 80 */
  readonly smallPath: string
}

/** A zoo with the model and its twin, where everything is compiled that the runtime compiles in the background. */
async function prepare(name: string): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-http-'))
  const models = [name, `${name}-twin`]
  for (const model of models) await originalsOnly(dir, assets, name, model)
  const runtime = await openRuntime({ zoo: dir, models, workers: 2 })
  for (let i = 0; i < 600 && runtime.live().models.some(({ gear }) => gear !== 'fused'); i++) await sleep(100)
  await sleep(2000)
  await runtime.close()
  return dir
}

async function bench(name: string, dir: string): Promise<ResultRow[]> {
  const twin = `${name}-twin`
  const smallPath = join(dir, 'small.jpg')
  writeFileSync(smallPath, await sharp(picturePath).resize(320, 320, { fit: 'fill' }).jpeg({ quality: 80 }).toBuffer())
  const runtime = await openRuntime({ zoo: dir, models: [name, twin], workers: 2 })
  const serving = await serve(runtime, { port: 0 })
  const client = fork(fileURLToPath(new URL('./http-load.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] })
  try {
    for (let i = 0; i < 100 && runtime.live().models.some(({ gear }) => gear !== 'fused'); i++) await sleep(100)
    const on: Bench = { name, twin, runtime, serving, client, smallPath }
    return [
      await predictOverhead(on),
      await binaryOverhead(on),
      ...(name.startsWith('nanodet') ? [await recorder(on)] : []),
      await throughput(on, picturePath),
      await throughput(on, smallPath),
      await overload(on),
    ]
  } finally {
    client.kill()
    await serving.close()
    rmSync(dir, { recursive: true, force: true })
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

function load(client: ChildProcess, request: LoadRequest): Promise<LoadReport> {
  return new Promise((resolve) => {
    client.once('message', (report) => resolve(report as LoadReport))
    client.send(request)
  })
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const since = performance.now()
  await work()
  return performance.now() - since
}

/** CPU of this process (service, runtime and engines, without the clients): says more than times on a busy machine. */
async function cpuMs(work: () => Promise<unknown>): Promise<number> {
  const since = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(since)
  return (user + system) / 1000
}

const BATCH = 5
const BATCHES = 32
/** A camera sends as many in some seconds; until then what is called has not been compiled by V8. */
const WARM_UP = 150

/** Medians of times and of CPU for one request, in turns: in the process, by HTTP, and by Node's HTTP with nothing around it. */
async function inTurns(
  alone: () => Promise<unknown>,
  { url }: Bare,
  client: ChildProcess,
  request: LoadRequest,
): Promise<ResultRow> {
  const ask = async (what: LoadRequest) =>
    (await load(client, { ...what, concurrency: 1, requests: BATCH })).latenciesMs
  const ways = {
    alone: async () => {
      const times: number[] = []
      for (let k = 0; k < BATCH; k++) times.push(await timed(alone))
      return times
    },
    bare: () => ask({ ...request, url } as LoadRequest),
    http: () => ask(request),
  }
  for (let i = 0; i < WARM_UP / BATCH; i++) for (const way of Object.values(ways)) await way()
  const times = { alone: [] as number[], bare: [] as number[], http: [] as number[] }
  const cpu = { alone: [] as number[], bare: [] as number[], http: [] as number[] }
  for (let i = 0; i < BATCHES; i++) {
    for (const name of ['alone', 'bare', 'http'] as const) {
      const spent = await cpuMs(async () => {
        times[name].push(...(await ways[name]()))
      })
      cpu[name].push(spent / BATCH)
    }
  }
  const [base, bare, http] = [median(times.alone), median(times.bare), median(times.http)]
  return {
    aloneMs: round(base),
    bareMs: round(bare),
    httpMs: round(http),
    addsMs: round(http - base),
    addsToBareMs: round(http - bare),
    addsCpuMs: round(median(cpu.http) - median(cpu.alone)),
    addsToBareCpuMs: round(median(cpu.http) - median(cpu.bare)),
  }
}

const predictUrl = ({ serving }: Bench, name: string) => `${serving.url}/v1/models/${name}/predict`

/** A picture by HTTP against decoding and running it in the process, in turns. */
async function predictOverhead(on: Bench): Promise<ResultRow> {
  const { name, runtime, client } = on
  const bytes = readFileSync(picturePath)
  const alone = async () => runtime.predict(name, await decodePicture(bytes))
  const bare = await serveBare(async (body) => {
    const { answer } = await runtime.predict(name, await decodePicture(body))
    return [Buffer.from(JSON.stringify(await answerJson(answer)))]
  })
  try {
    const request = { kind: 'picture', url: predictUrl(on, name), picturePath } as const
    return { part: 'predict', model: name, ...(await inTurns(alone, bare, client, request)), goalMs: 2 }
  } finally {
    bare.close()
  }
}

/** Binary tensors by the Open Inference Protocol against the same tensors in the process, in turns. */
async function binaryOverhead({ name, runtime, serving, client }: Bench): Promise<ResultRow> {
  const { inputs, outputs } = runtime.models().find((each) => each.model === name)!
  const input = inputs[0]!
  const dims = input.fact.dims!.map((dim) => (typeof dim === 'number' && dim > 0 ? dim : 1))
  const count = dims.reduce((product, dim) => product * dim, 1)
  const alone = () => runtime.infer(name, { [input.name]: floats(dims, new Float32Array(count)) })
  const given = Object.values((await alone()).outputs).reduce((sum, { data }) => sum + 4 * data.length, 0)
  const request = { kind: 'binary', url: `${serving.url}/v2/models/${name}/infer`, input: input.name, dims } as const
  const bare = await serveBare(async (body) => {
    const done = await runtime.infer(name, { [input.name]: floats(dims, fromBytes('float32', body)) })
    return Object.values(done.outputs).map((output) => toBytes(output as Tensor<NumericType>))
  })
  const times = await inTurns(alone, bare, client, request).finally(bare.close)
  return {
    part: 'binary',
    model: name,
    bytesIn: 4 * count,
    bytesOut: given,
    outputs: outputs.length,
    ...times,
    goalMs: 0.5,
  }
}

/** The route that recorders call, one picture after the other; they wait for 100 ms. */
async function recorder({ name, serving, client, smallPath }: Bench): Promise<ResultRow> {
  const url = `${serving.url}/v1/vision/custom/${name}`
  const ask = (path: string) => load(client, { kind: 'form', url, picturePath: path, concurrency: 1, requests: 150 })
  await ask(smallPath)
  const [small, whole] = [await ask(smallPath), await ask(picturePath)]
  return {
    part: 'recorder',
    model: name,
    answered: small.answered + whole.answered,
    p50Ms: round(median(small.latenciesMs)),
    p99Ms: round(quantile(small.latenciesMs, 0.99)),
    wholePictureP50Ms: round(median(whole.latenciesMs)),
    wholePictureP99Ms: round(quantile(whole.latenciesMs, 0.99)),
    goalMs: 100,
  }
}

const ROUND_MS = 1500

/** Two models, each on a core of its own, kept busy: by HTTP, in the process with decoding, and the networks alone. */
async function throughput(on: Bench, path: string): Promise<ResultRow> {
  const { name, twin, runtime, client } = on
  const bytes = readFileSync(path)
  const picture = await decodePicture(bytes)
  const cores = new Set(runtime.live().models.map(({ core }) => core)).size
  const run = async (work: (model: string) => Promise<unknown>): Promise<number> => {
    const since = performance.now()
    let done = 0
    const worker = async (model: string) => {
      while (performance.now() - since < ROUND_MS) {
        await work(model)
        done++
      }
    }
    await Promise.all([name, twin, name, twin].map(worker))
    return (1000 * done) / (performance.now() - since)
  }
  const ratios: { http: number; alone: number; engine: number }[] = []
  for (let i = 0; i < 3; i++) {
    const engine = await run((model) => runtime.predict(model, picture))
    const alone = await run(async (model) => runtime.predict(model, await decodePicture(bytes)))
    const url = [predictUrl(on, name), predictUrl(on, twin)]
    const report = await load(client, { kind: 'picture', url, picturePath: path, concurrency: 4, durationMs: ROUND_MS })
    ratios.push({ engine, alone, http: (1000 * report.answered) / report.ms })
  }
  const [engine, alone, http] = [
    median(ratios.map((each) => each.engine)),
    median(ratios.map((each) => each.alone)),
    median(ratios.map((each) => each.http)),
  ]
  return {
    part: 'throughput',
    model: name,
    cores,
    picture: `${picture.width}×${picture.height}, ${bytes.length} bytes`,
    enginesPerSecond: round(engine),
    decodeAndEnginesPerSecond: round(alone),
    httpPerSecond: round(http),
    ofEngines: round(http / engine),
    ofDecodeAndEngines: round(http / alone),
    goalOfEngines: 0.85,
  }
}

/** Long enough for the eight that are let in before it is known to be a storm to be less than one of a hundred. */
const STORM_MS = 25_000

/** Ten times what is answered in a closed loop, at fixed times whatever comes back. */
async function overload(on: Bench): Promise<ResultRow> {
  const { name, client } = on
  const request = { kind: 'picture', url: predictUrl(on, name), picturePath } as const
  await load(client, { ...request, concurrency: 1, requests: WARM_UP })
  const calm = await load(client, { ...request, concurrency: 1, durationMs: STORM_MS / 2 })
  const capacity = (1000 * calm.answered) / calm.ms
  const resident: number[] = []
  const watch = setInterval(() => resident.push(process.memoryUsage.rss()), 100)
  const storm = await load(client, { ...request, perSecond: 10 * capacity, durationMs: STORM_MS })
  clearInterval(watch)
  // memory is flat when the second half of the storm needs no more than the first
  const half = resident.length >> 1
  const growth = Math.max(...resident.slice(half)) - Math.max(...resident.slice(0, half))
  return {
    part: 'overload',
    model: name,
    sentPerSecond: round(10 * capacity, 0),
    unloadedP99Ms: round(quantile(calm.latenciesMs, 0.99)),
    acceptedP99Ms: round(quantile(storm.latenciesMs, 0.99)),
    unloadedMedianMs: round(median(calm.latenciesMs)),
    acceptedMedianMs: round(median(storm.latenciesMs)),
    ratio: round(quantile(storm.latenciesMs, 0.99) / quantile(calm.latenciesMs, 0.99)),
    goalRatio: 3,
    accepted: storm.answered,
    refused: storm.refused,
    refusedMedianMs: round(median(storm.refusedMs)),
    refusedP99Ms: round(quantile(storm.refusedMs, 0.99)),
    failed: storm.failed,
    rssGrowthMB: round(growth / 1e6, 1),
  }
}

const quantile = (values: readonly number[], share: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))] ?? Number.NaN

if (!existsSync(assets)) {
  console.error('this benchmark needs the assets folder (BLOCKSCALE_ASSETS)')
  process.exit(1)
}
const zoos = new Map<string, string>()
for (const name of names) zoos.set(name, await prepare(name))
console.error('prepared; measuring from here on')
const rows: ResultRow[] = []
for (const [name, dir] of zoos) {
  for (const row of await bench(name, dir)) {
    rows.push(row)
    console.log(JSON.stringify(row))
  }
}
console.log(await writeResult('http', rows))
