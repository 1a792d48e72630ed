import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { sha256, writeFileAtomic } from '../base/index.ts'
import type { Manifest, ManifestBlock, ZooFile } from '../zoo/index.ts'
import type { BlockedBorders } from './blocked-layout.ts'

/** Border values that are handed over in blocked layout, with their channels. */
export type Layout = ReadonlyMap<string, number>

export const PLAIN: Layout = new Map()

/** Channels of this multiple have the same shape in both layouts, whatever the size of the groups on this CPU. */
const GROUP = 16

/** Values between blocks whose shape is the same in both layouts. The ends of a model stay plain: callers see them. */
export function eligibleValues({
  blocks,
  inputs,
  outputs,
}: Pick<Manifest, 'inputs' | 'outputs'> & { readonly blocks: readonly Pick<ManifestBlock, 'outputs'>[] }): Layout {
  const ends = new Set([...inputs, ...outputs].map(({ name }) => name))
  const found = new Map<string, number>()
  for (const { name, fact } of blocks.flatMap((block) => block.outputs)) {
    const channels = fact.dims?.[1]
    if (ends.has(name) || fact.type !== 'float32' || fact.dims?.length !== 4) continue
    if (typeof channels === 'number' && channels % GROUP === 0) found.set(name, channels)
  }
  return found
}

export function bordersOf(
  { inputs, outputs }: Pick<ManifestBlock, 'inputs' | 'outputs'>,
  layout: Layout,
): BlockedBorders {
  const among = (values: ManifestBlock['inputs']) =>
    new Map(values.flatMap(({ name }) => (layout.has(name) ? [[name, layout.get(name)!] as const] : [])))
  return { inputs: among(inputs), outputs: among(outputs) }
}

/** What a descendant is kept as once it was compiled with these borders; the number changes with the way of compiling. */
export function unitFile(file: ZooFile, { inputs, outputs }: BlockedBorders): ZooFile {
  const borders = JSON.stringify([[...inputs], [...outputs]])
  return { path: '', bytes: 0, sha256: sha256(`unit 1\n${file.sha256}\n${borders}`) }
}

const schema = z.strictObject({ blocked: z.array(z.tuple([z.string(), z.int().positive()])) })

/** The layout that was chosen before; whatever is wrong with it, it is chosen again. */
export async function readLayout(folder: string, manifest: Manifest): Promise<Layout | undefined> {
  try {
    const { blocked } = schema.parse(JSON.parse(await readFile(layoutPath(folder, manifest), 'utf8')))
    const eligible = eligibleValues(manifest)
    return blocked.every(([value, channels]) => eligible.get(value) === channels) ? new Map(blocked) : undefined
  } catch {
    return undefined
  }
}

export async function writeLayout(folder: string, manifest: Manifest, layout: Layout): Promise<void> {
  await writeFileAtomic(layoutPath(folder, manifest), `${JSON.stringify({ blocked: [...layout] })}\n`)
}

/** Of the borders: a model that is cut anew is measured anew. */
const layoutPath = (folder: string, { source, blocks }: Manifest): string => {
  const borders = JSON.stringify(blocks.map(({ inputs, outputs }) => [inputs, outputs]))
  return join(folder, `${sha256(`layout 1\n${source}\n${borders}`)}.layout.json`)
}
