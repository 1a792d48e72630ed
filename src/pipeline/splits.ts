import { dirname, isAbsolute, join } from 'node:path'
import { BlockscaleError } from '../base/index.ts'
import {
  type Item,
  loadItems,
  type ModelCard,
  openDataset,
  type Prepared,
  type Skipped,
  split,
  type Truth,
  taskFor,
} from '../tasks/index.ts'

/** Where the pictures are; `folder` is what relative paths of a card start from. */
export interface PictureSource {
  readonly images?: string | undefined
  readonly validation?: string | undefined
  readonly folder: string
}

/** What pictures are for; no picture is in two of them. */
export type SplitName = 'calibration' | 'profile' | 'refit' | 'report'

export interface Splits {
  readonly items: Readonly<Record<SplitName, readonly Item[]>>
  /** whether quality is measured against labels (else it is agreement with the original) */
  readonly labelled: boolean
  readonly skipped: readonly Skipped[]
}

/** A picture ready to be fed. The pixels are dropped where the task does not need them any more. */
export interface PreparedItem {
  readonly prepared: Prepared
  readonly truth?: Truth | undefined
}

const SEED = 20211
const LEAST_PICTURES = 8
/** More pictures of a split than these change nothing that a profile can show, and cost time. */
const MOST: Readonly<Record<SplitName, number>> = { calibration: 1000, profile: 400, refit: 1200, report: 1200 }

/**
 * Opens the pictures of a model and parts them: calibration pictures from `images`; profile, refit and report
 * pictures from `validation`, or, where that is not given, from `images` as well.
 *
 * @throws BlockscaleError PICTURES_MISSING, NOT_FOUND, USAGE when no pictures are named anywhere
 */
export async function openSplits(card: ModelCard, source: PictureSource): Promise<Splits> {
  const place = (given: string | undefined, declared: string | undefined) =>
    given ?? (declared && (isAbsolute(declared) ? declared : join(source.folder, declared)))
  const images = place(source.images, card.data?.calibration)
  const validation = place(source.validation, card.data?.validation)
  if (!images) {
    throw new BlockscaleError(
      'USAGE',
      `no pictures are given for ${card.id}`,
      'name a folder of pictures with --images DIR',
    )
  }
  const first = await openDataset(images, card)
  if (validation && validation !== images) {
    const second = await openDataset(validation, card)
    enough(first.items.length, images)
    enough(second.items.length, validation)
    // Divergences of single descendants are smooth and need few pictures; qualities of combinations are counts and need many.
    const parts = split(second, { profile: 0.14, refit: 0.43, report: 0.43 }, SEED)
    const items = { calibration: split(first, { all: 1 }, SEED).all, ...parts }
    return { items: capped(items), labelled: second.labelled, skipped: [...first.skipped, ...second.skipped] }
  }
  enough(first.items.length, images)
  const items = split(first, { calibration: 0.4, profile: 0.15, refit: 0.25, report: 0.2 }, SEED)
  return { items: capped(items), labelled: first.labelled, skipped: first.skipped }
}

function enough(count: number, place: string): void {
  if (count >= LEAST_PICTURES) return
  throw new BlockscaleError(
    'PICTURES_MISSING',
    `${dirname(join(place, 'x'))} holds ${count} pictures; at least ${LEAST_PICTURES} are needed`,
    'give a folder with more pictures like those that the model will see; 300 or more are good',
  )
}

/** Every n-th picture, so that a cap keeps the classes. */
const capped = (items: Splits['items']): Splits['items'] =>
  Object.fromEntries(
    Object.entries(items).map(([name, list]) => {
      const most = MOST[name as SplitName]
      const step = list.length / Math.min(most, list.length)
      return [name, Array.from({ length: Math.min(most, list.length) }, (_, i) => list[Math.floor(i * step)]!)]
    }),
  ) as unknown as Splits['items']

/** Loads and prepares pictures one after another. Unreadable ones are left out and told to `onSkip`. */
export async function prepareItems(
  items: readonly Item[],
  card: ModelCard,
  size: readonly [number, number] | undefined,
  onSkip: (skipped: Skipped) => void,
): Promise<PreparedItem[]> {
  const task = taskFor(card)
  const keepsPixels = task.name === 'super-resolution'
  const result: PreparedItem[] = []
  for await (const { picture, truth } of loadItems(items, onSkip)) {
    const derived = task.derive?.(picture, card)
    const prepared = task.prepare(derived?.picture ?? picture, card, size)
    const kept = keepsPixels ? prepared : { ...prepared, picture: { ...prepared.picture, data: new Uint8Array(0) } }
    result.push({ prepared: kept, truth: derived?.truth ?? truth })
  }
  return result
}
