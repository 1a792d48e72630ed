import { ORIGINAL, type Progress, seededRandom } from '../base/index.ts'
import { openSession } from '../engine/index.ts'
import { fuseToBytes, keyOf } from '../pipeline/index.ts'
import {
  type Combination,
  type Measurement,
  measureDescendants,
  measureWholesAtSizes,
  type ProfileStore,
  type Size,
  thisDevice,
} from '../profiles/index.ts'
import { type Tensors, taskFor } from '../tasks/index.ts'
import { type Picture, resizePicture } from '../tensor/index.ts'
import type { Manifest, ManifestBlock, Zoo } from '../zoo/index.ts'

/** Wholes that are measured again, the original first; more would say little about how blocks add up. */
const WHOLES = 12
const PICTURES = 3

/**
 * Measures all descendants of a built model, and the combinations that a build measured, on this device. Pictures are made up:
 * what a convolutional network costs does not hang on what a picture shows.
 *
 * Nothing is saved before all is measured.
 */
export async function profileModel(
  zoo: Zoo,
  manifest: Manifest,
  store: ProfileStore,
  progress: Progress,
): Promise<{ readonly measurements: readonly Measurement[]; readonly combinations: number; readonly losses: number }> {
  const device = thisDevice()
  const { model } = manifest
  const measurements: Measurement[] = []
  const asked: { readonly known: readonly Combination[]; readonly feeds: readonly Tensors[] }[] = []
  for (const size of manifest.sizes) {
    const whole = madeUpFeeds(manifest, size)
    const feeds = await feedsOfBlocks(zoo, manifest, whole, progress)
    const jobs = manifest.blocks.map((block, index) => ({ model, block, size, feeds: feeds[index]! }))
    measurements.push(...(await measureDescendants(jobs, { zoo, device, progress })))
    const known = knownWholes(manifest, store.combinations({ model, size }))
    if (known.length > 0) asked.push({ known, feeds: whole })
  }
  const different = new Map(
    asked.flatMap(({ known }) => known.map(({ choices }) => [keyOf(choices), choices] as const)),
  )
  const wholes = await Promise.all(
    [...different].map(async ([id, choices]) => ({ id, model: await fuseToBytes(zoo, manifest, choices) })),
  )
  const sets = asked.map(({ known, feeds }) => ({ feeds, ids: new Set(known.map(({ choices }) => keyOf(choices))) }))
  const costs = wholes.length === 0 ? [] : await measureWholesAtSizes(wholes, sets, { progress })
  const combinations = asked.flatMap(({ known }, s) =>
    known.map((combination): Combination => {
      const cost = costs[s]!.get(keyOf(combination.choices))!
      const measured = {
        ...combination.measured,
        latencyMs: cost.latencyP50Ms,
        memoryBytes: cost.anonymousBytes + cost.mappedBytes,
      }
      return { ...combination, device: device.key, measured, measuredAt: Date.now() }
    }),
  )
  store.saveDevice(device)
  store.saveModel(manifest)
  store.saveMeasurements(measurements)
  store.saveCombinations(combinations)
  return { measurements, combinations: combinations.length, losses: store.losses({ model }).length }
}

/** One of each choice, with the quality that was measured of it, wherever that was; all that fit predictions, the timed ones first. */
function knownWholes(manifest: Manifest, combinations: readonly Combination[]): Combination[] {
  const found = new Map<string, Combination>()
  for (const combination of combinations) {
    if (combination.split === 'refit') found.set(keyOf(combination.choices), combination)
  }
  const isOriginal = ({ choices }: Combination) => manifest.blocks.every(({ id }) => choices[id] === ORIGINAL)
  const rank = (each: Combination) => (isOriginal(each) ? 0 : each.measured.latencyMs === undefined ? 2 : 1)
  return [...found.values()].sort((a, b) => rank(a) - rank(b)).slice(0, WHOLES)
}

/** Smooth coloured noise: near enough to photographs for kernels whose time depends on their numbers (ReLU, sparse inputs). */
function madeUpFeeds({ card }: Manifest, size: Size): Tensors[] {
  const task = taskFor(card)
  const random = seededRandom(1)
  return Array.from({ length: PICTURES }, () => {
    const [height, width] = size
    const data = Uint8Array.from({ length: 3 * 16 * 16 }, () => Math.floor(random() * 256))
    const coarse: Picture = { width: 16, height: 16, data }
    return task.prepare(resizePicture(coarse, Math.max(16, width), Math.max(16, height)), card, size).feeds
  })
}

/** The inputs of each block, as the originals before it make them. */
async function feedsOfBlocks(
  zoo: Zoo,
  { model, blocks }: Manifest,
  whole: readonly Tensors[],
  progress: Progress,
): Promise<Tensors[][]> {
  progress.step('run the original blocks', blocks.length)
  const values = whole.map((feeds): Record<string, Tensors[string]> => ({ ...feeds }))
  const feeds: Tensors[][] = []
  for (const block of blocks) {
    const original = await zoo.load(model, originalOf(block).file)
    const session = await openSession(original)
    try {
      const taken = values.map((known) => Object.fromEntries(block.inputs.map(({ name }) => [name, known[name]!])))
      feeds.push(taken)
      for (const [i, each] of taken.entries()) Object.assign(values[i]!, await session.run(each))
    } finally {
      await session.release()
    }
    progress.advance()
  }
  return feeds
}

const originalOf = (block: ManifestBlock): ManifestBlock['descendants'][number] =>
  block.descendants.find(({ id }) => id === ORIGINAL)!
