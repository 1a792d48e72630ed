/** One way of running a chain in a process of its own, for bench/runtime-stream.ts. Prints its figures as JSON. */
import { execFileSync } from 'node:child_process'
import { Engine, type EngineRun, readAhead, type Tensors, type Windowed } from '../src/engine/index.ts'
import { feedsOf } from '../src/runtime/compile-unit.ts'
import type { Unit } from '../src/runtime/unit.ts'
import { median } from './result.ts'
import { bytesOf, watchMemory } from './watch-memory.ts'

export interface StreamAsk {
  readonly way: 'as planned' | 'on demand'
  readonly chain: readonly Unit[]
  readonly windowBytes?: number | undefined
  readonly inputs: Unit['inputs']
  readonly outputs: readonly string[]
  /** a network that takes the same inputs and does nothing */
  readonly nothing: string
}

export interface StreamFigures {
  /** what the process holds more, anonymous and of mapped networks, than when it ran the network that does nothing */
  readonly sampledPeakBytes: number
  readonly medianMs: number
  /** the outputs, one after another */
  readonly answer: readonly number[]
}

const RUNS = 20
const WARM = 5

const { way, chain, inputs, outputs, nothing, ...plan } = JSON.parse(process.argv[2]!) as StreamAsk
const windowBytes = way === 'as planned' ? plan.windowBytes : undefined
/** How a block is held: as planned, or mapped when it is its turn. */
const heldAs = ({ window, memoryBytes, ...unit }: Unit): Windowed | undefined => {
  if (way === 'as planned' && !window) return undefined
  const names = (ports: Unit['inputs']) => ports.map(({ name }) => name)
  const passing = { inputs: names(unit.inputs), outputs: names(unit.outputs) }
  const isPassing = way === 'on demand' || window?.isPassing
  return { memoryBytes: window?.bytes ?? memoryBytes, passing: isPassing ? passing : undefined }
}
const held = chain.map((unit) => ({ unit, as: heldAs(unit) }))
const files = held.map(({ unit, as }) => ({
  path: unit.path,
  memoryBytes: as?.memoryBytes ?? 0,
  passingBytes: as?.passing ? unit.fileBytes : 0,
}))
// What is read ahead at the end of a picture is for the next one.
const atTheEnd = windowBytes === undefined ? [] : readAhead(files, windowBytes).at(-1)!
const aheadBytes = new Map(atTheEnd.map(({ step, bytes }) => [step, bytes]))

const engine = new Engine()
await engine.ready()
const noise = feedsOf(inputs)!
const feeds = () =>
  Object.fromEntries(
    Object.entries(noise).map(([input, value]) => [input, { ...value, data: value.data.slice() } as typeof value]),
  )
const picture = async (run: Omit<EngineRun, 'feeds'>) => {
  const result = await engine.run({ ...run, feeds: feeds() })
  globalThis.gc?.()
  await new Promise((resolve) => setTimeout(resolve, 100))
  for (const [step, { path, passingBytes }] of files.entries()) {
    if (passingBytes > 0) evict(path, aheadBytes.get(step) ?? 0)
  }
  return result
}

// What a process takes once it runs networks, whichever, is no part of what this one takes.
const first = await engine.hold('nothing', nothing)
const sampled = watchMemory()
for (let run = 0; run < RUNS; run++) {
  if (run === WARM) await sampled.takePeak()
  await picture({ chain: ['nothing'], outputs: ['same'] })
}
await first.release()
const before = bytesOf(await sampled.takePeak())
for (const { unit, as } of held) await engine.hold(unit.key, unit.path, as)
const times: number[] = []
let answer: Tensors = {}
for (let run = 0; run < RUNS; run++) {
  const result = await picture({ chain: chain.map(({ key }) => key), outputs, windowBytes })
  if (run >= WARM) times.push(result.ms)
  answer = result.outputs
}
const sampledPeakBytes = bytesOf(await sampled.takePeak()) - before
sampled.close()
await engine.close()
const figures: StreamFigures = {
  sampledPeakBytes,
  medianMs: median(times),
  answer: outputs.flatMap((output) => [...(answer[output]!.data as Float32Array)]),
}
console.log(JSON.stringify(figures))

/** Takes the pages of a file out of the system's cache, as a system does that has no memory for them. */
function evict(path: string, fromByte: number): void {
  execFileSync('dd', [`if=${path}`, 'iflag=nocache,skip_bytes', `skip=${fromByte}`, 'count=0', 'status=none'])
}
