import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { BlockscaleError, isName } from '../base/index.ts'
import { type DecoderName, decoderSchemas, outputSchema, strict } from './decoders.ts'
import { type TaskName, taskNames } from './task-name.ts'

const side = z.number().int().min(1).max(16384)
const perChannel = z.union([z.number(), z.array(z.number()).min(1)])
const digest = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits in lower case')
/** A file beside the card: no way out of its folder. */
const fileName = z
  .string()
  .regex(/^(?!.*\.\.)[^/\\][^\\]*$/, 'expected the name of a file in the folder of the card, without ".."')

/** value = (pixel · scale − mean) / std, pixel in 0…255, for each channel in the order of `color` */
export const inputSchema = strict({
  name: z.string().min(1),
  /** height, width */
  size: z.tuple([side, side]),
  /** cover: shortest side to `resizeTo`, then the middle; stretch; letterbox: all of the picture, the rest padded; none: at its own size */
  resize: z.enum(['cover', 'stretch', 'letterbox', 'none']).default('stretch'),
  resizeTo: side.optional(),
  /** the grey level (or the one for each channel) of a letterbox's rest */
  pad: perChannel.default(0),
  align: z.enum(['centre', 'top-left']).default('centre'),
  /** how the picture is resized; `plain-…` take no more neighbours when they scale down, as OpenCV does */
  kernel: z.enum(['linear', 'cubic', 'lanczos', 'nearest', 'plain-linear', 'plain-cubic']).default('linear'),
  color: z.enum(['rgb', 'bgr', 'gray', 'luma']).default('rgb'),
  scale: z.number().default(1),
  mean: perChannel.default(0),
  std: perChannel.default(1),
  layout: z.enum(['nchw', 'nhwc']).default('nchw'),
  type: z.enum(['float32', 'uint8']).default('float32'),
})

export const cardSchema = strict({
  /** where a card comes from, for editors; not read */
  $schema: z.string().optional(),
  id: z.string().refine(isName, 'expected letters, digits, ".", "_" and "-" only, at most 64'),
  /** one line about the model */
  title: z.string().optional(),
  /** what it is for, what it is not for, how good it is */
  notes: z.string().optional(),
  task: z.enum(taskNames),
  file: fileName,
  sha256: digest.optional(),
  source: strict({
    /** where `pull` finds the file; without it, `pull --from` takes it from a folder by its sha256 */
    url: z.url({ protocol: /^https?$/ }).optional(),
    sha256: digest,
    bytes: z.number().int().positive().optional(),
    licence: z.string().min(1),
    /** the project that made it */
    project: z.string().optional(),
  }).optional(),
  /** an array where the graph has several inputs; each gets the picture in its own way */
  input: z.union([inputSchema, z.array(inputSchema).min(1)]),
  output: outputSchema,
  data: strict({ calibration: z.string().optional(), validation: z.string().optional() }).optional(),
})

export type InputSpec = z.output<typeof inputSchema>
export type ModelCard = z.output<typeof cardSchema>

/** Which decoders give a task its answer. */
const decodersOf: Readonly<Record<TaskName, readonly DecoderName[]>> = {
  classification: ['softmax', 'probabilities'],
  detection: ['boxes', 'ssd', 'yolox', 'nanodet', 'fastestdet', 'yunet', 'ultraface'],
  'face-detection': ['ultraface', 'yunet', 'boxes', 'ssd', 'yolox', 'nanodet', 'fastestdet'],
  segmentation: ['argmax', 'binary'],
  'super-resolution': ['upscale'],
  generic: ['none'],
}

/**
 * Checks what was read from a model.json or a catalogue entry and fills in the defaults.
 *
 * @throws BlockscaleError MODEL_CARD_INVALID naming the field, what is wrong with it and what is allowed
 */
export function readCard(json: unknown, where = 'model.json'): ModelCard {
  const parsed = cardSchema.safeParse(json)
  if (!parsed.success) throw invalid(where, parsed.error.issues.map(describe))
  const card = parsed.data
  const faults = inconsistencies(card)
  if (faults.length > 0) throw invalid(where, faults)
  const sha256 = card.sha256 ?? card.source?.sha256
  return sha256 ? { ...card, sha256 } : card
}

/**
 * Reads the card of a model package (`<folder>/model.json`) or of the catalogue (a `.json` file), with its labels.
 *
 * @throws BlockscaleError NOT_FOUND, MODEL_CARD_INVALID
 */
export async function loadCard(folderOrFile: string): Promise<ModelCard> {
  const path = folderOrFile.endsWith('.json') ? folderOrFile : join(folderOrFile, 'model.json')
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new BlockscaleError('NOT_FOUND', `there is no model card ${path}`, 'Write one with `blockscale init`.', {
      cause,
    })
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw invalid(path, [`it is not JSON: ${(cause as Error).message}`])
  }
  return withLists(readCard(json, path), dirname(path), path)
}

/** Puts the lists that the card names as files into the card, so that it can be moved and kept in manifests. */
async function withLists(card: ModelCard, folder: string, where: string): Promise<ModelCard> {
  const output: Record<string, unknown> = { ...card.output }
  for (const field of ['labels', 'classes'] as const) {
    const file = output[field]
    if (typeof file !== 'string') continue
    if (!fileName.safeParse(file).success) throw invalid(where, [`output.${field}: "${file}" leaves the folder`])
    try {
      output[field] = (await readFile(join(folder, file), 'utf8')).replace(/\s+$/, '').split(/\r?\n/)
    } catch (cause) {
      throw invalid(where, [`output.${field}: ${join(folder, file)} cannot be read (${(cause as Error).message})`])
    }
  }
  return { ...card, output: output as ModelCard['output'] }
}

/** The inputs of a card, always as a list; the first is the one whose placement counts. */
export const inputsOf = (card: ModelCard): readonly InputSpec[] =>
  Array.isArray(card.input) ? card.input : [card.input]

export const firstInput = (card: ModelCard): InputSpec => inputsOf(card)[0]!

/** The name of a class, or its number where the card has no name for it. */
export function labelOf(card: ModelCard, index: number): string {
  const labels = 'labels' in card.output ? card.output.labels : undefined
  return (Array.isArray(labels) ? labels[index] : undefined) ?? (card.task === 'face-detection' ? 'face' : `${index}`)
}

export const channelsOf = (input: InputSpec): number => (input.color === 'gray' || input.color === 'luma' ? 1 : 3)

function inconsistencies(card: ModelCard): string[] {
  const faults: string[] = []
  const allowed = decodersOf[card.task]
  if (!allowed.includes(card.output.decoder)) {
    faults.push(
      `output.decoder: "${card.output.decoder}" does not suit the task ${card.task}; ${allowed.join(', ')} do`,
    )
  }
  if (card.sha256 && card.source && card.sha256 !== card.source.sha256) {
    faults.push('sha256: differs from source.sha256')
  }
  const several = Array.isArray(card.input)
  for (const [i, input] of inputsOf(card).entries()) {
    const at = several ? `input[${i}]` : 'input'
    for (const field of ['mean', 'std', 'pad'] as const) {
      const value = input[field]
      if (Array.isArray(value) && value.length !== channelsOf(input)) {
        faults.push(`${at}.${field}: ${value.length} values for the ${channelsOf(input)} channels of "${input.color}"`)
      }
    }
    if ([input.std].flat().includes(0)) faults.push(`${at}.std: 0 divides`)
    if (input.resizeTo !== undefined) {
      if (input.resize !== 'cover') faults.push(`${at}.resizeTo: only means something with resize "cover"`)
      else if (input.resizeTo < Math.min(...input.size)) faults.push(`${at}.resizeTo: is smaller than ${at}.size`)
    }
  }
  const { output } = card
  if (output.decoder === 'boxes') {
    if (output.joined !== undefined && (output.boxes !== undefined || output.scores !== undefined)) {
      faults.push('output.joined: stands in place of boxes and scores')
    }
    if (output.joined === undefined && (output.boxes === undefined || output.scores === undefined)) {
      faults.push('output: name the outputs as "boxes" and "scores", or as "joined"')
    }
  }
  return faults
}

function describe(issue: z.core.$ZodIssue): string {
  const path = issue.path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .slice(1)
  if (issue.code === 'invalid_union' && issue.path.at(-1) === 'decoder') {
    return `${path}: expected one of ${Object.keys(decoderSchemas).join(', ')}`
  }
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const closest = [...issue.errors].sort((a, b) => a.length - b.length)[0]!
    return closest.map((inner) => describe({ ...inner, path: [...issue.path, ...inner.path] })).join('; ')
  }
  return path ? `${path}: ${issue.message}` : issue.message
}

const invalid = (where: string, faults: readonly string[]): BlockscaleError =>
  new BlockscaleError('MODEL_CARD_INVALID', `${where}: ${faults.join('; ')}`)
