import { availableParallelism } from 'node:os'
import { modelId, type Progress, sha256, silentProgress } from '../base/index.ts'
import { defaultRecipes, type Recipe } from '../blocks/index.ts'
import { openProfiles, thisDevice } from '../profiles/index.ts'
import type { Skipped } from '../tasks/index.ts'
import type { FoundModel, Manifest, Zoo } from '../zoo/index.ts'
import { prepareApart } from './apart.ts'
import { fitCombinations } from './combine.ts'
import { Crew } from './crew.ts'
import type { Evaluation } from './evaluate.ts'
import { type BuildState, type MadeBlocks, makeAll } from './make.ts'
import { ends } from './prepare.ts'
import { HURRIED, lossesOf, measurementsOf, profileAt, withoutDominated } from './profile.ts'
import { inputSizes } from './sizes.ts'
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
const MAKING_SHARE = 0.45
/** Under a shorter time limit wholes are fewer and measured less often. */
const HURRY_MS = 120_000
/** Share of a time limit after which no other input size is begun. */
const SIZES_SHARE = 0.7
/** An input size at which the original keeps less of its quality than this is not worth a profile. */
const LEAST_SHARE = 0.5

/**
 * The offline stage: reads and cuts a model, makes descendants of each block, measures what they cost and lose, and writes
 * all of it into the zoo. What an interrupted build had finished is taken over.
 *
 * @throws BlockscaleError ZOO_LOCKED, PICTURES_MISSING, MODEL_NOT_ONNX, MODEL_UNSUPPORTED, USAGE, …
 */
export async function build(zoo: Zoo, found: FoundModel, options: BuildOptions = {}): Promise<BuildReport> {
  const started = Date.now()
  const progress = options.progress ?? silentProgress
  const recipes = options.recipes ?? defaultRecipes
  progress.step('read and cut')
  const prepared = await prepareApart(found, options.blocks)
  const source: PictureSource = { images: options.images, validation: options.validation, folder: found.folder }
  const splits = await openSplits(prepared.card, source)
  for (const note of prepared.notes) progress.note(note)
  if (options.validation && !splits.labelled && prepared.card.task !== 'generic') {
    progress.note(
      `no labels were found in ${options.validation}: quality is agreement with the original. Names of class folders are looked up among output.labels of model.json (blockscale init writes one)`,
    )
  }
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
    const hurried = (options.timeLimitMs ?? Number.POSITIVE_INFINITY) < HURRY_MS
    const state: BuildState = {
      zoo,
      id,
      prepared,
      journal,
      crew,
      progress,
      skipped: new Map(),
      resumed: 0,
      hurried,
    }
    try {
      const until = options.timeLimitMs && started + options.timeLimitMs * MAKING_SHARE
      const made = await makeAll(state, prepared.normalised.quantised ? [] : recipes, until || undefined)
      const all = await manifestOf(state, made)
      const [own, ...smaller] = all.sizes
      const profile = await profileAt(state, all, own!)
      const offered = withoutDominated(all, profile)
      const profiles = [profile]
      for (const size of smaller) {
        if (options.timeLimitMs && Date.now() - started > options.timeLimitMs * SIZES_SHARE) {
          progress.note(`no time was left for the input size ${size.join('×')}`)
        } else profiles.push(await profileAt(state, offered, size))
      }
      const useful = profiles.filter(({ evaluations }) => isUseful(evaluations, profile.evaluations))
      const manifest = { ...offered, sizes: useful.map(({ size }) => size) }
      const store = openProfiles(zoo.profilesPath)
      try {
        store.saveDevice(thisDevice())
        store.saveModel(manifest)
        for (const each of useful) {
          store.saveMeasurements(measurementsOf(manifest, each))
          store.saveLosses(lossesOf(manifest, each, made.outputErrors))
        }
        const refitPictures = splits.items.refit.length
        const quality = await fitCombinations({
          manifest,
          profiles: useful,
          refitPictures,
          until: hurried ? started + options.timeLimitMs! : undefined,
          effort: hurried ? HURRIED : undefined,
          zoo,
          store,
          crew,
          progress,
        })
        // Last of all: a model whose profiles are not whole does not count as built.
        await zoo.writeManifest(manifest)
        await zoo.tidy(manifest)
        await journal.clear()
        return {
          manifest,
          options: manifest.blocks.reduce((product, block) => product * block.descendants.length, 1),
          metric: profile.evaluations.get('original')!.quality.metric,
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
const FORMAT = 5

async function manifestOf({ zoo, id, prepared }: BuildState, { blocks, dropped }: MadeBlocks): Promise<Manifest> {
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
    sizes: inputSizes(prepared.card, prepared.normalised.freeSize),
    dropped,
    stitchedError: prepared.stitchedError,
    builtWith: `blockscale 0.1.0`,
  }
}

function isUseful(here: ReadonlyMap<string, Evaluation>, own: ReadonlyMap<string, Evaluation>): boolean {
  const [at, from] = [here.get('original')!.quality.value, own.get('original')!.quality.value]
  return here === own || at >= LEAST_SHARE * from
}
