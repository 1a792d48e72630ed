import { stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { type ModelId, type Progress, silentProgress } from '../base/index.ts'
import type { Tensors } from '../engine/index.ts'
import type { ManifestBlock, Zoo } from '../zoo/index.ts'
import { latencies, sharedOut } from './latency.ts'
import { type Measuring, startMeasuring } from './measuring.ts'
import type { Effort, LatencyResult, MemoryResult } from './measuring-process.ts'
import type { Device, Measurement, Size } from './rows.ts'
import { sum } from './statistics.ts'

/** The descendants of one block, to be measured against each other on recorded inputs. */
export interface MeasureJob {
  readonly model: ModelId
  readonly block: ManifestBlock
  readonly size: Size
  /** a few recorded real inputs of the block (batch of 1) */
  readonly feeds: readonly Tensors[]
}

export interface MeasureOptions {
  readonly zoo: Zoo
  readonly device: Device
  readonly progress?: Progress | undefined
  readonly signal?: AbortSignal | undefined
  readonly effort?: Effort | undefined
}

export type Costs = Pick<
  Measurement,
  'latencyP50Ms' | 'latencyP95Ms' | 'anonymousBytes' | 'mappedBytes' | 'loadMs' | 'samples' | 'memoryMethod'
>

/** Sessions that are compared at once; more would not fit into the memory of a small machine. */
const GROUP_BYTES = 400e6
const EFFORT: Effort = { leastRounds: 8, mostRounds: 24, sliceMs: 14 }
/** Small networks are loaded several times, so that the noise of the process (some 0.3 MB) is shared among them. */
const COUNTED_BYTES = 6e6
const MOST_COPIES = 8
/** Of files that are loaded at the same time; while it is loaded a network takes three times its file. */
const AT_ONCE_BYTES = 100e6
/** A process takes a third of a second to start: fewer files than these are not worth another one. */
const LEAST_SHARE = 4

/**
 * Measures all descendants of blocks on this machine: latency in milliseconds with one thread, memory, load time.
 *
 * Times on a busy machine drift by a factor of two within minutes, ratios measured in turns hardly do. So the originals of
 * all blocks are measured in turns with each other, which gives the scale (the median of undisturbed runs of all) and the
 * share of each in it, and the descendants of all blocks in turns as well: the latency of one is its ratio to its own original
 * (`ratioOf`) times the original's latency. How 8-bit integers compare with floats hangs on what else the machine does: with
 * one block after another their ratios were 5 to 9 % apart between two times of measuring, each block for itself, and a plan
 * takes the blocks that had luck.
 *
 * Each descendant is loaded as it will be served: optimised, saved as `.ort`, mapped. Memory is what a fresh process grows
 * by: anonymous bytes, and resident pages of the mapped file. Nothing else of ours should run while times are measured.
 *
 * @throws BlockscaleError ZOO_DAMAGED, ENGINE_FAILED
 */
export async function measureDescendants(jobs: readonly MeasureJob[], options: MeasureOptions): Promise<Measurement[]> {
  return timeDescendants(await weighDescendants(jobs, options), options)
}

/** Descendants compiled for this device, and what memory each takes. */
export interface Weighed {
  readonly job: MeasureJob
  /** of the compiled files, in the order of the block's descendants */
  readonly paths: readonly string[]
  readonly memory: readonly MemoryResult[]
}

/** Compiles descendants and measures the memory of each. This may run beside other work: nothing is timed. */
export async function weighDescendants(
  jobs: readonly MeasureJob[],
  options: Omit<MeasureOptions, 'effort'>,
): Promise<Weighed[]> {
  const progress = options.progress ?? silentProgress
  const compiled = await compileAll(jobs, options, progress)
  const ways = jobs.flatMap(({ feeds }, j) => compiled[j]!.map((path) => ({ path, feeds })))
  progress.step('measure memory', ways.length)
  const memory = await memoryOfAll(ways, options.signal, progress)
  let next = 0
  return jobs.map((job, j) => {
    const paths = compiled[j]!
    const from = next
    next += paths.length
    return { job, paths, memory: memory.slice(from, next) }
  })
}

/** Measures the latency of weighed descendants. Nothing else should run meanwhile. */
export async function timeDescendants(
  weighed: readonly Weighed[],
  { device, signal, progress = silentProgress, effort = EFFORT }: Omit<MeasureOptions, 'zoo'>,
): Promise<Measurement[]> {
  return withMeasuring('latency', signal, async (measuring) => {
    progress.step('measure latency', weighed.flatMap(({ paths }) => paths).length)
    const originals = await measuring.latency({
      paths: weighed.map(({ paths }) => paths[0]!),
      feeds: weighed.map(({ job }) => job.feeds),
      // All others are measured against these few.
      effort: { ...effort, leastRounds: effort.mostRounds },
    })
    const scales = sharedOut(originals.map(({ rounds }) => rounds))
    const rows: Measurement[] = []
    for (const group of groupsOf(weighed, ({ memory }) => sum(memory.map(bytesOf)))) {
      const starts = group.map((_, g) => sum(group.slice(0, g).map(({ paths }) => paths.length)))
      const results = await measuring.latency({
        paths: group.flatMap(({ paths }) => paths),
        references: group.flatMap(({ paths }, g) => paths.map(() => starts[g]!)),
        feeds: group.flatMap(({ job, paths }) => paths.map(() => job.feeds)),
        effort,
      })
      for (const [g, { job, paths, memory }] of group.entries()) {
        const { model, block, size } = job
        const ofBlock = results.slice(starts[g]!, starts[g]! + paths.length)
        const latency = scaled(ofBlock, scales[weighed.indexOf(group[g]!)]!)
        for (const [i, descendant] of block.descendants.entries()) {
          rows.push({
            model,
            block: block.id,
            descendant: descendant.id,
            device: device.key,
            size,
            ...latency[i]!,
            ...memoryColumns(memory[i]!),
            measuredAt: Date.now(),
          })
        }
        progress.advance(paths.length)
      }
    }
    return rows
  })
}

const bytesOf = ({ anonymousBytes, mappedBytes }: MemoryResult): number => anonymousBytes + mappedBytes

/** In order, in groups that fit into memory together. */
export function groupsOf<T>(all: readonly T[], bytes: (each: T) => number, before = 0): T[][] {
  const groups: T[][] = [[]]
  let used = before
  for (const each of all) {
    if (used + bytes(each) > GROUP_BYTES && groups.at(-1)!.length > 0) {
      groups.push([])
      used = before
    }
    groups.at(-1)!.push(each)
    used += bytes(each)
  }
  return groups
}

async function compileAll(
  jobs: readonly MeasureJob[],
  { zoo, device, signal }: MeasureOptions,
  progress: Progress,
): Promise<string[][]> {
  const all = jobs.flatMap(({ model, block }) => block.descendants.map(({ file }) => ({ model, file })))
  progress.step('compile for this device', all.length)
  // Twins of one content have one compiled file, which must not be written twice at once.
  const different = [...new Map(all.map((each) => [each.file.sha256, each])).values()]
  const largest = Math.max(...different.map(({ file }) => file.bytes))
  const paths = await shared('compile', signal, different, largest, async (measuring, { model, file }) => {
    const from = await zoo.verified(model, file)
    const path = await zoo.compile(device.key, file, (to) => measuring.compile(from, to))
    progress.advance()
    return path
  })
  const pathOf = new Map(different.map(({ file }, i) => [file.sha256, paths[i]!]))
  return jobs.map(({ block }) => block.descendants.map(({ file }) => pathOf.get(file.sha256)!))
}

/** What compiled networks take in memory, each in a process that has room for it. */
export async function memoryOfAll(
  ways: readonly { readonly path: string; readonly feeds: readonly Tensors[] }[],
  signal: AbortSignal | undefined,
  progress: Progress,
): Promise<MemoryResult[]> {
  const sizes = new Map(await Promise.all(ways.map(async ({ path }) => [path, (await stat(path)).size] as const)))
  return shared('memory', signal, ways, Math.max(...sizes.values()), async (measuring, { path, feeds }) => {
    const copies = Math.min(MOST_COPIES, Math.max(1, Math.round(COUNTED_BYTES / sizes.get(path)!)))
    const result = await measuring.memory({ path, feeds: feeds.slice(0, 3), copies })
    progress.advance()
    return result
  })
}

export const memoryColumns = ({ anonymousBytes, mappedBytes, method }: MemoryResult) => ({
  anonymousBytes,
  mappedBytes,
  memoryMethod: method,
})

export function scaled(
  results: readonly LatencyResult[],
  firstMs: number,
): Pick<Costs, 'latencyP50Ms' | 'latencyP95Ms' | 'loadMs' | 'samples'>[] {
  return latencies(
    results.map(({ rounds }) => rounds),
    firstMs,
  ).map(({ p50Ms, p95Ms, samples }, i) => ({
    latencyP50Ms: p50Ms,
    latencyP95Ms: p95Ms,
    loadMs: results[i]!.loadMs,
    samples,
  }))
}

/**
 * Shares work among measuring processes, one for each core: only for what does not depend on how busy the machine is.
 *
 * @param largestBytes of the files; so many are worked on at once as fit into memory together
 * @throws BlockscaleError what the first one that failed threw, once all have ended
 */
async function shared<T, R>(
  purpose: 'compile' | 'memory',
  signal: AbortSignal | undefined,
  items: readonly T[],
  largestBytes: number,
  work: (measuring: Measuring, item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const share = () =>
    withMeasuring(purpose, signal, async (measuring) => {
      for (let i = next++; i < items.length; i = next++) results[i] = await work(measuring, items[i]!)
    }).catch((error: unknown) => {
      next = items.length
      throw error
    })
  const most = Math.min(availableParallelism(), Math.ceil(items.length / LEAST_SHARE))
  const processes = Math.max(1, Math.min(most, Math.floor(AT_ONCE_BYTES / largestBytes)))
  const ends = await Promise.allSettled(Array.from({ length: processes }, share))
  for (const end of ends) if (end.status === 'rejected') throw end.reason
  return results
}

export async function withMeasuring<T>(
  purpose: Parameters<typeof startMeasuring>[0],
  signal: AbortSignal | undefined,
  work: (measuring: Measuring) => Promise<T>,
): Promise<T> {
  const measuring = startMeasuring(purpose, signal)
  try {
    return await work(measuring)
  } finally {
    await measuring.close()
  }
}
