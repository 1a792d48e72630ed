import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Progress, silentProgress } from '../base/index.ts'
import type { Tensors } from '../engine/index.ts'
import { undisturbed } from './latency.ts'
import { type Costs, EFFORT, memoryColumns, memoryOfAll, scaled, withMeasuring } from './measure.ts'
import type { Effort, LatencyResult, MemoryResult } from './measuring-process.ts'
import { median } from './statistics.ts'

/** Sessions that are compared at once; more would not fit into the memory of a small machine. */
const GROUP_BYTES = 400e6

export interface Whole {
  readonly id: string
  /** serialised ONNX model */
  readonly model: Uint8Array
}

/** Real inputs of one size (batch of 1), and which wholes are measured on them; all unless `ids` are given. */
export interface WholeFeeds {
  readonly feeds: readonly Tensors[]
  readonly ids?: ReadonlySet<string> | undefined
}

export interface WholeOptions {
  readonly effort?: Effort | undefined
  readonly signal?: AbortSignal | undefined
  readonly progress?: Progress | undefined
  /** work that is under way elsewhere: times are not measured before it has ended */
  readonly meanwhile?: Promise<unknown> | undefined
}

/**
 * Costs of whole models, such as fused combinations: each measured in turns with the first, whose latency over all turns
 * gives the scale.
 *
 * @param wholes with the same inputs
 * @param feeds a few real inputs (batch of 1)
 */
export async function measureWholes(
  wholes: readonly Whole[],
  feeds: readonly Tensors[],
  options: WholeOptions = {},
): Promise<ReadonlyMap<string, Costs>> {
  return (await measureWholesAtSizes(wholes, [{ feeds }], options))[0]!
}

/** The same at several input sizes; what is compiled for one size serves all. @returns costs for each of `sizes` */
export async function measureWholesAtSizes(
  wholes: readonly Whole[],
  sizes: readonly WholeFeeds[],
  options: WholeOptions = {},
): Promise<readonly ReadonlyMap<string, Costs>[]> {
  const { signal, progress = silentProgress } = options
  const asked = sizes.map(({ ids }) => wholes.flatMap(({ id }, i) => (i === 0 || !ids || ids.has(id) ? [i] : [])))
  const folder = await mkdtemp(join(tmpdir(), 'blockscale-measure-'))
  try {
    progress.step('measure wholes', wholes.length + 2 * asked.flat().length)
    const paths = await withMeasuring('compile', signal, async (measuring) => {
      const made: string[] = []
      for (const [i, { model }] of wholes.entries()) {
        const to = join(folder, `${i}.ort`)
        await measuring.compile(model, to)
        made.push(to)
        progress.advance()
      }
      return made
    })
    const results: ReadonlyMap<string, Costs>[] = []
    for (const [s, { feeds }] of sizes.entries()) {
      const numbers = asked[s]!
      const costs = await measureCompiled(
        numbers.map((i) => paths[i]!),
        feeds,
        { ...options, progress },
      )
      results.push(new Map(numbers.map((i, k) => [wholes[i]!.id, costs[k]!])))
    }
    return results
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function measureCompiled(
  paths: readonly string[],
  feeds: readonly Tensors[],
  { effort = EFFORT, signal, progress = silentProgress, meanwhile }: WholeOptions,
): Promise<Costs[]> {
  const ways = paths.map((path) => ({ path, feeds }))
  const memory = await memoryOfAll(ways, signal, progress)
  const groups = groupsOf(memory)
  await meanwhile
  const measured = await withMeasuring('latency', signal, async (measuring) => {
    const results: LatencyResult[][] = []
    for (const group of groups) {
      const groupPaths = [0, ...group].map((i) => paths[i]!)
      results.push(await measuring.latency({ paths: groupPaths, feeds: [feeds], effort }))
      progress.advance(group.length)
    }
    return results
  })
  const scale = median(measured.map(([first]) => undisturbed(first!.rounds)))
  const costs: Costs[] = []
  for (const [g, group] of groups.entries()) {
    const latency = scaled(measured[g]!, scale)
    for (const [k, i] of [0, ...group].entries()) {
      if (i === 0 && g > 0) continue
      costs[i] = { ...latency[k]!, ...memoryColumns(memory[i]!) }
    }
  }
  return costs
}

/** Numbers of all wholes but the first, in groups that fit into memory together with it. */
function groupsOf(memory: readonly MemoryResult[]): number[][] {
  const bytesOf = (i: number): number => memory[i]!.anonymousBytes + memory[i]!.mappedBytes
  const groups: number[][] = [[]]
  let bytes = 0
  for (let i = 1; i < memory.length; i++) {
    if (bytes + bytesOf(i) > GROUP_BYTES && groups.at(-1)!.length > 0) {
      groups.push([])
      bytes = 0
    }
    groups.at(-1)!.push(i)
    bytes += bytesOf(i)
  }
  return groups
}
