import { z } from 'zod'
import type { ModelCard } from './card.ts'
import { groupBy } from './group.ts'
import type { Truth } from './task.ts'

const annotations = z.object({
  images: z.array(z.object({ id: z.number(), file_name: z.string(), width: z.number(), height: z.number() })),
  annotations: z.array(
    z.object({
      image_id: z.number(),
      category_id: z.number(),
      bbox: z.tuple([z.number(), z.number(), z.number(), z.number()]),
      iscrowd: z.number().optional(),
      segmentation: z.unknown().optional(),
    }),
  ),
  categories: z.array(z.object({ id: z.number(), name: z.string() })).optional(),
})

type Annotation = z.output<typeof annotations>['annotations'][number]

/** Mask value that counts neither as right nor as wrong. */
export const IGNORED = 255

/**
 * Truths by file name from COCO annotations, or undefined when the JSON is something else.
 *
 * Categories are matched with the card's labels by name; where either has no names, ids are the class indices. Where both
 * have names and none is the same, the annotations speak of other things, and the pictures count as unlabelled. Boxes
 * of crowds are left out. For segmentation polygons and run-length masks are drawn; what has only a box is drawn as one,
 * which is no outline: such a score compares models, and is no score of their own.
 */
export function cocoTruths(json: unknown, card: ModelCard): ReadonlyMap<string, () => Truth> | undefined {
  const parsed = annotations.safeParse(json)
  if (!parsed.success) return undefined
  const { images, categories } = parsed.data
  const indexOf = classOf(categories ?? [], card)
  if (!indexOf) return undefined
  const byImage = groupBy(parsed.data.annotations, (each) => each.image_id)
  return new Map(
    images.map((image) => {
      const own = byImage.get(image.id) ?? []
      const truth = (): Truth =>
        card.task === 'segmentation' ? maskTruth(image, own, indexOf) : boxTruth(own, indexOf, categories ?? [])
      return [image.file_name.split('/').at(-1)!, truth]
    }),
  )
}

type ClassOf = (category: number) => number | undefined

function classOf(categories: readonly { id: number; name: string }[], card: ModelCard): ClassOf | undefined {
  const named = 'labels' in card.output && Array.isArray(card.output.labels) ? card.output.labels : []
  const labels = named.length === 0 && card.task === 'face-detection' ? ['face'] : named
  if (labels.length === 0 || categories.length === 0) return (category) => category
  const names = new Map(categories.map(({ id, name }) => [id, labels.indexOf(name)]))
  if (![...names.values()].some((index) => index >= 0)) return undefined
  return (category) => ((names.get(category) ?? -1) >= 0 ? names.get(category) : undefined)
}

function boxTruth(
  own: readonly Annotation[],
  indexOf: ClassOf,
  categories: readonly { id: number; name: string }[],
): Truth {
  const boxes = own.flatMap(({ bbox: [x, y, width, height], category_id, iscrowd }) => {
    const index = indexOf(category_id)
    if (index === undefined || iscrowd) return []
    const label = categories.find(({ id }) => id === category_id)?.name ?? `${index}`
    return [{ label, index, xMin: x, yMin: y, xMax: x + width, yMax: y + height }]
  })
  return { kind: 'boxes', boxes }
}

function maskTruth(image: { width: number; height: number }, own: readonly Annotation[], indexOf: ClassOf): Truth {
  const { width, height } = image
  const mask = new Uint8Array(width * height)
  // large ones first, so that a small thing in front of a large one is seen
  const ordered = [...own].sort((a, b) => b.bbox[2] * b.bbox[3] - a.bbox[2] * a.bbox[3])
  for (const each of ordered) {
    const index = indexOf(each.category_id)
    if (index !== undefined) draw(mask, width, height, each, each.iscrowd ? IGNORED : index)
  }
  return { kind: 'mask', width, height, mask }
}

const polygons = z.array(z.array(z.number()).min(6))
const runs = z.object({ counts: z.union([z.array(z.number()), z.string()]), size: z.tuple([z.number(), z.number()]) })

function draw(
  mask: Uint8Array,
  width: number,
  height: number,
  { segmentation, bbox }: Annotation,
  value: number,
): void {
  const rings = polygons.safeParse(segmentation)
  const encoded = runs.safeParse(segmentation)
  if (encoded.success) {
    fillRuns(mask, width, height, encoded.data, value)
  } else if (rings.success && rings.data.length > 0) {
    fillPolygons(mask, width, height, rings.data, value)
  } else {
    const [x, y, w, h] = bbox
    fillPolygons(mask, width, height, [[x, y, x + w, y, x + w, y + h, x, y + h]], value)
  }
}

/** Even–odd filling of pixel centres. */
function fillPolygons(
  mask: Uint8Array,
  width: number,
  height: number,
  rings: readonly (readonly number[])[],
  value: number,
): void {
  for (let row = 0; row < height; row++) {
    const y = row + 0.5
    const crossings: number[] = []
    for (const ring of rings) {
      for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
        const [x1, y1, x2, y2] = [ring[j]!, ring[j + 1]!, ring[i]!, ring[i + 1]!]
        if (y1 <= y !== y2 <= y) crossings.push(x1 + ((y - y1) / (y2 - y1)) * (x2 - x1))
      }
    }
    crossings.sort((a, b) => a - b)
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i]! - 0.5))
      const to = Math.min(width, Math.ceil(crossings[i + 1]! - 0.5))
      if (from < to) mask.fill(value, row * width + from, row * width + to)
    }
  }
}

/** COCO's run-length masks: runs of 0 and 1 in turn, column by column. */
function fillRuns(
  mask: Uint8Array,
  width: number,
  height: number,
  { counts, size }: z.output<typeof runs>,
  value: number,
): void {
  const [rows, columns] = size
  let at = 0
  for (const [i, run] of (typeof counts === 'string' ? unpackRuns(counts) : counts).entries()) {
    for (let end = Math.min(at + run, rows * columns); i % 2 === 1 && at < end; at++) {
      const x = Math.floor(at / rows)
      const y = at % rows
      if (x < width && y < height) mask[y * width + x] = value
    }
    if (i % 2 === 0) at += run
  }
}

/** COCO's text form of runs: 5 bits for each character, sign-extended, from the third on as the difference to the last but one. */
function unpackRuns(text: string): number[] {
  const counts: number[] = []
  let at = 0
  while (at < text.length) {
    let value = 0
    let shift = 0
    let more = true
    while (more && at < text.length) {
      const code = text.charCodeAt(at++) - 48
      value |= (code & 31) << shift
      shift += 5
      more = (code & 32) !== 0
      if (!more && code & 16) value |= -1 << shift
    }
    counts.push(counts.length > 2 ? value + counts.at(-2)! : value)
  }
  return counts
}
