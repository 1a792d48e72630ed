import {
  type Loss,
  type Measurement,
  type Size,
  thisDevice,
  timeDescendants,
  weighDescendants,
} from '../profiles/index.ts'
import type { Tensors } from '../tasks/index.ts'
import type { Manifest, ManifestBlock, ManifestDescendant } from '../zoo/index.ts'
import type { Drawable } from './combinations.ts'
import type { CrewPart } from './crew-messages.ts'
import { dominated } from './dominance.ts'
import { type Evaluation, lossOf } from './evaluate.ts'
import { type BuildState, noteSkipped } from './make.ts'

/** What the descendants of a model cost and lose at one input size, by `block/descendant`. */
export interface SizeProfile {
  readonly size: Size
  /** `original` is the model itself */
  readonly evaluations: ReadonlyMap<string, Evaluation>
  readonly measurements: ReadonlyMap<string, Measurement>
  /** a few whole pictures, for measuring combinations */
  readonly feeds: readonly Tensors[]
}

const MEASURED_PICTURES = 4
/** How often latencies are measured where time is short. */
export const HURRIED = { leastRounds: 4, mostRounds: 8, sliceMs: 10 }

/**
 * Measures every descendant at one input size: what it loses and what memory it takes, on all cores, then its latency, alone
 * on the machine.
 */
export async function profileAt(state: BuildState, manifest: Manifest, size: Size): Promise<SizeProfile> {
  const { zoo, id, crew, progress } = state
  const device = thisDevice()
  const feeds = await crew.run({ kind: 'feeds', pictures: MEASURED_PICTURES, size })
  const jobs = manifest.blocks.map((block, index) => ({ model: id, block, size, feeds: feeds.blocks[index]! }))
  const failed = new AbortController()
  const [evaluations, weighed] = await Promise.all([
    evaluateAll(state, manifest, size),
    weighDescendants(jobs, { zoo, device, signal: failed.signal }),
  ]).catch((cause) => {
    failed.abort()
    throw cause
  })
  const rows = await timeDescendants(weighed, { device, progress, effort: state.hurried ? HURRIED : undefined })
  const measurements = new Map(rows.map((row) => [`${row.block}/${row.descendant}`, row]))
  return { size, evaluations, measurements, feeds: feeds.whole }
}

/** What every descendant loses when it alone stands in, on the profile pictures; `original` is the model itself. */
async function evaluateAll(
  state: BuildState,
  manifest: Manifest,
  size: Size,
): Promise<ReadonlyMap<string, Evaluation>> {
  const { zoo, id, journal, crew, progress } = state
  const keyOf = (key: string) => `loss/${size.join('x')}/${key}`
  const evaluations = new Map<string, Evaluation>()
  const take = async (key: string, evaluation: Evaluation) => {
    evaluations.set(key, evaluation)
    progress.advance()
    await journal.put(keyOf(key), evaluation)
  }
  progress.step(
    `measure what each loses and takes at ${size.join('×')}`,
    1 + manifest.blocks.flatMap(standInsOf).length,
  )
  const skipped = (part: CrewPart) => noteSkipped(state, part)
  const original = crew
    .run({ kind: 'original', split: 'profile', size }, skipped)
    .then((evaluation) => take('original', evaluation))
  const blocks = manifest.blocks.map(async (block, index) => {
    const missing: ManifestDescendant[] = []
    for (const descendant of standInsOf(block)) {
      const key = `${block.id}/${descendant.id}`
      const known = await journal.get<Evaluation>(keyOf(key))
      if (known) await take(key, known)
      else missing.push(descendant)
    }
    if (missing.length === 0) return
    const written: Promise<void>[] = []
    await crew.run(
      async () => ({
        kind: 'stand-ins',
        block: index,
        standIns: await Promise.all(
          missing.map(async (each) => ({ id: each.id, model: await zoo.load(id, each.file) })),
        ),
        size,
      }),
      (part) => {
        if (part.kind !== 'evaluated') return skipped(part)
        const writing = take(`${block.id}/${part.id}`, part.evaluation)
        // Awaited below; until then a failed write must not count as one that nobody looks at.
        writing.catch(() => {})
        written.push(writing)
      },
    )
    await Promise.all(written)
  })
  await Promise.all([original, ...blocks])
  return evaluations
}

const standInsOf = ({ descendants }: ManifestBlock): readonly ManifestDescendant[] => descendants.slice(1)

/** The losses of what the manifest offers, as rows. */
export function lossesOf(
  manifest: Manifest,
  { size, evaluations }: SizeProfile,
  outputErrors: ReadonlyMap<string, number>,
): Loss[] {
  const original = evaluations.get('original')!
  return manifest.blocks.flatMap((block) =>
    block.descendants.flatMap(({ id: descendant }): Loss[] => {
      const key = `${block.id}/${descendant}`
      const evaluation = evaluations.get(key)
      if (!evaluation) return []
      return [
        {
          model: manifest.model,
          block: block.id,
          descendant,
          size,
          qualityLoss: lossOf(evaluation, original),
          divergence: evaluation.divergence,
          outputError: outputErrors.get(key) ?? 0,
          pictures: evaluation.pictures,
        },
      ]
    }),
  )
}

/** The measurements of what the manifest offers. */
export const measurementsOf = (manifest: Manifest, { measurements }: SizeProfile): Measurement[] =>
  manifest.blocks.flatMap((block) => block.descendants.flatMap(({ id }) => measurements.get(`${block.id}/${id}`) ?? []))

/** What drawing combinations needs to know. */
export const factsOf = ({ measurements, evaluations }: SizeProfile): ReadonlyMap<string, Drawable> =>
  new Map(
    [...measurements].map(([key, { latencyP50Ms }]) => [
      key,
      { latencyMs: latencyP50Ms, divergence: evaluations.get(key)?.divergence ?? 0 },
    ]),
  )

/** Without the descendants that a sibling beats in everything. */
export function withoutDominated(manifest: Manifest, { measurements, evaluations }: SizeProfile): Manifest {
  const dropped = [...manifest.dropped]
  const blocks = manifest.blocks.map((block) => {
    const gone = dominated(
      block.descendants.map(({ id, weightBytes: bytes }) => {
        const cost = measurements.get(`${block.id}/${id}`)!
        return {
          id,
          latencyMs: cost.latencyP50Ms,
          memoryBytes: cost.anonymousBytes + cost.mappedBytes,
          weightBytes: bytes,
          divergence: evaluations.get(`${block.id}/${id}`)?.divergence ?? 0,
        }
      }),
    )
    for (const [descendant, why] of gone) dropped.push({ block: block.id, descendant, why })
    return { ...block, descendants: block.descendants.filter(({ id }) => !gone.has(id)) }
  })
  return { ...manifest, blocks, dropped }
}
