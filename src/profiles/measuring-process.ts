import { openSession, type Session, type Tensors } from '../engine/index.ts'
import { type Rounds, ratioError } from './latency.ts'
import { readMemory } from './memory.ts'
import { median } from './statistics.ts'

/**
 * The process in which networks are compiled and measured, so that nothing of ours runs beside what is measured and no
 * freed memory of ours hides what a network takes. It does one call after another.
 */
export type MeasuringCall =
  | { readonly kind: 'compile'; readonly from: string | Uint8Array; readonly to: string }
  | { readonly kind: 'memory'; readonly path: string; readonly feeds: readonly Tensors[]; readonly copies: number }
  | {
      readonly kind: 'latency'
      readonly paths: readonly string[]
      /** the number of the one that each is compared with; the first unless given */
      readonly references?: readonly number[] | undefined
      readonly feeds: readonly (readonly Tensors[])[]
      readonly effort: Effort
    }

/** How long to look: rounds over all that is compared, and the time that each gets in a round. */
export interface Effort {
  readonly leastRounds: number
  /** of those whose ratio to what they are compared with is still uncertain after the least */
  readonly mostRounds: number
  readonly sliceMs: number
}

export interface MemoryResult {
  readonly anonymousBytes: number
  readonly mappedBytes: number
  readonly method: 'smaps' | 'rss'
}

export interface LatencyResult {
  /** to map it and to run it once, less what a run takes when it is warm */
  readonly loadMs: number
  readonly rounds: Rounds
}

export type MeasuringAnswer = { readonly result: null | MemoryResult | LatencyResult[] } | { readonly error: string }

const WARM_RUNS = 3
const LOADS = 3
/** two attempts that differ by less are both believed */
const AGREED = 0.03
/** runs of one network in one slice */
const MOST_RUNS = 200
/** standard error of a latency ratio with which its rounds may end */
const SURE = 0.01

process.on('message', (call: MeasuringCall) => {
  handle(call).then(
    (result) => process.send!({ result } satisfies MeasuringAnswer),
    (error: Error) => process.send!({ error: error.message } satisfies MeasuringAnswer),
  )
})
process.on('disconnect', () => process.exit())

async function handle(call: MeasuringCall): Promise<null | MemoryResult | LatencyResult[]> {
  switch (call.kind) {
    case 'compile':
      await (await openSession(call.from, { saveOptimizedTo: call.to })).release()
      return null
    case 'memory':
      return memoryOf(call.path, call.feeds, call.copies)
    case 'latency':
      return latencyOf(call)
  }
}

const open = (path: string): Promise<Session> => openSession(path, { memoryMapped: true })

let primed = false

/** Growth over loading `copies` sessions and running each, for one of them. */
async function memoryOf(path: string, feeds: readonly Tensors[], copies: number): Promise<MemoryResult> {
  // The first network also pays for what the runtime makes once for each process.
  if (!primed) await growth(path, feeds, copies)
  primed = true
  const attempts = [await growth(path, feeds, copies), await growth(path, feeds, copies)]
  const anonymous = attempts.map((each) => each.anonymousBytes)
  if (Math.abs(anonymous[0]! - anonymous[1]!) > AGREED * Math.max(...anonymous)) {
    attempts.push(await growth(path, feeds, copies))
  }
  const { mappedBytes, method } = attempts[0]!
  const anonymousBytes = Math.max(0, Math.round(median(attempts.map((each) => each.anonymousBytes))))
  return { anonymousBytes, mappedBytes, method }
}

async function growth(path: string, feeds: readonly Tensors[], copies: number): Promise<MemoryResult> {
  await settle()
  const before = readMemory()
  const sessions: Session[] = []
  for (let copy = 0; copy < copies; copy++) {
    const session = await open(path)
    sessions.push(session)
    for (let run = 0; run < WARM_RUNS; run++) await session.run(feeds[run % feeds.length]!)
  }
  await settle()
  const after = readMemory(path)
  for (const session of sessions) await session.release()
  return {
    anonymousBytes: (after.anonymousBytes - before.anonymousBytes) / copies,
    // Each copy has a mapping of its own over the same pages.
    mappedBytes: Math.round(after.mappedBytes / copies),
    method: after.method,
  }
}

/** Lets go of what earlier runs left to the garbage collector. */
async function settle(): Promise<void> {
  for (let i = 0; i < 2; i++) {
    globalThis.gc?.()
    await new Promise((done) => setTimeout(done, 2))
  }
}

/** Each in turn for a slice of time, in several rounds, so that the drift of a busy machine hits all alike. */
async function latencyOf({
  paths,
  references,
  feeds,
  effort,
}: MeasuringCall & { kind: 'latency' }): Promise<LatencyResult[]> {
  const sessions: Session[] = []
  const results: { loadMs: number; rounds: number[][] }[] = []
  for (const [k, path] of paths.entries()) {
    const loads: number[] = []
    const given = feeds[k % feeds.length]![0]!
    for (let i = 0; i < LOADS; i++) {
      const started = performance.now()
      const session = await open(path)
      const opened = performance.now()
      await session.run(given)
      const ran = performance.now()
      await session.run(given)
      const warmMs = performance.now() - ran
      loads.push(opened - started + Math.max(0, ran - opened - warmMs))
      if (i + 1 < LOADS) await session.release()
      else sessions.push(session)
    }
    results.push({ loadMs: Math.min(...loads), rounds: [] })
  }
  const referenceOf = (i: number): number => references?.[i] ?? 0
  const compared = new Set(sessions.map((_, i) => referenceOf(i)))
  let looked = sessions.map((_, i) => i)
  for (let round = 1; round <= effort.mostRounds; round++) {
    for (const i of looked) {
      results[i]!.rounds.push(await slice(sessions[i]!, feeds[i % feeds.length]!, effort.sliceMs))
    }
    if (round < effort.leastRounds) continue
    // One that is known well enough does not wait for those that are not.
    looked = looked.filter((i) => compared.has(i) || !isCertain(results[i]!.rounds, results[referenceOf(i)]!.rounds))
    if (looked.length === compared.size) break
  }
  for (const session of sessions) await session.release()
  return results
}

const isCertain = (rounds: Rounds, reference: Rounds): boolean => ratioError(rounds, reference) < SURE

/** The first run of a slice finds its weights pushed out of the caches; it counts, since the service has such runs too. */
async function slice(session: Session, feeds: readonly Tensors[], sliceMs: number): Promise<number[]> {
  const times: number[] = []
  const end = performance.now() + sliceMs
  do {
    const given = feeds[times.length % feeds.length]!
    const started = performance.now()
    await session.run(given)
    times.push(performance.now() - started)
  } while (times.length < 2 || (performance.now() < end && times.length < MOST_RUNS))
  return times
}
