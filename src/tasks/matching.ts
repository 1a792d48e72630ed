import { overlap } from './candidates.ts'
import { groupBy } from './group.ts'
import { mean } from './numbers.ts'
import type { Box } from './task.ts'

export type TrueBox = Omit<Box, 'score'>

/** What was found on a picture and what is there. */
export interface Scene {
  readonly found: readonly Box[]
  readonly present: readonly TrueBox[]
}

export interface Precision {
  readonly map50: number
  /** mean over IoU thresholds .50, .55 … .95 */
  readonly map: number
  readonly perClass: readonly { readonly index: number; readonly ap50: number; readonly count: number }[]
}

const THRESHOLDS = Array.from({ length: 10 }, (_, i) => 0.5 + 0.05 * i)

/**
 * Mean average precision as COCO defines it: found boxes in the order of their scores each take the free true box of
 * their class that they overlap most; precision is made monotone and read at 101 recalls; classes that occur count equally.
 */
export function averagePrecision(scenes: readonly Scene[]): Precision {
  const classes = [...new Set(scenes.flatMap(({ present }) => present.map(({ index }) => index)))].sort((a, b) => a - b)
  const rows = classes.map((index) => {
    const own = scenes.map(({ found, present }) => ({
      found: found.filter((box) => box.index === index),
      present: present.filter((box) => box.index === index),
    }))
    return {
      index,
      count: own.reduce((sum, { present }) => sum + present.length, 0),
      precisions: THRESHOLDS.map((threshold) => precisionAt(own, threshold)),
    }
  })
  return {
    map50: mean(rows.map(({ precisions }) => precisions[0]!)),
    map: mean(rows.map(({ precisions }) => mean(precisions))),
    perClass: rows.map(({ index, count, precisions }) => ({ index, count, ap50: precisions[0]! })),
  }
}

/** Average precision of one class at one IoU threshold. */
function precisionAt(scenes: readonly Scene[], threshold: number): number {
  const total = scenes.reduce((sum, { present }) => sum + present.length, 0)
  const hits = scenes
    .flatMap(({ found, present }) => match(found, present, threshold))
    .sort((a, b) => b.score - a.score)
  let right = 0
  const curve = hits.map(({ hit }, i) => {
    if (hit) right++
    return { recall: right / total, precision: right / (i + 1) }
  })
  for (let i = curve.length - 2; i >= 0; i--) {
    curve[i]!.precision = Math.max(curve[i]!.precision, curve[i + 1]!.precision)
  }
  let sum = 0
  let at = 0
  for (let step = 0; step <= 100; step++) {
    while (at < curve.length && curve[at]!.recall < step / 100) at++
    sum += curve[at]?.precision ?? 0
  }
  return sum / 101
}

/** Whether each found box of one class and picture, best first, gets a true one of its own. */
function match(
  found: readonly Box[],
  present: readonly TrueBox[],
  threshold: number,
): { score: number; hit: boolean }[] {
  const free = new Set(present)
  return [...found]
    .sort((a, b) => b.score - a.score)
    .map((box) => {
      let best: TrueBox | undefined
      let most = threshold - 1e-9
      for (const candidate of free) {
        const shared = overlap(corners(box), corners(candidate))
        if (shared >= most) {
          most = shared
          best = candidate
        }
      }
      if (best) free.delete(best)
      return { score: box.score, hit: best !== undefined }
    })
}

/** Matched, found and present boxes over all pictures, at an IoU of `threshold`. */
export function countMatches(
  scenes: readonly Scene[],
  threshold = 0.5,
): { matched: number; found: number; present: number } {
  let matched = 0
  for (const { found, present } of scenes) {
    const there = groupBy(present, (box) => box.index)
    for (const [index, own] of groupBy(found, (box) => box.index)) {
      matched += match(own, there.get(index) ?? [], threshold).filter(({ hit }) => hit).length
    }
  }
  const sum = (of: (scene: Scene) => number): number => scenes.reduce((total, scene) => total + of(scene), 0)
  return { matched, found: sum(({ found }) => found.length), present: sum(({ present }) => present.length) }
}

const corners = (box: TrueBox): { x1: number; y1: number; x2: number; y2: number } => ({
  x1: box.xMin,
  y1: box.yMin,
  x2: box.xMax,
  y2: box.yMax,
})
