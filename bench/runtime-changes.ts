/**
 * A thousand changes of plan while three models answer at constant rates, in the whole runtime: planning, swaps, both gears, the database.
 *
 * Each answer is compared with what the files of the deployment that it names give when they are run by themselves: to the last bits, so that an
 * answer of mixed blocks is found. What the process really holds is read from the system every 10 ms.
 * Started by bench/runtime.ts in a process of its own.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { modelId, seededRandom } from '../src/base/index.ts'
import { openCompiledNow, type Tensors } from '../src/engine/index.ts'
import { thisDevice } from '../src/profiles/index.ts'
import { Builder } from '../src/runtime/builder.ts'
import { feedsOf } from '../src/runtime/compile-unit.ts'
import { type Inference, openRuntime } from '../src/runtime/index.ts'
import { modelInputs, UnitFiles } from '../src/runtime/unit-files.ts'
import { openZoo } from '../src/zoo/index.ts'
import { median } from './result.ts'
import { bytesOf, watchMemory } from './watch-memory.ts'

const { zoo: dir, changes } = JSON.parse(process.argv[2]!) as { zoo: string; changes: number }
/** pictures a second */
const RATES: Readonly<Record<string, number>> = { mobilenetv2: 8, 'cifar10-resnet20': 30, 'ultraface-rfb-320': 10 }
const MODELS = Object.keys(RATES)
const BUDGETS = 6
/** Every tenth plan stays long enough to be fused. */
const [SHORT_MS, LONG_MS] = [30, 700]
/** relative to the greatest value: runs of equal files differ by nothing, but buffers may be aligned otherwise */
const TOLERANCE = 1e-5

const quantile = (values: readonly number[], share: number) =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))] ?? Number.NaN
const round = (value: number, digits = 3) => Number(value.toFixed(digits))

const zoo = openZoo(dir)
const builder = new Builder(0)
const files = new UnitFiles({ zoo, builder, background: builder, device: thisDevice().key })
const manifests = new Map(
  await Promise.all(MODELS.map(async (model) => [model, await zoo.manifest(modelId(model))] as const)),
)
const noise = new Map(
  [...manifests].map(([model, manifest]) => [model, feedsOf(modelInputs(manifest, manifest.sizes[0]!))!]),
)
const feeds = (model: string): Tensors =>
  Object.fromEntries(
    Object.entries(noise.get(model)!).map(([name, value]) => [
      name,
      { ...value, data: value.data.slice() } as typeof value,
    ]),
  )

const runtime = await openRuntime({ zoo: dir, workers: 2, queueLimit: 64 })
for (const id of runtime.workloads().keys()) await runtime.deleteWorkload(id)
const watch = watchMemory()
/** The most that the process held within a second, once garbage is gone. */
const calm = async () => {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.()
    await pause(100)
  }
  await watch.takePeak()
  await pause(1_000)
  return watch.takePeak()
}
const empty = bytesOf(await calm())
for (const model of MODELS) await runtime.putWorkload(`default:${model}`, { model, rate: RATES[model] })
const least = (await runtime.whatIf({ budget: {}, objective: 'memory' })).totals!.memoryBytes
const most = (await runtime.whatIf({ budget: {} })).totals!.memoryBytes
// From what holds the smallest blocks: what is measured here is exchanging them, and not streaming.
const budgets = Array.from({ length: BUDGETS }, (_, i) => Math.ceil(most * (0.35 + (0.7 * i) / (BUDGETS - 1)))).filter(
  (bytes) => bytes > least,
)

const isFused = () => runtime.live().models.every(({ gear }) => gear === 'fused')
const settled = async (ms: number) => {
  for (const until = performance.now() + ms; performance.now() < until && !isFused(); ) await pause(20)
}

/** Answers of the files themselves, by model, gear and choices. */
const expected = new Map<string, Tensors>()
const nameOf = (model: string, { gear, choices }: Pick<Inference, 'gear' | 'choices'>) =>
  `${model} ${gear} ${JSON.stringify(choices)}`
async function reference(model: string, { gear, choices }: Pick<Inference, 'gear' | 'choices'>): Promise<Tensors> {
  const manifest = manifests.get(model)!
  const chosen = Object.entries(choices).map(([block, descendant]) => ({ block, descendant, memoryBytes: 0 }))
  const chain = await files.chain(manifest, chosen, manifest.sizes[0]!)
  const units = gear === 'fused' ? [(await files.fused(manifest, chain, manifest.sizes[0]!))!] : chain
  const values: Record<string, Tensors[string]> = { ...noise.get(model)! }
  for (const { path } of units) {
    const session = openCompiledNow(path)
    Object.assign(values, session.runNow(values))
    session.releaseNow()
  }
  return Object.fromEntries(manifest.outputs.map(({ name }) => [name, values[name]!]))
}

function difference(a: Tensors, b: Tensors): number {
  let [greatest, scale] = [0, 1e-9]
  for (const [name, { data }] of Object.entries(a)) {
    const other = b[name]!.data
    for (let i = 0; i < data.length; i++) {
      greatest = Math.max(greatest, Math.abs(Number(data[i]) - Number(other[i])))
      scale = Math.max(scale, Math.abs(Number(data[i])))
    }
  }
  return greatest / scale
}

// Everything that the plans of these budgets need is compiled before anything is measured.
for (const memoryBytes of budgets) {
  await runtime.setBudget({ memoryBytes })
  await settled(60_000)
}

const latencies: number[] = []
const tally = { answered: 0, failed: 0, mixed: 0, fused: 0 }
const failures = new Map<string, number>()
/** The first answer of each deployment whose reference is not made yet; more of them would be memory that is not the runtime's. */
const firsts = new Map<string, { model: string; answer: Inference }>()
const cameras = MODELS.map((model) =>
  setInterval(() => {
    const started = performance.now()
    runtime.infer(model, feeds(model)).then(
      (answer) => {
        latencies.push(performance.now() - started)
        tally.answered++
        if (answer.gear === 'fused') tally.fused++
        const name = nameOf(model, answer)
        const known = expected.get(name) ?? firsts.get(name)?.answer.outputs
        if (!known) firsts.set(name, { model, answer })
        else if (difference(known, answer.outputs) > TOLERANCE) tally.mixed++
      },
      (error: { code?: string; message: string }) => {
        tally.failed++
        const why = `${error.code}: ${error.message}`
        failures.set(why, (failures.get(why) ?? 0) + 1)
      },
    )
  }, 1000 / RATES[model]!),
)
/** First answers are compared once their reference is made. */
async function compareFirsts(): Promise<void> {
  for (const [name, { model, answer }] of firsts) {
    expected.set(name, await reference(model, answer))
    firsts.delete(name)
    if (difference(expected.get(name)!, answer.outputs) > TOLERANCE) tally.mixed++
  }
}
// Both gears of every plan.
for (const memoryBytes of budgets) {
  await runtime.setBudget({ memoryBytes })
  await pause(300)
  await settled(10_000)
  await pause(300)
}
await compareFirsts()

const middle = budgets[BUDGETS >> 1]!
await runtime.setBudget({ memoryBytes: middle })
await settled(10_000)
await pause(1_000)
latencies.length = 0
await pause(15_000)
const steady = latencies.splice(0)
const before = (await calm()).anonymousBytes

let limitBytes = middle
const overLimit = { accounted: 0, sampled: 0 }
const random = seededRandom(3)
const swapMs: number[] = []
let blocks = 0
const anonymousMB: number[] = []
const [cpu, started] = [process.cpuUsage(), performance.now()]
for (let i = 0; i < changes; ) {
  const memoryBytes = budgets[Math.floor(random() * budgets.length)]!
  if (memoryBytes === limitBytes) continue
  // While it falls the old limit still holds.
  const greater = Math.max(limitBytes, memoryBytes)
  const { swap } = await runtime.setBudget({ memoryBytes })
  limitBytes = memoryBytes
  overLimit.accounted = Math.max(overLimit.accounted, runtime.live().memory.plannedBytes / limitBytes)
  i++
  if (swap) {
    swapMs.push(swap.ms)
    blocks += swap.models.reduce((sum, { changed }) => sum + changed.length, 0)
  }
  await pause(i % 10 === 0 ? LONG_MS : SHORT_MS)
  const peak = await watch.takePeak()
  overLimit.sampled = Math.max(overLimit.sampled, (bytesOf(peak) - empty) / greater)
  if (i % 100 === 0) anonymousMB.push(round(peak.anonymousBytes / 1e6, 1))
}
const seconds = (performance.now() - started) / 1000
const used = process.cpuUsage(cpu)
const during = latencies.splice(0)
await runtime.setBudget({ memoryBytes: middle })
await settled(10_000)
await pause(1_000)
const after = (await calm()).anonymousBytes
for (const camera of cameras) clearInterval(camera)
await pause(500)
await compareFirsts()
await runtime.close()
await builder.close()
watch.close()

console.log(
  JSON.stringify({
    part: 'changes',
    models: MODELS.join(','),
    changes,
    swaps: swapMs.length,
    blocksExchanged: blocks,
    ...tally,
    failures: Object.fromEntries(failures),
    deployments: expected.size,
    swapMs: round(median(swapMs)),
    swapP95Ms: round(quantile(swapMs, 0.95)),
    steadyP50Ms: round(quantile(steady, 0.5)),
    steadyP99Ms: round(quantile(steady, 0.99)),
    duringP50Ms: round(quantile(during, 0.5)),
    duringP99Ms: round(quantile(during, 0.99)),
    p99Ratio: round(quantile(during, 0.99) / quantile(steady, 0.99)),
    anonymousMBBefore: round(before / 1e6, 1),
    anonymousMBEach100Changes: anonymousMB,
    anonymousRatio: round(after / before),
    limitsMB: budgets.map((bytes) => round(bytes / 1e6, 1)),
    emptyMB: round(empty / 1e6, 1),
    accountedOverLimit: round(overLimit.accounted),
    // Of what the process holds more than with no network loaded; between two changes of the limit the greater one.
    sampledOverLimit: round(overLimit.sampled),
    cpuShare: round((used.user + used.system) / 1e6 / seconds),
  }),
)
