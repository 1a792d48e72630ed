import { z } from 'zod'
import { isName, ORIGINAL, sha256 } from '../base/index.ts'
import { readCard } from '../tasks/index.ts'
import type { Manifest } from './manifest.ts'
import { damaged } from './verifier.ts'

const digest = z.string().regex(/^[0-9a-f]{64}$/)
const name = z.string().refine(isName, 'expected a name of letters, digits, ".", "_" and "-"')
const count = z.number().int().nonnegative()
const size = z.tuple([z.number().int().positive(), z.number().int().positive()])

/** A path inside the model's folder, in the same words on every system. */
export const isInside = (path: string): boolean =>
  path.length > 0 && path.split('/').every((part) => isName(part) && part !== '.' && part !== '..')

export const fileSchema = z.strictObject({
  path: z.string().refine(isInside, 'expected a path inside the folder of the model'),
  bytes: count,
  sha256: digest,
})
const fact = z.strictObject({ type: z.string(), dims: z.array(z.union([count, z.string(), z.null()])).optional() })
const border = z.strictObject({ name: z.string(), fact })
const descendant = z.strictObject({
  id: name,
  kind: z.enum(['original', 'prune', 'int8', 'prune-int8', 'low-rank', 'merge', 'drop', 'l1-distill']),
  parameters: z.record(z.string(), z.union([z.number(), z.string()])),
  file: fileSchema,
  weightBytes: count,
  macs: z.number().nonnegative(),
})
const unique = (items: readonly { readonly id: string }[]): boolean =>
  new Set(items.map(({ id }) => id)).size === items.length

const block = z.strictObject({
  id: name,
  inputs: z.array(border),
  outputs: z.array(border),
  descendants: z
    .array(descendant)
    .min(1)
    .refine((all) => all[0]?.id === ORIGINAL, 'expected the original first')
    .refine(unique, 'two descendants have the same id'),
})
const schema = z.strictObject({
  format: z.literal(1),
  model: name,
  card: z.unknown(),
  source: digest,
  original: fileSchema,
  inputs: z.array(border),
  outputs: z.array(border),
  blocks: z.array(block).min(1).refine(unique, 'two blocks have the same id'),
  sizes: z.array(size).min(1),
  dropped: z.array(z.strictObject({ block: name, descendant: name, why: z.string() })),
  stitchedError: z.number(),
  builtWith: z.string(),
})

/** What a block takes and nothing before it gives, or what the model is to give and no block does. */
function gapIn({ inputs, blocks, outputs }: z.infer<typeof schema>): string | undefined {
  const given = new Map(inputs.map(({ name: value, fact: { type } }) => [value, type]))
  for (const { id, inputs: taken, outputs: made } of blocks) {
    const missing = taken.find(({ name: value, fact: { type } }) => given.get(value) !== type)
    if (missing) return `nothing before the block ${id} gives it ${missing.name} (${missing.fact.type})`
    for (const {
      name: value,
      fact: { type },
    } of made)
      given.set(value, type)
  }
  const missing = outputs.find(({ name: value, fact: { type } }) => given.get(value) !== type)
  return missing && `no block gives its output ${missing.name} (${missing.fact.type})`
}

/** The manifest as text, with a checksum over all of it at the end. */
export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify({ ...manifest, checksum: sha256(JSON.stringify(manifest)) }, null, 1)}\n`
}

/** @throws BlockscaleError ZOO_DAMAGED naming what is wrong */
export function parseManifest(text: string, path: string, model: string): Manifest {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw damaged(path, `is no JSON: ${(cause as Error).message}`, cause)
  }
  const { checksum, ...rest } = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>
  if (checksum !== sha256(JSON.stringify(rest))) throw damaged(path, 'is not as it was written: its checksum differs')
  const parsed = schema.safeParse(rest)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
    throw damaged(path, `is no valid manifest: ${faults.slice(0, 3).join('; ')}`)
  }
  if (parsed.data.model !== model) throw damaged(path, `belongs to the model ${parsed.data.model}`)
  const gap = gapIn(parsed.data)
  if (gap) throw damaged(path, `is no whole model: ${gap}`)
  // The names were checked above; types of tensors are what our own writer wrote, as the checksum shows.
  return { ...parsed.data, card: readCard(parsed.data.card, path) } as unknown as Manifest
}
