import { labelOf, type ModelCard } from './card.ts'
import { expectedLossOf, temperatureOf } from './certainty.ts'
import { argmax, divergenceOf, greatest, mean, softmax } from './numbers.ts'
import { outputOf, preparePicture } from './prepare.ts'
import type { Evaluated, Quality, Task, Tensors } from './task.ts'

const SHOWN = 5
/** Shares are the outputs of a softmax in 32-bit floats. */
const ROUNDING = 1e-3
const LEAST_SHARE = 1e-7

/** What a picture shows: one label of many. Quality is top-1; fidelity the share of pictures with the same top-1. */
export const classification: Task = {
  name: 'classification',

  prepare: preparePicture,

  answer(outputs, _prepared, card) {
    const scores = probabilities(outputs, card)
    return {
      task: 'classification',
      labels: greatest(scores, SHOWN).map((index) => ({ label: labelOf(card, index), index, score: scores[index]! })),
    }
  },

  divergence: (original, variant, card) => divergenceOf(probabilities(original, card), probabilities(variant, card)),

  quality(samples, card) {
    const ranks = samples.map((sample) => rankOfTruth(sample, card))
    return {
      metric: 'top1',
      value: mean(ranks.map((rank) => (rank === 0 ? 1 : 0))),
      details: { top5: mean(ranks.map((rank) => (rank < SHOWN ? 1 : 0))) },
      perClass: perClass(samples, ranks, card),
    }
  },

  fidelity: (samples, card) => ({
    metric: 'top1-agreement',
    value: mean(samples.map((each) => (best(each.outputs, card) === best(each.original, card) ? 1 : 0))),
  }),

  expectedLoss(labelled, card) {
    const known = labelled.flatMap(({ original, truth }) => {
      const logits = logitsOf(original, card)
      return logits && truth?.kind === 'class' ? [{ logits, index: truth.index }] : []
    })
    if (known.length < labelled.length) return undefined
    const temperature = temperatureOf(known)
    return (original, variant) => expectedLossOf(logitsOf(original, card)!, scoresOf(variant, card), temperature)
  },
}

const scoresOf = (outputs: Tensors, card: ModelCard): Float32Array =>
  outputOf(outputs, 'output' in card.output ? card.output.output : undefined).data

/** Before the softmax, where distinct scores are still distinct numbers. */
const best = (outputs: Tensors, card: ModelCard): number => argmax(scoresOf(outputs, card))

function probabilities(outputs: Tensors, card: ModelCard): ArrayLike<number> {
  const scores = scoresOf(outputs, card)
  return card.output.decoder === 'softmax' ? softmax(scores) : scores
}

/** What the softmax is taken of; undefined where scores are no shares. */
function logitsOf(outputs: Tensors, card: ModelCard): ArrayLike<number> | undefined {
  const scores = scoresOf(outputs, card)
  if (card.output.decoder === 'softmax') return scores
  if (!scores.every((score) => score >= 0 && score <= 1 + ROUNDING)) return undefined
  return scores.map((score) => Math.log(Math.max(score, LEAST_SHARE)))
}

/** 0 when the true class is the first answer. Of equal scores the first wins, as in `answer`. */
function rankOfTruth({ outputs, truth }: Evaluated, card: ModelCard): number {
  if (truth?.kind !== 'class') return Number.POSITIVE_INFINITY
  const scores = scoresOf(outputs, card)
  const own = scores[truth.index] ?? Number.NEGATIVE_INFINITY
  let rank = 0
  for (let i = 0; i < scores.length; i++) {
    if (scores[i]! > own || (scores[i] === own && i < truth.index)) rank++
  }
  return rank
}

/** The rows of the confusion matrix, sparse: how many of a class were right, and what the others were taken for. */
function perClass(samples: readonly Evaluated[], ranks: readonly number[], card: ModelCard): Quality['perClass'] {
  const classes = new Map<number, { right: number; count: number; taken: Map<number, number> }>()
  for (const [i, { outputs, truth }] of samples.entries()) {
    if (truth?.kind !== 'class') continue
    const tally = classes.get(truth.index) ?? { right: 0, count: 0, taken: new Map<number, number>() }
    classes.set(truth.index, tally)
    tally.count++
    if (ranks[i] === 0) tally.right++
    else {
      const said = best(outputs, card)
      tally.taken.set(said, (tally.taken.get(said) ?? 0) + 1)
    }
  }
  return [...classes]
    .sort(([a], [b]) => a - b)
    .map(([index, { right, count, taken }]) => ({
      label: labelOf(card, index),
      value: right / count,
      count,
      takenFor: [...taken]
        .sort(([a, x], [b, y]) => y - x || a - b)
        .map(([said, times]) => ({ label: labelOf(card, said), count: times })),
    }))
}
