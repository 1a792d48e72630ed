/**
 * What being cut and swapped costs, in ratios within one run.
 *
 *     npx tsx bench/runtime.ts            # all parts, about five minutes
 *     npx tsx bench/runtime.ts gears      # one part: gears, swap, load, cold, throughput, streaming, changes, trace
 *
 * `cold` needs what `npm run build` compiles; `streaming`, `changes` and `trace` a built zoo with mobilenetv2,
 * cifar10-resnet20 and ultraface-rfb-320, in $BLOCKSCALE_ZOO.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { seededRandom } from '../src/base/index.ts'
import { Engine, type Tensors } from '../src/engine/index.ts'
import { bestBatch } from '../src/runtime/batch-trial.ts'
import { Deployed } from '../src/runtime/deployed.ts'
import { processMemory } from '../src/runtime/memory.ts'
import { Residents } from '../src/runtime/residents.ts'
import { Scheduler } from '../src/runtime/scheduler.ts'
import { acquireAll, type Stage } from '../src/runtime/stage.ts'
import { shiftToFused, swap } from '../src/runtime/swap.ts'
import type { Unit } from '../src/runtime/unit.ts'
import { modelInputs } from '../src/runtime/unit-files.ts'
import { openZoo } from '../src/zoo/index.ts'
import { allocator, inOwnProcess } from './own-process.ts'
import { median, type ResultRow, writeResult } from './result.ts'
import { cold, coldRuntime, coldSlow } from './runtime-cold.ts'
import { type BenchModel, feedsOf, fused, prepare, targetOf } from './runtime-models.ts'
import { stream } from './runtime-stream.ts'
import { trace } from './runtime-trace.ts'

// The C library reads how it is to treat freed memory when a process starts.
if (Object.keys(allocator).some((name) => process.env[name] === undefined)) {
  const again = [...process.execArgv, ...process.argv.slice(1)]
  process.exit(
    spawnSync(process.execPath, again, { stdio: 'inherit', env: { ...process.env, ...allocator } }).status ?? 1,
  )
}

const NAMES = ['mobilenetv2', 'cifar10-resnet20', 'ultraface-rfb-320', 'nanodet-m-320']
const parts = process.argv.slice(2)
const wants = (part: string) => parts.length === 0 || parts.includes(part)
const round = (value: number, digits = 3) => Number(value.toFixed(digits))
const quantile = (values: readonly number[], share: number) =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))] ?? Number.NaN
const ones = (model: BenchModel) => model.units.map(() => 0)

/** Chain and fused graph against the uncut model, in turns in one thread. */
async function gears(folder: string, model: BenchModel): Promise<ResultRow> {
  const engine = new Engine()
  const whole = await fused(folder, model, ones(model))
  const { chain } = targetOf(model, ones(model), 0)
  for (const unit of [model.uncut, whole, ...chain]) await engine.hold(unit.key, unit.path)
  const ways: Record<string, readonly Unit[]> = { uncut: [model.uncut], fused: [whole], chain }
  const outputs = model.outputs.map(({ name }) => name)
  const times: Record<string, number[]> = { uncut: [], fused: [], chain: [] }
  const cpu: Record<string, number[]> = { uncut: [], fused: [], chain: [] }
  const answers: Record<string, Tensors> = {}
  for (let i = 0; i < 160; i++) {
    // Each way goes first equally often, so that none always finds a cold cache.
    const order = Object.keys(ways).map((_, k, all) => all[(k + i) % all.length]!)
    for (const way of order) {
      const keys = ways[way]!.map(({ key }) => key)
      const feeds = feedsOf(model)
      const before = process.cpuUsage()
      const result = await engine.run({ chain: keys, feeds, outputs })
      const used = process.cpuUsage(before)
      if (i >= 10) times[way]!.push(result.ms)
      if (i >= 10) cpu[way]!.push((used.user + used.system) / 1000)
      answers[way] = result.outputs
    }
  }
  await engine.close()
  // The fastest tenth is what the network takes; the rest is what else the machine did.
  const quick = (way: string) => quantile(times[way]!, 0.1)
  return {
    part: 'gears',
    model: model.name,
    blocks: chain.length,
    blockedBorders: model.blocked.join(' of '),
    uncutMs: round(quick('uncut')),
    fusedRatio: round(quick('fused') / quick('uncut')),
    chainRatio: round(quick('chain') / quick('uncut')),
    fusedMedianRatio: round(median(times.fused!) / median(times.uncut!)),
    chainMedianRatio: round(median(times.chain!) / median(times.uncut!)),
    // CPU time of a whole call tells most where others use the cores as well.
    fusedCpuRatio: round(median(cpu.fused!) / median(cpu.uncut!)),
    chainCpuRatio: round(median(cpu.chain!) / median(cpu.uncut!)),
    chainToFusedRatio: round(quick('chain') / quick('fused')),
    chainToFusedCpuRatio: round(median(cpu.chain!) / median(cpu.fused!)),
    greatestDifference: round(
      Math.max(...outputs.map((name) => difference(answers.fused![name]!, answers.chain![name]!))),
      7,
    ),
  }
}

/** One block, and a whole plan, swapped under the runtime's rules, against loading the whole model as it came. */
async function swaps(model: BenchModel): Promise<ResultRow> {
  const engine = new Engine()
  const stage = openStage([engine])
  const series = () => ({ ms: [] as number[], cpuMs: [] as number[] })
  const figures = {
    whole: series(),
    ready: series(),
    mapped: series(),
    block: series(),
    again: series(),
    plan: series(),
  }
  const timed = async (what: keyof typeof figures, work: () => Promise<unknown>) => {
    const [cpu, started] = [process.cpuUsage(), performance.now()]
    await work()
    const used = process.cpuUsage(cpu)
    figures[what].ms.push(performance.now() - started)
    figures[what].cpuMs.push((used.user + used.system) / 1000)
  }
  const all = (variant: number) => model.units.map(() => variant)
  await swap(stage, [targetOf(model, all(0), 0)], undefined)
  let fresh = 0
  for (let i = 0; i < 40; i++) {
    await timed('whole', () => engine.hold(`whole-${i}`, model.file).then((hold) => hold.release()))
    // As ready as a swapped block is: it has run once.
    await timed('ready', async () => {
      const hold = await engine.hold(`ready-${i}`, model.file)
      await engine.check([hold.key], model.inputs, model.outputs)
      await hold.release()
    })
    await timed('mapped', () => engine.hold(`mapped-${i}`, model.uncut.path).then((hold) => hold.release()))
    const block = i % model.units.length
    const one = targetOf(model, all(0).with(block, 1), 0)
    // A key of its own each time: as a block that was never loaded before, which is run on zeros.
    const chain = one.chain.map((unit, k) => (k === block ? { ...unit, key: `${unit.key}-${fresh++}` } : unit))
    await timed('block', () => swap(stage, [{ ...one, chain }], undefined))
    await swap(stage, [targetOf(model, all(0), 0)], undefined)
    await timed('again', () => swap(stage, [one], undefined))
    await timed('plan', () => swap(stage, [targetOf(model, all(1).with(block, 0), 0)], undefined))
    await swap(stage, [targetOf(model, all(0), 0)], undefined)
  }
  await swap(stage, [], undefined)
  await engine.close()
  const typical = (what: keyof typeof figures, of: 'ms' | 'cpuMs') => quantile(figures[what][of].slice(2), 0.25)
  const ratio = (what: keyof typeof figures, of: 'ms' | 'cpuMs', to: keyof typeof figures = 'whole') =>
    round(typical(what, of) / typical(to, of))
  return {
    part: 'swap',
    model: model.name,
    blocks: model.units.length,
    wholeLoadMs: round(typical('whole', 'ms')),
    wholeReadyMs: round(typical('ready', 'ms')),
    mappedWholeRatio: ratio('mapped', 'ms'),
    newBlockMs: round(typical('block', 'ms')),
    newBlockRatio: ratio('block', 'ms', 'ready'),
    newBlockCpuRatio: ratio('block', 'cpuMs', 'ready'),
    knownBlockMs: round(typical('again', 'ms')),
    knownBlockRatio: ratio('again', 'ms'),
    knownBlockCpuRatio: ratio('again', 'cpuMs'),
    wholePlanRatio: ratio('plan', 'ms'),
    wholePlanCpuRatio: ratio('plan', 'cpuMs'),
  }
}

/** A thousand swaps while three models answer at constant rates; each answer is compared with that of the plan it names. */
async function load(folder: string, models: readonly BenchModel[]): Promise<ResultRow[]> {
  const engines = [new Engine(), new Engine()]
  const stage = openStage(engines)
  const rates: Record<string, number> = { mobilenetv2: 10, 'cifar10-resnet20': 30, 'ultraface-rfb-320': 15 }
  const random = seededRandom(3)
  const plans = new Map(models.map((model) => [model.name, somePlans(model, random)]))
  const core = (model: BenchModel) => (model.name === 'mobilenetv2' ? 0 : 1)
  const expected = new Map<string, Tensors>()
  for (const model of models) {
    for (const choice of plans.get(model.name)!) {
      await swap(stage, [targetOf(model, choice, 0)], undefined)
      const done = await ask(stage, model)
      expected.set(`${model.name} ${choice.join('')}`, done.result.outputs)
    }
  }
  const pick = (i: number) => models.map((model) => targetOf(model, plans.get(model.name)![i % 6]!, core(model)))
  const limitBytes = 1.6 * pick(0).reduce((sum, { predicted }) => sum + predicted.memoryBytes, 0)
  await swap(stage, pick(0), limitBytes)
  for (const model of models) {
    await shiftToFused(stage, model.name, await fused(folder, model, plans.get(model.name)![0]!), limitBytes)
  }

  const latencies: number[] = []
  const tally = { answered: 0, failed: 0, mixed: 0 }
  const failures = new Map<string, number>()
  const cameras = models.map((model) =>
    setInterval(() => {
      const started = performance.now()
      ask(stage, model).then(
        ({ deployed, result }) => {
          latencies.push(performance.now() - started)
          tally.answered++
          const wanted = expected.get(`${model.name} ${deployed.target.plan}`)!
          if (Object.keys(wanted).some((name) => difference(wanted[name]!, result.outputs[name]!) > 1e-3)) tally.mixed++
        },
        (error: { code?: string }) => {
          tally.failed++
          failures.set(error.code ?? 'unknown', (failures.get(error.code ?? 'unknown') ?? 0) + 1)
        },
      )
    }, 1000 / rates[model.name]!),
  )
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
  await pause(2_000)
  latencies.length = 0
  await pause(10_000)
  const steady = latencies.splice(0)
  // The chain is what runs during swaps; what it costs without any swap is a part of what the swaps cost.
  await swap(stage, pick(1), limitBytes)
  await pause(1_000)
  latencies.length = 0
  const before = processMemory().anonymousBytes
  const [cpu, started] = [process.cpuUsage(), performance.now()]
  stage.residents.takePeak()
  let peak = 0
  const anonymousMB: number[] = []
  const swapMs: number[] = []
  const methods = { beside: 0, exchange: 0 }
  for (let i = 0; i < 1000; i++) {
    const swapped = await swap(stage, pick(i), limitBytes)
    methods[swapped.method]++
    swapMs.push(swapped.ms)
    peak = Math.max(peak, stage.residents.takePeak())
    if (i % 100 === 99) anonymousMB.push(round(processMemory().anonymousBytes / 1e6, 1))
    await pause(30)
  }
  const seconds = (performance.now() - started) / 1000
  const used = process.cpuUsage(cpu)
  const during = latencies.splice(0)
  await swap(stage, pick(1), limitBytes)
  await pause(1_000)
  const after = processMemory().anonymousBytes
  for (const camera of cameras) clearInterval(camera)
  await stage.scheduler.close()
  await Promise.all(engines.map((engine) => engine.close()))
  return [
    {
      part: 'load',
      swaps: 1000,
      ...tally,
      ...methods,
      swapMs: round(median(swapMs)),
      steadyP50Ms: round(quantile(steady, 0.5)),
      steadyP99Ms: round(quantile(steady, 0.99)),
      duringP50Ms: round(quantile(during, 0.5)),
      duringP99Ms: round(quantile(during, 0.99)),
      p99Ratio: round(quantile(during, 0.99) / quantile(steady, 0.99)),
      failures: Object.fromEntries(failures),
      anonymousMBBefore: round(before / 1e6, 1),
      anonymousMBEach100Swaps: anonymousMB,
      anonymousRatio: round(after / before),
      anonymousRatioSinceSwap100: round(after / 1e6 / anonymousMB[0]!),
      peakOverLimit: round(peak / limitBytes),
      cpuShare: round((used.user + used.system) / 1e6 / seconds),
    },
  ]
}

/** Answers in a second while requests come without end: on one engine, on two, in batches, and both, in turns. */
async function throughput(model: BenchModel): Promise<ResultRow> {
  const engines = [new Engine(), new Engine()]
  const stage = openStage(engines)
  const all = ones(model)
  await swap(stage, [targetOf(model, all, 0)], undefined)
  const one = stage.live.get(model.name)!
  const other = { ...one.target, core: 1 }
  const replica = new Deployed(other, 'chain', await acquireAll(stage, other, other.chain), stage.residents)
  const batch = model.takesBatches ? await bestBatch(stage, one) : 1
  const ways = { one: [1, 1], two: [2, 1], batches: [1, batch], both: [2, batch] } as const
  const rates: Record<keyof typeof ways, number[]> = { one: [], two: [], batches: [], both: [] }
  for (let round = 0; round < 7; round++) {
    for (const [way, [count, frames]] of Object.entries(ways) as [keyof typeof ways, readonly [number, number]][]) {
      stage.replicas.set(model.name, count === 2 ? [replica] : [])
      for (const deployed of [one, replica]) deployed.runInBatches(frames, 0)
      const until = performance.now() + 1000
      let answered = 0
      const client = async () => {
        while (performance.now() < until) {
          await ask(stage, model)
          answered++
        }
      }
      await Promise.all(Array.from({ length: 12 }, client))
      rates[way].push((1000 * answered) / (performance.now() - until + 1000))
    }
  }
  await stage.scheduler.close()
  await Promise.all(engines.map((engine) => engine.close()))
  const ratio = (way: keyof typeof ways) => round(median(rates[way]) / median(rates.one))
  return {
    part: 'throughput',
    model: model.name,
    answersPerSecond: round(median(rates.one), 1),
    twoEnginesRatio: ratio('two'),
    batch,
    batchesRatio: ratio('batches'),
    bothRatio: ratio('both'),
  }
}

function openStage(engines: readonly Engine[]): Stage {
  const live = new Map<string, Deployed>()
  const replicas = new Map<string, readonly Deployed[]>()
  return {
    live,
    residents: new Residents(engines),
    scheduler: new Scheduler(engines, {
      live: (model) => live.get(model),
      replicas: (model) => replicas.get(model) ?? [],
    }),
    spares: new Map(),
    replicas,
    retiring: new Set(),
    shapes: new Map(),
  }
}

const ask = (stage: Stage, model: BenchModel) =>
  stage.scheduler.submit({
    model: model.name,
    feeds: () => feedsOf(model),
    outputs: model.outputs.map(({ name }) => name),
    options: {},
  })

function somePlans(model: BenchModel, random: () => number): number[][] {
  return Array.from({ length: 6 }, () => model.units.map(() => (random() < 0.5 ? 0 : 1)))
}

/** Cold starts of those models that are built in a zoo. */
async function* coldStarts(zoo: string): AsyncGenerator<ResultRow> {
  const opened = openZoo(zoo)
  for (const model of await opened.models()) {
    if (!NAMES.includes(model)) continue
    const manifest = await opened.manifest(model)
    const feeds = modelInputs(manifest, manifest.sizes[0]!).map(({ name, dims }) => ({
      name,
      dims: dims.map((size) => size ?? 1),
    }))
    yield coldRuntime(zoo, model, join(assets, 'models', `${model}.onnx`), picture, feeds)
  }
  const slow = coldSlow(zoo, 'mobilenetv2', picture)
  if (slow) yield slow
  else console.log('cold-slow-disk is left out: the disk cannot be made slow here')
}

/** Greatest difference, relative to the greatest value. */
function difference(a: Tensors[string], b: Tensors[string]): number {
  let greatest = 0
  let scale = 1e-9
  for (let i = 0; i < a.data.length; i++) {
    greatest = Math.max(greatest, Math.abs(Number(a.data[i]) - Number(b.data[i])))
    scale = Math.max(scale, Math.abs(Number(a.data[i])))
  }
  return greatest / scale
}

const assets = process.env.BLOCKSCALE_ASSETS ?? fileURLToPath(new URL('../../shared/assets', import.meta.url))
if (!existsSync(assets)) throw new Error('set BLOCKSCALE_ASSETS to the folder of models and pictures')
const folder = mkdtempSync(join(tmpdir(), 'bench-runtime-'))
const rows: ResultRow[] = []
/** Kept after each row, so that a run that is stopped has not been for nothing. */
const show = async (row: ResultRow) => {
  rows.push(row)
  console.log(JSON.stringify(row))
  if (parts.length === 0) await writeResult('runtime', rows)
}
const zoo = process.env.BLOCKSCALE_ZOO
const pictures = join(assets, 'images', 'imagenet-calibration')
const picture = join(pictures, readdirSync(pictures)[0]!)
const zooModels = ['mobilenetv2', 'cifar10-resnet20', 'ultraface-rfb-320']
try {
  const models: BenchModel[] = []
  if (['gears', 'swap', 'load', 'cold', 'throughput'].some(wants)) {
    for (const name of NAMES) models.push(await prepare(folder, assets, name))
  }
  if (wants('gears')) for (const model of models) await show(await gears(folder, model))
  if (wants('swap')) for (const model of models) await show(await swaps(model))
  if (wants('throughput')) for (const model of models) await show(await throughput(model))
  if (wants('cold')) for (const model of models) await show(await cold(folder, model))
  if (zoo !== undefined) {
    if (wants('cold')) for await (const row of coldStarts(zoo)) await show(row)
    if (wants('streaming')) await show(await stream(zoo, 'mobilenetv2'))
    if (wants('changes')) {
      cpSync(zoo, join(folder, 'changing'), { recursive: true })
      await show(inOwnProcess<ResultRow>('./runtime-changes.ts', { zoo: join(folder, 'changing'), changes: 1000 }))
    }
    if (wants('trace')) for (const row of await trace(zoo, zooModels)) await show(row)
  } else console.log('streaming, changes, trace and cold-runtime are left out: $BLOCKSCALE_ZOO is not set')
  if (wants('load')) for (const row of await load(folder, models.slice(0, 3))) await show(row)
} finally {
  rmSync(folder, { recursive: true })
}
