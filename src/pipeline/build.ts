import { availableParallelism } from 'node:os'
import { descendantId, modelId, ORIGINAL, type Progress, sha256, silentProgress } from '../base/index.ts'
import { recipes as allRecipes, type Recipe } from '../blocks/index.ts'
import { macs, weightBytes, writeModel } from '../onnx/index.ts'
import { measureDescendants, openProfiles, thisDevice } from '../profiles/index.ts'
import { firstInput, type Skipped } from '../tasks/index.ts'
import type { Dropped, FoundModel, Journal, Manifest, ManifestBlock, ManifestDescendant, Zoo } from '../zoo/index.ts'
import { originalChoices, replaced } from './choices.ts'
import { fitCombinations } from './combine.ts'
import { Crew } from './crew.ts'
import type { CrewPart } from './crew-messages.ts'
import { dominated } from './dominance.ts'
import type { Evaluation } from './evaluate.ts'
import { fuseToBytes } from './fuse.ts'
import { ends, type PreparedModel, prepareModel } from './prepare.ts'
import { openSplits, type PictureSource } from './splits.ts'

export interface BuildOptions {
  readonly images?: string | undefined
  readonly validation?: string | undefined
  /** blocks to cut into; what trades border cost against choice best unless given */
  readonly blocks?: number | undefined
  readonly recipes?: readonly Recipe[] | undefined
  /** worker threads; one per core unless given */
  readonly jobs?: number | undefined
  readonly timeLimitMs?: number | undefined
  readonly progress?: Progress | undefined
}

export interface BuildReport {
  readonly manifest: Manifest
  /** models that the blocks can be combined to */
  readonly options: number
  readonly metric: string
  readonly quality: number
  readonly pictures: Readonly<Record<string, number>>
  readonly skipped: readonly Skipped[]
  readonly notes: readonly string[]
  readonly resumed: number
  readonly ms: number
}

/** Share of a time limit that the making of descendants may take; the rest is for measuring them. */
const MAKING_SHARE = 0.55
const MEASURED_PICTURES = 4

/**
 * The offline stage: reads and cuts a model, makes descendants of each block, measures what they cost and lose, and writes
 * all of it into the zoo. What an interrupted build had finished is taken over.
 *
 * @throws BlockscaleError ZOO_LOCKED, PICTURES_MISSING, MODEL_NOT_ONNX, MODEL_UNSUPPORTED, USAGE, …
 */
export async function build(zoo: Zoo, found: FoundModel, options: BuildOptions = {}): Promise<BuildReport> {
  const started = Date.now()
  const progress = options.progress ?? silentProgress
  const recipes = options.recipes ?? allRecipes
  progress.step('read and cut')
  const prepared = await prepareModel(found, options.blocks)
  const source: PictureSource = { images: options.images, validation: options.validation, folder: found.folder }
  const splits = await openSplits(prepared.card, source)
  for (const note of prepared.notes) progress.note(note)
  progress.note(`${prepared.blocks.length} blocks, stitched together within ${prepared.stitchedError.toExponential(1)}`)

  const id = modelId(prepared.id)
  const lock = await zoo.lock(id)
  try {
    const pictures = Object.entries(splits.items).map(([name, items]) => [name, items.map(({ path }) => path)])
    const plan = [prepared.source, options.blocks ?? 'default', recipes, prepared.card, pictures, FORMAT]
    const journal = await zoo.journal(id, sha256(JSON.stringify(plan)))
    const crew = new Crew(options.jobs ?? Math.min(4, availableParallelism()), {
      card: prepared.card,
      source,
      model: prepared.normalised.model,
      blocks: prepared.blocks,
    })
    const state: BuildState = { zoo, id, prepared, journal, crew, progress, skipped: new Map(), resumed: 0 }
    try {
      const until = options.timeLimitMs && started + options.timeLimitMs * MAKING_SHARE
      const made = await makeAll(state, prepared.normalised.quantised ? [] : recipes, until || undefined)
      const all = await manifestOf(state, made.blocks, made.dropped)
      const evaluations = await evaluateAll(state, all)
      const feeds = await crew.run({ kind: 'feeds', pictures: MEASURED_PICTURES })
      const size = firstInput(prepared.card).size
      const device = thisDevice()
      const measurements = await measureDescendants(
        all.blocks.map((block, index) => ({ model: id, block, size, feeds: feeds.blocks[index]! })),
        { zoo, device, progress },
      )
      const costs = new Map(measurements.map((row) => [`${row.block}/${row.descendant}`, row]))
      const manifest = withoutDominated(all, costs, evaluations)
      const original = evaluations.get('original')!
      await zoo.writeManifest(manifest)
      const store = openProfiles(zoo.profilesPath)
      try {
        store.saveDevice(device)
        store.saveModel(manifest)
        const offered = new Set(manifest.blocks.flatMap((b) => b.descendants.map((d) => `${b.id}/${d.id}`)))
        store.saveMeasurements(measurements.filter((row) => offered.has(`${row.block}/${row.descendant}`)))
        store.saveLosses(
          manifest.blocks.flatMap((block) =>
            block.descendants.flatMap(({ id: descendant }) => {
              const evaluation = evaluations.get(`${block.id}/${descendant}`)
              if (!evaluation) return []
              return [
                {
                  model: id,
                  block: block.id,
                  descendant,
                  size,
                  qualityLoss: original.quality.value - evaluation.quality.value,
                  divergence: evaluation.divergence,
                  outputError: made.outputErrors.get(`${block.id}/${descendant}`) ?? 0,
                  pictures: evaluation.pictures,
                },
              ]
            }),
          ),
        )
        const facts = new Map(
          measurements.map(({ block, descendant, latencyP50Ms }) => {
            const key = `${block}/${descendant}`
            return [key, { latencyMs: latencyP50Ms, divergence: evaluations.get(key)?.divergence ?? 0 }]
          }),
        )
        const quality = await fitCombinations({ manifest, facts, zoo, store, crew, progress, feeds: feeds.whole, size })
        await zoo.tidy(manifest)
        await journal.clear()
        return {
          manifest,
          options: manifest.blocks.reduce((product, block) => product * block.descendants.length, 1),
          metric: original.quality.metric,
          quality,
          pictures: Object.fromEntries(Object.entries(splits.items).map(([name, items]) => [name, items.length])),
          skipped: [...splits.skipped, ...state.skipped.values()],
          notes: prepared.notes,
          resumed: state.resumed,
          ms: Date.now() - started,
        }
      } finally {
        store.close()
      }
    } finally {
      await crew.close()
    }
  } finally {
    await lock.release()
  }
}

/** Counts up when what a build makes changes, so that no old half is taken over. */
const FORMAT = 1

interface BuildState {
  readonly zoo: Zoo
  readonly id: ReturnType<typeof modelId>
  readonly prepared: PreparedModel
  readonly journal: Journal
  readonly crew: Crew
  readonly progress: Progress
  readonly skipped: Map<string, Skipped>
  resumed: number
}

interface MadeBlocks {
  readonly blocks: readonly ManifestBlock[]
  readonly dropped: readonly Dropped[]
  readonly outputErrors: ReadonlyMap<string, number>
}

type MadeRecord = { readonly descendant: ManifestDescendant; readonly outputError: number } | { readonly why: string }

/** Makes the descendants of every block, several blocks at a time, and writes each as it comes. */
async function makeAll(state: BuildState, recipes: readonly Recipe[], until: number | undefined): Promise<MadeBlocks> {
  const { zoo, id, prepared, journal, crew, progress } = state
  progress.step('make descendants', prepared.blocks.length)
  const borders = await crew.run({ kind: 'ranges' }, (part) => noteSkipped(state, part))
  const outputErrors = new Map<string, number>()
  const dropped: Dropped[] = []
  const blocks = await Promise.all(
    prepared.blocks.map(async (block, index): Promise<ManifestBlock> => {
      const original = await zoo.writeBlock(id, block.id, ORIGINAL, writeModel(block.model))
      const descendants: ManifestDescendant[] = [
        {
          id: ORIGINAL,
          kind: 'original',
          parameters: {},
          file: original,
          weightBytes: weightBytes(block.model),
          macs: macs(block.model, block.nominal),
        },
      ]
      const take = (name: string, record: MadeRecord) => {
        if ('why' in record) {
          dropped.push({ block: block.id, descendant: descendantId(name), why: record.why })
          return
        }
        descendants.push(record.descendant)
        outputErrors.set(`${block.id}/${name}`, record.outputError)
      }
      const known = (await journal.get<readonly string[]>(`names/${block.id}`)) ?? []
      const names: string[] = []
      for (const name of known) {
        const record = await journal.get<MadeRecord>(`made/${block.id}/${name}`)
        if (!record) continue
        take(name, record)
        names.push(name)
        state.resumed++
      }
      const finished = await journal.get<true>(`finished/${block.id}`)
      if (recipes.length > 0 && !(finished && names.length === known.length)) {
        const writing: Promise<void>[] = []
        let last: Promise<void> = Promise.resolve()
        let late = false
        await crew.run({ kind: 'descend', block: index, recipes, borders, known: names, until }, (part) => {
          if (part.kind === 'skipped') return noteSkipped(state, part)
          if (names.includes(part.id)) return
          last = last.then(async () => {
            const record = await recordOf(state, index, part)
            take(part.id, record)
            // What only time kept from being made is tried again by the next build.
            if ('why' in record && record.why.includes('no time')) {
              late = true
              return
            }
            names.push(part.id)
            const files = 'descendant' in record ? [record.descendant.file] : []
            await journal.put(`made/${block.id}/${part.id}`, record, files)
            await journal.put(`names/${block.id}`, names)
            progress.note(`${block.id} ${part.id}${'why' in record ? `: dropped, ${record.why}` : ''}`)
          })
          writing.push(last)
        })
        await Promise.all(writing)
        if (!late) await journal.put(`finished/${block.id}`, true)
      }
      progress.advance()
      return {
        id: block.id,
        inputs: block.inputs,
        outputs: block.outputs,
        descendants,
      }
    }),
  )
  return { blocks, dropped, outputErrors }
}

async function recordOf(
  { zoo, id, prepared }: BuildState,
  index: number,
  part: Exclude<CrewPart, { kind: 'skipped' }>,
): Promise<MadeRecord> {
  if (part.kind === 'dropped') return { why: part.why }
  const descendant = descendantId(part.id)
  const file = await zoo.writeBlock(id, prepared.blocks[index]!.id, descendant, part.bytes)
  const parameters =
    part.integerLayers > 0 ? { ...part.parameters, integerLayers: part.integerLayers } : part.parameters
  return {
    descendant: {
      id: descendant,
      kind: part.descendantKind,
      parameters,
      file,
      weightBytes: part.weightBytes,
      macs: part.macs,
    },
    outputError: part.outputError,
  }
}

/** What every descendant loses when it alone stands in, on the profile pictures; `original` is the model itself. */
async function evaluateAll(state: BuildState, manifest: Manifest): Promise<ReadonlyMap<string, Evaluation>> {
  const { zoo, journal, crew, progress } = state
  const jobs = [
    { key: 'original', choices: originalChoices(manifest) },
    ...manifest.blocks.flatMap((block) =>
      block.descendants.slice(1).map((descendant) => ({
        key: `${block.id}/${descendant.id}`,
        choices: replaced(manifest, block.id, descendant),
      })),
    ),
  ]
  progress.step('measure what each loses', jobs.length)
  const evaluations = new Map<string, Evaluation>()
  await Promise.all(
    jobs.map(async ({ key, choices }) => {
      const known = await journal.get<Evaluation>(`loss/${key}`)
      const evaluation =
        known ??
        (await crew.run(
          async () => ({ kind: 'evaluate', model: await fuseToBytes(zoo, manifest, choices), split: 'profile' }),
          (part) => noteSkipped(state, part),
        ))
      if (!known) await journal.put(`loss/${key}`, evaluation)
      evaluations.set(key, evaluation)
      progress.advance()
    }),
  )
  return evaluations
}

function noteSkipped(state: BuildState, part: CrewPart): void {
  if (part.kind !== 'skipped' || state.skipped.has(part.skipped.path)) return
  state.skipped.set(part.skipped.path, part.skipped)
  state.progress.note(`left out ${part.skipped.path}: ${part.skipped.why}`)
}

async function manifestOf(
  { zoo, id, prepared }: BuildState,
  blocks: readonly ManifestBlock[],
  dropped: readonly Dropped[],
): Promise<Manifest> {
  const { inputs, outputs } = ends(prepared.normalised.model, prepared.id)
  return {
    format: 1,
    model: id,
    card: prepared.card,
    source: prepared.source,
    original: await zoo.writeFile(id, 'original.onnx', prepared.bytes),
    inputs,
    outputs,
    blocks,
    sizes: [firstInput(prepared.card).size],
    dropped,
    stitchedError: prepared.stitchedError,
    builtWith: `blockscale 0.1.0`,
  }
}

/** Without the descendants that a sibling beats in everything. */
function withoutDominated(
  manifest: Manifest,
  costs: ReadonlyMap<
    string,
    { readonly latencyP50Ms: number; readonly anonymousBytes: number; readonly mappedBytes: number }
  >,
  evaluations: ReadonlyMap<string, Evaluation>,
): Manifest {
  const dropped = [...manifest.dropped]
  const blocks = manifest.blocks.map((block) => {
    const gone = dominated(
      block.descendants.map(({ id, weightBytes: bytes }) => {
        const cost = costs.get(`${block.id}/${id}`)!
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
