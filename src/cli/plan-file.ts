import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { BlockscaleError } from '../base/index.ts'
import { descendantOf, originalChoices } from '../pipeline/index.ts'
import type { Size } from '../profiles/index.ts'
import type { Choices, Manifest } from '../zoo/index.ts'

/** What a plan says of one model. */
export interface Chosen {
  readonly choices: Choices
  /** `[height, width]` */
  readonly size: Size
  /** whether the weights that `--polish` made for these choices are meant */
  readonly polished?: boolean
}

const planSchema = z.object({
  status: z.enum(['optimal', 'feasible', 'infeasible']),
  models: z.array(
    z.object({
      model: z.string(),
      inputSize: z.tuple([z.number().int().positive(), z.number().int().positive()]).optional(),
      choices: z.array(z.object({ block: z.string(), descendant: z.string() })),
      polished: z.object({}).optional(),
    }),
  ),
})

/**
 * The part of a plan file (what `plan --json` printed) that is about one model; others may be in it as well.
 *
 * @throws BlockscaleError NOT_FOUND, PLAN_INVALID saying what is wrong
 */
export async function readPlanFile(path: string, manifest: Manifest): Promise<Chosen> {
  const plan = parse(await readText(path), path)
  if (plan.status === 'infeasible') throw invalid(noPlan(path, plan.models.length > 0))
  const entry = plan.models.find(({ model }) => model === manifest.model)
  if (!entry) {
    const named = plan.models.map(({ model }) => model).join(', ')
    throw invalid(`${path} says nothing about ${manifest.model}; it plans ${named || 'nothing'}`)
  }
  const chosen = new Map(entry.choices.map(({ block, descendant }) => [block, descendant]))
  if (chosen.size !== entry.choices.length) throw invalid(`${path} chooses twice for one block of ${manifest.model}`)
  const strange = [...chosen.keys()].find((block) => !manifest.blocks.some(({ id }) => id === block))
  if (strange !== undefined)
    throw invalid(`${path} names the block "${strange}"; ${manifest.model} has ${blocksOf(manifest)}`)
  const missing = manifest.blocks.find(({ id }) => !chosen.has(id))
  if (missing) throw invalid(`${path} chooses nothing for the block ${missing.id} of ${manifest.model}`)
  const choices = manifest.blocks.map((block) => [block.id, descendantOf(block, chosen.get(block.id)).id])
  const size = entry.inputSize ?? manifest.sizes[0]!
  if (!manifest.sizes.some((known) => known.join() === size.join())) {
    const known = manifest.sizes.map((each) => each.join('×')).join(', ')
    throw invalid(`${path} wants the input size ${size.join('×')}; ${manifest.model} is built for ${known}`)
  }
  return { choices: Object.fromEntries(choices) as Choices, size, polished: entry.polished !== undefined }
}

/**
 * Choices as they are written in a command, `b0=int8,b1=prune50`; a block that is not named stays as it is.
 *
 * @throws BlockscaleError USAGE, PLAN_INVALID
 */
export function parseChoices(text: string, manifest: Manifest): Chosen {
  const choices: Record<string, string> = { ...originalChoices(manifest) }
  for (const part of text.split(',')) {
    const [block = '', descendant = '', ...rest] = part.split('=').map((each) => each.trim())
    if (!block || !descendant || rest.length > 0) {
      throw new BlockscaleError(
        'USAGE',
        `--choose: not a choice: "${part}"`,
        'write block=descendant, such as b0=int8,b1=prune50',
      )
    }
    const found = manifest.blocks.find(({ id }) => id === block)
    if (!found) throw invalid(`${manifest.model} has no block "${block}"; it has ${blocksOf(manifest)}`)
    choices[found.id] = descendantOf(found, descendant).id
  }
  return { choices: choices as Choices, size: manifest.sizes[0]! }
}

const noPlan = (path: string, isNearest: boolean): string =>
  isNearest
    ? `${path} holds a plan that breaks the limits it was asked for (the nearest one to them); plan again with limits that it keeps`
    : `${path} holds no plan: nothing fitted the limits`

const blocksOf = (manifest: Manifest): string => manifest.blocks.map(({ id }) => id).join(', ')

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new BlockscaleError(
      'NOT_FOUND',
      `cannot read the plan ${path}`,
      'make one with `blockscale plan … --json > plan.json`',
      {
        cause,
      },
    )
  }
}

function parse(text: string, path: string): z.output<typeof planSchema> {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw invalid(`${path} is not JSON: ${(cause as Error).message}`)
  }
  const parsed = planSchema.safeParse(json)
  if (parsed.success) return parsed.data
  const faults = parsed.error.issues.map(({ path: at, message }) => `${at.join('.') || 'the file'}: ${message}`)
  throw invalid(`${path} is no plan: ${faults.slice(0, 3).join('; ')}`)
}

const invalid = (message: string): BlockscaleError => new BlockscaleError('PLAN_INVALID', message)
