import type { Placement } from '../tensor/index.ts'
import { toPicture } from '../tensor/index.ts'
import type { Box } from './task.ts'

/** A box as a decoder finds it, in pixels of the network's input. */
export interface Candidate {
  readonly index: number
  readonly score: number
  readonly x1: number
  readonly y1: number
  readonly x2: number
  readonly y2: number
  readonly landmarks?: readonly number[] | undefined
}

/** Only so many of the best are compared with each other; a threshold near 0 leaves thousands. */
const MAX_COMPARED = 2000

/** Without the candidates that overlap a better one of their class by more than `limit` (IoU); best first. */
export function suppress(candidates: readonly Candidate[], limit: number, maxBoxes: number): Candidate[] {
  const sorted = [...candidates].sort((a, b) => b.score - a.score).slice(0, MAX_COMPARED)
  const kept: Candidate[] = []
  const keptOf = new Map<number, Candidate[]>()
  for (const candidate of sorted) {
    if (kept.length === maxBoxes) break
    const rivals = keptOf.get(candidate.index) ?? []
    if (rivals.some((rival) => overlap(rival, candidate) > limit)) continue
    kept.push(candidate)
    keptOf.set(candidate.index, [...rivals, candidate])
  }
  return kept
}

/** Intersection over union. */
export function overlap(a: Omit<Candidate, 'index' | 'score'>, b: Omit<Candidate, 'index' | 'score'>): number {
  const width = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1)
  const height = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1)
  if (width <= 0 || height <= 0) return 0
  const shared = width * height
  return shared / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared)
}

/** A candidate in pixels of the upright picture, cut off at its edges; undefined when nothing of it is inside. */
export function onPicture(candidate: Candidate, at: Placement, label: string): Box | undefined {
  const [x1, y1] = toPicture(at, candidate.x1, candidate.y1)
  const [x2, y2] = toPicture(at, candidate.x2, candidate.y2)
  const inside = (value: number, limit: number): number => Math.min(Math.max(value, 0), limit)
  const box = {
    label,
    index: candidate.index,
    score: candidate.score,
    xMin: inside(x1, at.width),
    yMin: inside(y1, at.height),
    xMax: inside(x2, at.width),
    yMax: inside(y2, at.height),
  }
  if (!(box.xMax > box.xMin && box.yMax > box.yMin)) return undefined
  if (!candidate.landmarks) return box
  const landmarks: number[] = []
  for (let i = 0; i + 1 < candidate.landmarks.length; i += 2) {
    landmarks.push(...toPicture(at, candidate.landmarks[i]!, candidate.landmarks[i + 1]!))
  }
  return { ...box, landmarks }
}
