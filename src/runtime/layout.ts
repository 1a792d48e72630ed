import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { sha256, writeFileAtomic } from '../base/index.ts'
import { openCompiled, type PortFact, quickest, type Session } from '../engine/index.ts'
import type { Manifest, ManifestBlock, ZooFile } from '../zoo/index.ts'
import { type BlockedBorders, GROUP } from './blocked-layout.ts'
import { feedsOf } from './compile-unit.ts'

/** Border values that are handed over in blocked layout, with their channels. */
export type Layout = ReadonlyMap<string, number>

export const PLAIN: Layout = new Map()

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

/** Blocked is better nearly everywhere: a border stays plain only where the blocks at it lose more than noise. */
const NOISE = 1.03

/**
 * A value stays plain where the blocks on both of its sides, together, are slower when it is blocked.
 *
 * @param times by block, milliseconds with plain and with blocked borders; absent where it could not be measured
 */
export function chooseLayout(
  values: Layout,
  blocks: readonly { readonly borders: BlockedBorders; readonly times?: readonly [plain: number, blocked: number] }[],
): Layout {
  const isWorthIt = (value: string) => {
    const sides = blocks.filter(({ borders }) => borders.inputs.has(value) || borders.outputs.has(value))
    const total = (of: 0 | 1) => sides.reduce((sum, { times }) => sum + (times?.[of] ?? Number.NaN), 0)
    return total(1) <= NOISE * total(0)
  }
  return new Map([...values].filter(([value]) => isWorthIt(value)))
}

/**
 * Which values are better blocked here: each original block is run with plain and with blocked borders.
 *
 * @param compile gives the path of a block that was compiled with such borders
 */
export async function measureLayout<
  B extends { readonly borders: BlockedBorders; readonly ports: readonly PortFact[] },
>(
  values: Layout,
  blocks: readonly B[],
  compile: (block: B, borders: BlockedBorders) => Promise<string>,
): Promise<Layout> {
  const plain: BlockedBorders = { inputs: PLAIN, outputs: PLAIN }
  const measured: { borders: BlockedBorders; times?: readonly [number, number] }[] = []
  for (const block of blocks) {
    const feeds = feedsOf(block.ports)
    const sessions: Session[] = []
    try {
      for (const borders of [plain, block.borders]) sessions.push(await openCompiled(await compile(block, borders)))
      const [before, after] = feeds ? quickest(sessions, feeds) : []
      const known = before !== undefined && after !== undefined
      measured.push({ borders: block.borders, ...(known ? { times: [before, after] as const } : {}) })
    } finally {
      for (const session of sessions) await session.release()
    }
  }
  return chooseLayout(values, measured)
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
