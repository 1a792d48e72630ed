import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { BlockscaleError, seededRandom, shuffled } from '../base/index.ts'
import { decodeMask, decodePicture, type Picture, type PictureLimits } from '../tensor/index.ts'
import type { ModelCard } from './card.ts'
import { cocoTruths } from './coco.ts'
import { groupBy } from './group.ts'
import type { Truth } from './task.ts'

/** A picture on disk and, where its folder tells, what is true about it. */
export interface Item {
  readonly path: string
  readonly truth?: (() => Promise<Truth>) | undefined
}

export interface Skipped {
  readonly path: string
  readonly why: string
}

export interface Dataset {
  readonly items: readonly Item[]
  /** every item has a truth */
  readonly labelled: boolean
  /** what looked like a picture and is none, or has no place among the model's classes */
  readonly skipped: readonly Skipped[]
}

export interface LoadedItem {
  readonly path: string
  readonly picture: Picture
  readonly truth?: Truth | undefined
}

const PICTURES = new Set(['.jpg', '.jpeg', '.png', '.webp'])

/**
 * The pictures of a folder (or of a glob such as `photos/2024-*.jpg`), in the order of their names, with their truths:
 *
 * - `<dir>/<class>/*.jpg`: classes by label, by the card's `classes`, or, where neither fits and the number of folders is
 *   the number of labels, by their alphabetical order;
 * - a `.json` file of COCO annotations beside the pictures: boxes, or masks for segmentation;
 * - `<name>.png` beside `<name>.jpg`: a mask of class indices (255 counts for nothing);
 * - super-resolution needs none: the truth is the picture that is scaled down.
 *
 * @throws BlockscaleError PICTURES_MISSING when there is no picture, NOT_FOUND when there is no such folder
 */
export async function openDataset(place: string, card: ModelCard): Promise<Dataset> {
  const { folder, files } = await list(place)
  if (files.length === 0) {
    throw new BlockscaleError('PICTURES_MISSING', `${place} holds no JPEG, PNG or WebP picture`)
  }
  const found = await truthsOf(folder, files, card)
  const labelled = found.items.length > 0 && found.items.every((item) => item.truth !== undefined)
  return { ...found, labelled: labelled || card.task === 'super-resolution' }
}

/**
 * Reads the pictures of a dataset one after another, so that memory holds one of them. What cannot be read is told to
 * `onSkip` and left out.
 *
 * @throws BlockscaleError PICTURES_MISSING when not one of them could be read
 */
export async function* loadItems(
  items: readonly Item[],
  onSkip: (skipped: Skipped) => void = () => {},
  limits: PictureLimits = {},
): AsyncGenerator<LoadedItem> {
  let read = 0
  let lastFailure: unknown
  for (const item of items) {
    let loaded: LoadedItem
    try {
      const picture = await decodePicture(item.path, limits)
      loaded = { path: item.path, picture, truth: await item.truth?.() }
    } catch (error) {
      lastFailure = error
      onSkip({ path: item.path, why: error instanceof Error ? error.message : String(error) })
      continue
    }
    read++
    yield loaded
  }
  if (read === 0) {
    throw new BlockscaleError('PICTURES_MISSING', `none of ${items.length} pictures could be read`, undefined, {
      cause: lastFailure,
    })
  }
}

/**
 * Disjoint parts of a dataset, by fractions of it; labelled classes are spread evenly over the parts. Equal seeds give
 * equal parts; parts keep the dataset's order.
 *
 *     split(dataset, { profile: 0.3, report: 0.7 }, 1).report.length // → 0.7 of the pictures
 */
export function split<Name extends string>(
  dataset: Dataset,
  fractions: Readonly<Record<Name, number>>,
  seed: number,
): Readonly<Record<Name, readonly Item[]>> {
  const names = Object.keys(fractions) as Name[]
  const total = names.reduce((sum, name) => sum + fractions[name], 0)
  if (names.some((name) => fractions[name] < 0) || total > 1 + 1e-9) {
    throw new BlockscaleError('USAGE', `fractions must not be negative or exceed 1 together; they are ${total}`)
  }
  // one picture of each folder in turn, so that any run of the order has all classes
  const random = seededRandom(seed)
  const folders = groupBy(dataset.items.keys(), (i) => dirname(dataset.items[i]!.path))
  const queues = [...folders.values()].map((indices) => shuffled(indices, random))
  const longest = Math.max(...queues.map((queue) => queue.length))
  const order = Array.from({ length: longest }, (_, round) =>
    shuffled(
      queues.flatMap((q) => q.slice(round, round + 1)),
      random,
    ),
  ).flat()
  let share = 0
  const parts = names.map((name) => {
    const from = Math.round(share * order.length)
    share += fractions[name]
    const chosen = order.slice(from, Math.round(share * order.length)).sort((a, b) => a - b)
    return [name, chosen.map((i) => dataset.items[i]!)] as const
  })
  return Object.fromEntries(parts) as Record<Name, Item[]>
}

const isPicture = (name: string): boolean => PICTURES.has(extname(name).toLowerCase()) && !name.startsWith('.')
const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

async function list(place: string): Promise<{ folder: string; files: string[] }> {
  const info = await stat(place).catch(() => undefined)
  if (info?.isFile()) return { folder: dirname(place), files: [place] }
  if (info) return { folder: place, files: await picturesIn(place) }
  if (/[*?]/.test(basename(place)) && (await stat(dirname(place)).catch(() => undefined))?.isDirectory()) {
    const pattern = wildcard(basename(place))
    const names = (await readdir(dirname(place))).filter((name) => isPicture(name) && pattern.test(name)).sort(byName)
    return { folder: dirname(place), files: names.map((name) => join(dirname(place), name)) }
  }
  throw new BlockscaleError('NOT_FOUND', `there is no folder ${place}`, 'Give a folder with pictures.')
}

/** `*` and `?` in a file's name, as shells read them. */
const wildcard = (pattern: string): RegExp =>
  new RegExp(
    `^${pattern
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.')}$`,
  )

/** Pictures of a folder and of the folders in it, one level down. */
async function picturesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  const files: string[] = []
  for (const entry of entries.sort((a, b) => byName(a.name, b.name))) {
    if (entry.name.startsWith('.')) continue
    const path = join(folder, entry.name)
    const isFolder =
      entry.isDirectory() || (entry.isSymbolicLink() && (await stat(path).catch(() => undefined))?.isDirectory())
    if (!isFolder) {
      if (isPicture(entry.name)) files.push(path)
      continue
    }
    const names = (await readdir(path)).filter(isPicture).sort(byName)
    files.push(...names.map((name) => join(path, name)))
  }
  return files
}

type Found = Pick<Dataset, 'items' | 'skipped'>

async function truthsOf(folder: string, files: readonly string[], card: ModelCard): Promise<Found> {
  const plain: Found = { items: files.map((path) => ({ path })), skipped: [] }
  switch (card.task) {
    case 'classification':
      return inClassFolders(folder, files, card) ?? plain
    case 'detection':
    case 'face-detection':
      return (await withCoco(folder, files, card)) ?? plain
    case 'segmentation':
      return withMasks(files) ?? (await withCoco(folder, files, card)) ?? plain
    default:
      return plain
  }
}

/** Undefined when the pictures do not lie in class folders. */
function inClassFolders(folder: string, files: readonly string[], card: ModelCard): Found | undefined {
  const folders = [...new Set(files.map(dirname))].filter((each) => each !== folder)
  if (folders.length === 0 || files.some((path) => dirname(path) === folder)) return undefined
  const indices = classIndices(
    folders.map((each) => basename(each)),
    card,
  )
  const known = folders.filter((each) => indices.has(basename(each)))
  if (known.length === 0) return undefined
  const skipped = folders
    .filter((each) => !known.includes(each))
    .map((path) => ({ path, why: `"${basename(path)}" is none of the model's classes` }))
  const items = files.flatMap((path) => {
    const index = indices.get(basename(dirname(path)))
    return index === undefined ? [] : [{ path, truth: async (): Promise<Truth> => ({ kind: 'class', index }) }]
  })
  return { items, skipped }
}

/** Which class each folder stands for. */
export function classIndices(folders: readonly string[], card: ModelCard): ReadonlyMap<string, number> {
  const output = card.output as { labels?: string | string[]; classes?: string | string[] }
  const labels = Array.isArray(output.labels) ? output.labels : []
  const classes = Array.isArray(output.classes) ? output.classes : []
  const plain = (name: string): string =>
    name
      .toLowerCase()
      .replace(/[\s_-]+/g, ' ')
      .trim()
  // of "tench, Tinca tinca" the first word is enough
  const tables = [classes, labels.map(plain), labels.map((label) => plain(label.split(',')[0]!))]
  const result = new Map<string, number>()
  for (const folder of folders) {
    for (const table of tables) {
      const index = table.indexOf(table === classes ? folder : plain(folder))
      if (index >= 0 && !result.has(folder)) result.set(folder, index)
    }
    // folders that are named by the class's number
    if (!result.has(folder) && classes.length === 0 && labels.length === 0 && /^\d+$/.test(folder)) {
      result.set(folder, Number(folder))
    }
  }
  if (result.size > 0) return result
  const sorted = [...folders].sort(byName)
  return labels.length === folders.length ? new Map(sorted.map((name, index) => [name, index])) : result
}

/** Undefined when no picture has a mask beside it (`a.jpg` and `a.png`). */
function withMasks(files: readonly string[]): Found | undefined {
  const all = new Set(files)
  const maskOf = (path: string): string => `${path.slice(0, -extname(path).length)}.png`
  const photos = files.filter((path) => extname(path).toLowerCase() !== '.png')
  const masked = photos.filter((path) => all.has(maskOf(path)))
  if (masked.length === 0) return undefined
  const truth = async (path: string): Promise<Truth> => {
    const mask = await decodeMask(maskOf(path))
    return { kind: 'mask', width: mask.width, height: mask.height, mask: mask.data }
  }
  return {
    items: masked.map((path) => ({ path, truth: () => truth(path) })),
    skipped: photos.filter((path) => !masked.includes(path)).map((path) => ({ path, why: 'it has no mask beside it' })),
  }
}

async function withCoco(folder: string, files: readonly string[], card: ModelCard): Promise<Found | undefined> {
  for (const name of (await readdir(folder)).filter((each) => each.endsWith('.json')).sort(byName)) {
    const path = join(folder, name)
    let truths: ReadonlyMap<string, () => Truth> | undefined
    try {
      truths = cocoTruths(JSON.parse(await readFile(path, 'utf8')), card)
    } catch (cause) {
      throw new BlockscaleError(
        'PICTURES_MISSING',
        `the annotations ${path} cannot be read: ${(cause as Error).message}`,
      )
    }
    if (!truths) continue
    const found = truths
    const items = files.flatMap((file) => {
      const truth = found.get(basename(file))
      return truth ? [{ path: file, truth: async () => truth() }] : []
    })
    const skipped = files
      .filter((file) => !found.has(basename(file)))
      .map((file) => ({ path: file, why: `${name} does not name it` }))
    return { items, skipped }
  }
  return undefined
}
