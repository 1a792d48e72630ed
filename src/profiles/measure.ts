import { stat } from 'node:fs/promises'
import { type ModelId, type Progress, silentProgress } from '../base/index.ts'
import type { Tensors } from '../engine/index.ts'
import type { ManifestBlock, Zoo } from '../zoo/index.ts'
import { latencies, undisturbed } from './latency.ts'
import { type Measuring, startMeasuring } from './measuring.ts'
import type { Effort, LatencyResult, MemoryResult } from './measuring-process.ts'
import type { Device, Measurement, Size } from './rows.ts'

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

export const EFFORT: Effort = { leastRounds: 8, mostRounds: 24, sliceMs: 14 }
/** Small networks are loaded several times, so that the noise of the process (some 0.3 MB) is shared among them. */
const COUNTED_BYTES = 6e6
const MOST_COPIES = 8

/**
 * Measures all descendants of blocks on this machine: latency in milliseconds with one thread, memory, load time.
 *
 * Times on a busy machine drift by a factor of two within minutes, ratios measured in turns hardly do. So the originals of
 * all blocks are measured in turns with each other, which gives the scale (the median of undisturbed runs), and each
 * descendant in turns with its own original: its latency is that ratio (`ratioOf`) times the original's latency.
 *
 * Each descendant is loaded as it will be served: optimised, saved as `.ort`, mapped. Memory is what a fresh process grows
 * by: anonymous bytes, and resident pages of the mapped file. Nothing else of ours should run meanwhile.
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
  return withMeasuring('memory', options.signal, async (measuring) => {
    progress.step('measure memory', compiled.flat().length)
    const weighed: Weighed[] = []
    for (const [j, paths] of compiled.entries()) {
      const job = jobs[j]!
      const memory: MemoryResult[] = []
      for (const path of paths) {
        memory.push(await memoryOf(measuring, path, job.feeds))
        progress.advance()
      }
      weighed.push({ job, paths, memory })
    }
    return weighed
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
      effort,
    })
    const rows: Measurement[] = []
    for (const [j, { job, paths, memory }] of weighed.entries()) {
      const { model, block, size, feeds } = job
      const scale = undisturbed(originals[j]!.rounds)
      const latency = scaled(await measuring.latency({ paths, feeds: [feeds], effort }), scale)
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
    return rows
  })
}

async function compileAll(
  jobs: readonly MeasureJob[],
  { zoo, device, signal }: MeasureOptions,
  progress: Progress,
): Promise<string[][]> {
  progress.step('compile for this device', jobs.flatMap(({ block }) => block.descendants).length)
  return withMeasuring('compile', signal, async (measuring) => {
    const compiled: string[][] = []
    for (const { model, block } of jobs) {
      const paths: string[] = []
      for (const { file } of block.descendants) {
        const from = await zoo.verified(model, file)
        paths.push(await zoo.compile(device.key, file, (to) => measuring.compile(from, to)))
        progress.advance()
      }
      compiled.push(paths)
    }
    return compiled
  })
}

export async function memoryOf(measuring: Measuring, path: string, feeds: readonly Tensors[]): Promise<MemoryResult> {
  const { size } = await stat(path)
  const copies = Math.min(MOST_COPIES, Math.max(1, Math.round(COUNTED_BYTES / size)))
  return measuring.memory({ path, feeds: feeds.slice(0, 3), copies })
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
