import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Progress, silentProgress } from '../base/index.ts'
import type { Tensors } from '../engine/index.ts'
import { undisturbed } from './latency.ts'
import { type Costs, groupsOf, memoryColumns, memoryOfAll, scaled, withMeasuring } from './measure.ts'
import type { Effort, LatencyResult } from './measuring-process.ts'
import { median } from './statistics.ts'

/** Wholes are few, and all predictions are drawn to them. */
const EFFORT: Effort = { leastRounds: 16, mostRounds: 32, sliceMs: 14 }

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

/**
 * The same at several input sizes, all in turns with the first whole at the first size: measured one size after another, a
 * machine whose speed drifts by 8 % between them makes a plan at the smaller size so much dearer or cheaper than it is. What is
 * compiled for one size serves all.
 *
 * @returns costs for each of `sizes`, the first whole among them
 */
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
    const ways = sizes.flatMap(({ feeds }, s) => asked[s]!.map((i) => ({ path: paths[i]!, feeds })))
    const costs = await measureCompiled(ways, { ...options, progress })
    let next = 0
    return asked.map((numbers) => new Map(numbers.map((i) => [wholes[i]!.id, costs[next++]!])))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Costs of compiled wholes, each on its own feeds, in the scale of the first. */
async function measureCompiled(
  ways: readonly { readonly path: string; readonly feeds: readonly Tensors[] }[],
  { effort = EFFORT, signal, progress = silentProgress, meanwhile }: WholeOptions,
): Promise<Costs[]> {
  const memory = await memoryOfAll(ways, signal, progress)
  const bytesOf = (i: number): number => memory[i]!.anonymousBytes + memory[i]!.mappedBytes
  const others = ways.map((_, i) => i).slice(1)
  const groups = groupsOf(others, bytesOf, bytesOf(0))
  await meanwhile
  const measured = await withMeasuring('latency', signal, async (measuring) => {
    const results: LatencyResult[][] = []
    for (const group of groups) {
      const turns = [0, ...group].map((i) => ways[i]!)
      results.push(
        await measuring.latency({
          paths: turns.map(({ path }) => path),
          feeds: turns.map(({ feeds }) => feeds),
          effort,
        }),
      )
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
