import { BlockscaleError } from '../base/index.ts'
import type { Placement } from '../tensor/index.ts'
import { onPicture, suppress } from './candidates.ts'
import { labelOf, type ModelCard } from './card.ts'
import { candidatesOf, type Detector } from './detectors.ts'
import { averagePrecision, countMatches, type Scene } from './matching.ts'
import { meanNoise } from './numbers.ts'
import { preparePicture } from './prepare.ts'
import type { Box, Evaluated, Task, Tensors } from './task.ts'

/** Precision is read along all scores, so it is measured from here up and not from the card's threshold. */
const LOWEST_SCORE = 0.01

/** Boxes around things. Quality is mAP at IoU .5; fidelity the share (F1) of boxes that the original finds too. */
const detector = (name: 'detection' | 'face-detection'): Task => ({
  name,

  prepare: preparePicture,

  answer: (outputs, prepared, card) => ({ task: name, boxes: boxesOf(outputs, prepared.placement, card) }),

  divergence: meanNoise,

  quality(samples, card) {
    const scenes = samples.map((sample) => sceneOf(sample, card, Math.min(LOWEST_SCORE, thresholdOf(card))))
    const { map50, map, perClass } = averagePrecision(scenes)
    const { matched, found, present } = countMatches(samples.map((sample) => sceneOf(sample, card, thresholdOf(card))))
    return {
      metric: 'map50',
      value: map50,
      details: { 'map50-95': map, recall: matched / Math.max(1, present), found, matched, present },
      perClass: perClass.map(({ index, ap50, count }) => ({ label: labelOf(card, index), value: ap50, count })),
    }
  },

  fidelity(samples, card) {
    const scenes = samples.map(({ prepared: { placement }, outputs, original, originalPlacement = placement }) => ({
      found: boxesOf(outputs, placement, card),
      present: boxesOf(original, originalPlacement, card),
    }))
    const { matched, found, present } = countMatches(scenes)
    return { metric: 'box-agreement', value: found + present === 0 ? 1 : (2 * matched) / (found + present) }
  },
})

export const detection = detector('detection')
export const faceDetection = detector('face-detection')

function boxesOf(outputs: Tensors, at: Placement, card: ModelCard, threshold = thresholdOf(card)): Box[] {
  const how = detectorOf(card)
  const candidates = candidatesOf(outputs, how, at, threshold)
  return suppress(candidates, how.nms, how.maxBoxes).flatMap(
    (candidate) => onPicture(candidate, at, labelOf(card, candidate.index)) ?? [],
  )
}

function sceneOf({ outputs, prepared, truth }: Evaluated, card: ModelCard, threshold: number): Scene {
  return {
    found: boxesOf(outputs, prepared.placement, card, threshold),
    present: truth?.kind === 'boxes' ? truth.boxes : [],
  }
}

const thresholdOf = (card: ModelCard): number => detectorOf(card).threshold

function detectorOf(card: ModelCard): Detector {
  if ('nms' in card.output) return card.output
  throw new BlockscaleError('MODEL_CARD_INVALID', `the decoder "${card.output.decoder}" makes no boxes`)
}
