import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type BlockId, sha256 } from '../base/index.ts'
import type { Choices, Manifest, ZooFile } from './manifest.ts'
import { fileSchema } from './manifest-file.ts'
import type { Zoo } from './zoo.ts'

/** What a polish does to a plan, measured on pictures that were held out of it. */
export interface PolishFigures {
  /** mean divergence from the original */
  readonly divergence: number
  /** agreement with the original, in the metric of the task */
  readonly agreement: number
}

/** Better weights for exactly one choice of descendants at one input size: `<zoo>/<model>/polished/<key>.json`. */
export interface Polish {
  readonly format: 1
  readonly choices: Choices
  readonly size: readonly [number, number]
  /** in place of the chosen descendants' files, for every block whose weights changed */
  readonly blocks: readonly { readonly block: BlockId; readonly file: ZooFile }[]
  /** what was done, in order: `sequence`, `distillation`, `head` */
  readonly how: readonly string[]
  /** pictures that were fitted on, and those that were held out */
  readonly pictures: number
  readonly heldOut: number
  readonly before: PolishFigures
  readonly after: PolishFigures
  readonly ms: number
}

const FOLDER = 'polished'
const name = z.string().regex(/^[\w.-]+$/)
const figures = z.strictObject({ divergence: z.number(), agreement: z.number() })
const schema = z.strictObject({
  format: z.literal(1),
  choices: z.record(name, name),
  size: z.tuple([z.number().int().positive(), z.number().int().positive()]),
  blocks: z.array(z.strictObject({ block: name, file: fileSchema })),
  how: z.array(z.string()),
  pictures: z.number().int().nonnegative(),
  heldOut: z.number().int().nonnegative(),
  before: figures,
  after: figures,
  ms: z.number(),
})

/** Names a choice by the files that it joins and the input size: after another build it is another choice. */
export function polishKey(manifest: Manifest, choices: Choices, size: readonly [number, number]): string {
  const files = manifest.blocks.map((block) => {
    const chosen = block.descendants.find(({ id }) => id === choices[block.id])
    return `${block.id} ${chosen?.file.sha256 ?? ''}`
  })
  return sha256([...files, size.join('x')].join('\n')).slice(0, 24)
}

/** The polish of a choice, where there is one and it is whole. */
export async function readPolish(
  zoo: Zoo,
  manifest: Manifest,
  choices: Choices,
  size: readonly [number, number],
): Promise<Polish | undefined> {
  const path = join(zoo.dir, manifest.model, FOLDER, `${polishKey(manifest, choices, size)}.json`)
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  try {
    const polish = schema.parse(JSON.parse(text)) as unknown as Polish
    for (const { file } of polish.blocks) await zoo.verified(manifest.model, file)
    return polish
  } catch {
    return undefined // whatever is wrong with it, it can be made again
  }
}

/**
 * Keeps a polish: first its blocks under names of their own, then, in one step, what names them.
 *
 * @param models bytes of the blocks whose weights changed
 * @throws BlockscaleError ZOO_NOT_WRITABLE
 */
export async function writePolish(
  zoo: Zoo,
  manifest: Manifest,
  polish: Omit<Polish, 'format' | 'blocks'>,
  models: ReadonlyMap<BlockId, Uint8Array>,
): Promise<Polish> {
  const key = polishKey(manifest, polish.choices, polish.size)
  const blocks: { block: BlockId; file: ZooFile }[] = []
  for (const [block, bytes] of models) {
    const path = `${FOLDER}/${key}.${block}.${sha256(bytes).slice(0, 12)}.onnx`
    blocks.push({ block, file: await zoo.writeFile(manifest.model, path, bytes) })
  }
  const whole: Polish = { format: 1, ...polish, blocks }
  await zoo.writeFile(manifest.model, `${FOLDER}/${key}.json`, `${JSON.stringify(whole, null, 1)}\n`)
  const kept = new Set(blocks.map(({ file }) => file.path.slice(FOLDER.length + 1)))
  const folder = join(zoo.dir, manifest.model, FOLDER)
  for (const old of await readdir(folder)) {
    if (old.startsWith(`${key}.`) && old.endsWith('.onnx') && !kept.has(old))
      await rm(join(folder, old), { force: true })
  }
  return whole
}

/** A file beside the polish of a choice for what is not finished yet. */
export const polishCheckpoint = (
  zoo: Zoo,
  manifest: Manifest,
  choices: Choices,
  size: readonly [number, number],
): string => join(zoo.dir, manifest.model, FOLDER, `${polishKey(manifest, choices, size)}.train`)
