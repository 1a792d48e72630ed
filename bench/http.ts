/**
 * What the service adds to the networks that it serves, and what it does under ten times the load that it can bear.
 *
 *     npx tsx bench/http.ts [nanodet-m-320 …]     # about two minutes for each model; needs the assets folder
 *
 * Clients run in a process of their own, but on the same cores: a part of what they cost is in every figure.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openRuntime, type Runtime } from '../src/runtime/index.ts'
import { type Serving, serve } from '../src/server/index.ts'
import { decodePicture, floats } from '../src/tensor/index.ts'
import type { LoadReport, LoadRequest } from './http-load.ts'
import { originalsOnly } from './http-zoo.ts'
import { median, type ResultRow, writeResult } from './result.ts'

const assets = process.env.BLOCKSCALE_ASSETS ?? fileURLToPath(new URL('../../shared/assets', import.meta.url))
const names = process.argv.slice(2).length ? process.argv.slice(2) : ['nanodet-m-320', 'mobilenetv2']
const picturePath = join(assets, 'images/coco128/000000000009.jpg')
const round = (value: number, digits = 2) => Number(value.toFixed(digits))

async function bench(name: string): Promise<ResultRow[]> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-http-'))
  await originalsOnly(dir, assets, name)
  const runtime = await openRuntime({ zoo: dir, models: [name] })
  const serving = await serve(runtime, { port: 0 })
  const client = fork(fileURLToPath(new URL('./http-load.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] })
  try {
    await fused(runtime)
    return [
      await predictOverhead(name, runtime, serving, client),
      await binaryOverhead(name, runtime, serving, client),
      await throughput(name, runtime, serving, client),
      await overload(name, serving, client),
    ]
  } finally {
    client.kill()
    await serving.close()
    rmSync(dir, { recursive: true, force: true })
  }
}

/** The second gear takes over in the background; measurements begin when it has. */
async function fused(runtime: Runtime): Promise<void> {
  for (let i = 0; i < 300 && runtime.live().models[0]?.gear !== 'fused'; i++) await sleep(100)
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
const BATCHES = 40

/** Medians of times and of CPU for one request, in turns: in the process, and by HTTP. */
async function inTurns(alone: () => Promise<unknown>, client: ChildProcess, request: LoadRequest): Promise<ResultRow> {
  const times = { alone: [] as number[], http: [] as number[] }
  const cpu = { alone: [] as number[], http: [] as number[] }
  for (let i = 0; i < BATCHES; i++) {
    const here = await cpuMs(async () => {
      for (let k = 0; k < BATCH; k++) times.alone.push(await timed(alone))
    })
    const there = await cpuMs(async () => {
      const report = await load(client, { ...request, concurrency: 1, requests: BATCH })
      times.http.push(...report.latenciesMs)
    })
    // the first batches find everything cold
    if (i < 4) continue
    cpu.alone.push(here / BATCH)
    cpu.http.push(there / BATCH)
  }
  const [base, http] = [median(times.alone.slice(4 * BATCH)), median(times.http.slice(4 * BATCH))]
  return {
    aloneMs: round(base),
    httpMs: round(http),
    addsMs: round(http - base),
    addsCpuMs: round(median(cpu.http) - median(cpu.alone)),
  }
}

const jpeg = () => readFileSync(picturePath)
const predictUrl = (serving: Serving, name: string) => `${serving.url}/v1/models/${name}/predict`

/** A picture by HTTP against decoding and running it in the process, in turns. */
async function predictOverhead(
  name: string,
  runtime: Runtime,
  serving: Serving,
  client: ChildProcess,
): Promise<ResultRow> {
  const bytes = jpeg()
  const alone = async () => runtime.predict(name, await decodePicture(bytes))
  const request = { kind: 'picture', url: predictUrl(serving, name), picturePath } as const
  return { part: 'predict', model: name, ...(await inTurns(alone, client, request)), goalMs: 2 }
}

/** Binary tensors by the Open Inference Protocol against the same tensors in the process, in turns. */
async function binaryOverhead(
  name: string,
  runtime: Runtime,
  serving: Serving,
  client: ChildProcess,
): Promise<ResultRow> {
  const input = runtime.models().find((each) => each.model === name)!.inputs[0]!
  const dims = input.fact.dims!.map((dim) => (typeof dim === 'number' && dim > 0 ? dim : 1))
  const count = dims.reduce((product, dim) => product * dim, 1)
  const alone = () => runtime.infer(name, { [input.name]: floats(dims, new Float32Array(count)) })
  const request = { kind: 'binary', url: `${serving.url}/v2/models/${name}/infer`, input: input.name, dims } as const
  return { part: 'binary', model: name, bytes: 4 * count, ...(await inTurns(alone, client, request)), goalMs: 0.5 }
}

/** JPEG by HTTP, two at once, against decoding and running in the process, and against running alone. */
async function throughput(name: string, runtime: Runtime, serving: Serving, client: ChildProcess): Promise<ResultRow> {
  const bytes = jpeg()
  const picture = await decodePicture(bytes)
  const run = async (work: () => Promise<unknown>): Promise<number> => {
    const until = performance.now() + 4000
    let done = 0
    const since = performance.now()
    const worker = async () => {
      while (performance.now() < until) {
        await work()
        done++
      }
    }
    await Promise.all([worker(), worker(), worker()])
    return (1000 * done) / (performance.now() - since)
  }
  const ratios: { http: number; alone: number; engine: number }[] = []
  for (let i = 0; i < 3; i++) {
    const engine = await run(() => runtime.predict(name, picture))
    const alone = await run(async () => runtime.predict(name, await decodePicture(bytes)))
    const request = { kind: 'picture', url: predictUrl(serving, name), picturePath } as const
    const report = await load(client, { ...request, concurrency: 3, durationMs: 4000 })
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
    enginePerSecond: round(engine),
    decodeAndEnginePerSecond: round(alone),
    httpPerSecond: round(http),
    ofEngine: round(http / engine),
    ofDecodeAndEngine: round(http / alone),
    goalOfEngine: 0.85,
  }
}

/** Ten times what is answered in a closed loop, at fixed times whatever comes back. */
async function overload(name: string, serving: Serving, client: ChildProcess): Promise<ResultRow> {
  const request = { kind: 'picture', url: predictUrl(serving, name), picturePath } as const
  const calm = await load(client, { ...request, concurrency: 1, durationMs: 8000 })
  const capacity = (1000 * calm.answered) / calm.ms
  const before = process.memoryUsage().rss
  const storm = await load(client, { ...request, perSecond: 10 * capacity, durationMs: 20_000 })
  const after = process.memoryUsage().rss
  return {
    part: 'overload',
    model: name,
    sentPerSecond: round(10 * capacity, 0),
    unloadedP99Ms: round(quantile(calm.latenciesMs, 0.99)),
    acceptedP99Ms: round(quantile(storm.latenciesMs, 0.99)),
    ratio: round(quantile(storm.latenciesMs, 0.99) / quantile(calm.latenciesMs, 0.99)),
    goalRatio: 3,
    accepted: storm.answered,
    refused: storm.refused,
    refusedMedianMs: round(median(storm.refusedMs)),
    refusedP99Ms: round(quantile(storm.refusedMs, 0.99)),
    failed: storm.failed,
    rssGrowthMB: round((after - before) / 1e6, 1),
  }
}

const quantile = (values: readonly number[], share: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))] ?? Number.NaN

if (!existsSync(assets)) {
  console.error('this benchmark needs the assets folder (BLOCKSCALE_ASSETS)')
  process.exit(1)
}
const rows: ResultRow[] = []
for (const name of names) {
  for (const row of await bench(name)) {
    rows.push(row)
    console.log(JSON.stringify(row))
  }
}
console.log(await writeResult('http', rows))
