/** One way of running a model in a process of its own, for bench/runtime-stream.ts. Prints its figures as JSON. */
import { execFileSync } from 'node:child_process'
import { modelId, ORIGINAL, sha256 } from '../src/base/index.ts'
import { Engine, type Tensors } from '../src/engine/index.ts'
import { openProfiles, predictors, thisDevice } from '../src/profiles/index.ts'
import { Builder } from '../src/runtime/builder.ts'
import { feedsOf } from '../src/runtime/compile-unit.ts'
import { processMemory } from '../src/runtime/memory.ts'
import { openPlanner } from '../src/runtime/planner.ts'
import type { Unit } from '../src/runtime/unit.ts'
import { modelInputs, UnitFiles } from '../src/runtime/unit-files.ts'
import { openZoo } from '../src/zoo/index.ts'
import { median } from './result.ts'

export interface StreamAsk {
  readonly zoo: string
  readonly model: string
  readonly way: 'loaded' | 'streamed' | 'on demand'
}

export interface StreamFigures {
  readonly weightBytes: number
  readonly limitBytes: number
  readonly plannedBytes: number
  readonly streamedBlocks: number
  readonly blocks: number
  readonly readBytesPerSecond: number
  /** growth of the process, anonymous and mapped, the program itself with it */
  readonly sampledPeakBytes: number
  readonly medianMs: number
  readonly predictedMs: number
  /** hash of the outputs */
  readonly answer: string
}

/** Share of the weights that may be in memory. */
const SHARE = 0.4
const RUNS = 15

const { zoo: dir, model: name, way } = JSON.parse(process.argv[2]!) as StreamAsk
const zoo = openZoo(dir)
const store = openProfiles(zoo.profilesPath)
const device = thisDevice().key
const manifest = await zoo.manifest(modelId(name))
const [own] = predictors(store, manifest, device)
if (!own) throw new Error(`${name} is not profiled on this device`)
const measured = store.measurements({ model: manifest.model, device, size: own.size })
const weightBytes = manifest.blocks
  .flatMap(({ descendants }) => descendants.filter(({ id }) => id === ORIGINAL))
  .reduce((sum, { file }) => sum + file.bytes, 0)
const computing = Math.max(
  ...measured.filter(({ descendant }) => descendant === ORIGINAL).map(({ anonymousBytes }) => anonymousBytes),
)
const limitBytes = Math.round(computing + SHARE * weightBytes)

// The quality of the original is asked for, so that no smaller descendants help.
const planner = openPlanner(zoo, store, device)
const minQuality = own.predictor.originalQuality - 1e-3
const { plan, chosen } = await planner.plan({
  wishes: [{ model: name, rate: 0, weight: 1, minQuality }],
  budget: way === 'loaded' ? {} : { memoryBytes: limitBytes },
  workers: 1,
  current: new Map(),
})
await planner.close()
const [planned] = plan.models
if (!planned) throw new Error(`no plan fits: ${JSON.stringify(plan.infeasible)}`)
const builder = new Builder(0)
const files = new UnitFiles({ zoo, builder, background: builder, device })
const size = planned.inputSize ?? manifest.sizes[0]!
const chain = await files.chain(manifest, chosen.get(name)!, size)
await builder.close()
store.close()

const engine = new Engine()
await engine.ready()
const noise = feedsOf(modelInputs(manifest, size))!
const feeds = () =>
  Object.fromEntries(
    Object.entries(noise).map(([input, value]) => [input, { ...value, data: value.data.slice() } as typeof value]),
  )
// What the first network in a process takes beside itself is no part of it.
const first = await engine.hold('first', chain[0]!.path)
await engine.run({ chain: ['first'], feeds: feeds(), outputs: chain[0]!.outputs.map((output) => output.name) })
await first.release()
globalThis.gc?.()
const before = processMemory()
const stays = (unit: Unit) => way === 'loaded' || (way === 'streamed' && !unit.streamed)
for (const unit of chain) {
  const [inputs, outputs] = [unit.inputs, unit.outputs].map((ports) => ports.map((port) => port.name))
  const streaming = { inputs: inputs!, outputs: outputs!, memoryBytes: unit.streamed?.loadedBytes ?? 0 }
  await engine.hold(unit.key, unit.path, stays(unit) ? undefined : streaming)
}
let sampledPeakBytes = 0
const sampling = setInterval(() => {
  const { anonymousBytes, fileBytes } = processMemory()
  const grown = anonymousBytes - before.anonymousBytes + Math.max(0, fileBytes - before.fileBytes)
  sampledPeakBytes = Math.max(sampledPeakBytes, grown)
}, 5)
const windowBytes = way === 'streamed' ? planned.streaming?.windowBytes : undefined
const outputs = manifest.outputs.map((output) => output.name)
const passing = chain.filter((unit) => !stays(unit)).map(({ path }) => path)
const times: number[] = []
let answer: Tensors = {}
for (let run = 0; run < RUNS; run++) {
  const result = await engine.run({ chain: chain.map(({ key }) => key), feeds: feeds(), outputs, windowBytes })
  if (run >= 3) times.push(result.ms)
  answer = result.outputs
  globalThis.gc?.()
  // What is read ahead at the end of a picture is the first block of the next one.
  await new Promise((resolve) => setTimeout(resolve, 100))
  evict(way === 'streamed' ? passing.slice(1) : passing)
}
clearInterval(sampling)
await engine.close()
const figures: StreamFigures = {
  weightBytes,
  limitBytes,
  plannedBytes: planned.predicted.memoryBytes,
  streamedBlocks: planned.choices.filter(({ streamed }) => streamed).length,
  blocks: planned.choices.length,
  readBytesPerSecond: planned.streaming?.readBytesPerSecond ?? 0,
  sampledPeakBytes,
  medianMs: median(times),
  predictedMs: planned.predicted.latencyMs,
  answer: sha256(Buffer.concat(outputs.map((output) => Buffer.from((answer[output]!.data as Float32Array).buffer)))),
}
console.log(JSON.stringify(figures))

/** Takes the pages of files out of the system's cache, as a system does that has no memory for them. */
function evict(paths: readonly string[]): void {
  for (const path of paths) execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'])
}
