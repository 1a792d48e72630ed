import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { type Command, Option } from 'commander'
import { BlockscaleError, modelId } from '../base/index.ts'
import { fusePolished, fuseToBytes, lookApart, originalChoices } from '../pipeline/index.ts'
import type { Size } from '../profiles/index.ts'
import { firstInput, type ModelCard } from '../tasks/index.ts'
import { type Choices, type FoundModel, findModel, type Manifest, openZoo, readPolish, type Zoo } from '../zoo/index.ts'
import { type Chosen, parseChoices, readPlanFile } from './plan-file.ts'

/** A model that a command is about, in one of its forms. */
export interface Subject {
  readonly model: string
  readonly card: ModelCard
  readonly size: Size
  /** the uncut model as ONNX */
  readonly original: Uint8Array
  /** the chosen combination as ONNX; absent where the original itself is meant */
  readonly variant?: Uint8Array | undefined
  readonly built?: { readonly manifest: Manifest; readonly choices: Choices } | undefined
}

export interface SubjectOptions {
  readonly zoo: string
  readonly plan?: string | undefined
  readonly choose?: string | undefined
}

/** The options of every command that takes a form of a model. */
export const withForm = (command: Command): Command =>
  command
    .option('--plan <file>', 'a plan, as `plan --json` printed it')
    .addOption(
      new Option(
        '--choose <choices>',
        'descendants by block, such as b0=int8,b1=prune50; the others stay as they are',
      ).conflicts('plan'),
    )

/** A bare `.onnx` is known by its file name without the ending. */
export const idOf = (name: string): string =>
  name.toLowerCase().endsWith('.onnx') ? basename(name).slice(0, -'.onnx'.length) : name

/** @throws BlockscaleError MODEL_UNKNOWN with the models that are built */
export const builtManifest = (zoo: Zoo, name: string): Promise<Manifest> => zoo.manifest(modelId(idOf(name)))

/**
 * The form of a model that `--plan` or `--choose` name, else the original. A model that is not built has only that one.
 *
 * @throws BlockscaleError MODEL_UNKNOWN, NOT_FOUND, PLAN_INVALID, MODEL_NOT_ONNX, ZOO_DAMAGED
 */
export async function openSubject(name: string, options: SubjectOptions): Promise<Subject> {
  const zoo = openZoo(options.zoo)
  const isAsked = options.plan !== undefined || options.choose !== undefined
  const manifest = await builtManifest(zoo, name).catch((error: unknown) => {
    if (isAsked || !(error instanceof BlockscaleError && error.code === 'MODEL_UNKNOWN')) throw error
    return undefined
  })
  if (!manifest) return unbuilt(await findGiven(name, options.zoo))
  const chosen = await chosenOf(manifest, options)
  const original = await zoo.load(manifest.model, manifest.original)
  return {
    model: manifest.model,
    card: manifest.card,
    size: chosen?.size ?? manifest.sizes[0]!,
    original,
    ...(chosen ? { variant: await variantOf(zoo, manifest, chosen) } : {}),
    built: { manifest, choices: chosen?.choices ?? originalChoices(manifest) },
  }
}

/**
 * The chosen combination as one plain model, with the weights that were made for it where the plan says so.
 *
 * @throws BlockscaleError PLAN_INVALID when they are not in the zoo any more
 */
async function variantOf(zoo: Zoo, manifest: Manifest, { choices, size, polished }: Chosen): Promise<Uint8Array> {
  if (!polished) return fuseToBytes(zoo, manifest, choices)
  const polish = await readPolish(zoo, manifest, choices, size)
  if (polish) return fusePolished(zoo, manifest, polish)
  throw new BlockscaleError(
    'PLAN_INVALID',
    `the plan of ${manifest.model} was polished, and its weights are not in ${zoo.dir}`,
    'make the plan again with `plan --polish`, in the zoo that is used',
  )
}

export async function chosenOf(manifest: Manifest, { plan, choose }: SubjectOptions): Promise<Chosen | undefined> {
  if (plan !== undefined) return readPlanFile(plan, manifest)
  return choose === undefined ? undefined : parseChoices(choose, manifest)
}

/**
 * A model before it is built, by its catalogue id, package folder or file.
 *
 * @throws BlockscaleError MODEL_UNKNOWN, NOT_FOUND, MODEL_CARD_INVALID, CHECKSUM_MISMATCH, MODEL_NOT_ONNX for any other file
 */
export async function findGiven(name: string, zoo: string): Promise<FoundModel> {
  const info = await stat(name).catch(() => undefined)
  if (info?.isFile() && !name.toLowerCase().endsWith('.onnx')) {
    const hint = 'give an .onnx file, a folder with model.json, or the name of a model'
    throw new BlockscaleError('MODEL_NOT_ONNX', `${name} is no .onnx file`, hint)
  }
  return findModel(name, { zoo })
}

/** Says which file it was that could not be used. */
export async function naming<T>(file: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    const isAboutFile =
      error instanceof BlockscaleError && (error.code === 'MODEL_NOT_ONNX' || error.code === 'MODEL_UNSUPPORTED')
    if (!isAboutFile || error.message.includes(file)) throw error
    throw new BlockscaleError(error.code, `${file}: ${error.message}`, error.hint, { cause: error })
  }
}

async function unbuilt(found: FoundModel): Promise<Subject> {
  const { card } = await naming(found.file, lookApart(found))
  return { model: found.id, card, size: firstInput(card).size, original: await readFile(found.file) }
}
