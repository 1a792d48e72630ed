import { openSession } from '../engine/index.ts'
import { type Evaluated, type ModelCard, type Quality, type Tensors, taskFor } from '../tasks/index.ts'
import type { PreparedItem } from './splits.ts'

/** What a variant of a model is worth on a set of pictures. */
export interface Evaluation {
  /** against labels where there are labels, else agreement with the original */
  readonly quality: Quality
  readonly fidelity: Quality
  /** mean over the pictures, about additive over blocks */
  readonly divergence: number
  readonly pictures: number
}

/** Pictures with what the original model says about them. */
export interface EvaluationSet {
  readonly items: readonly PreparedItem[]
  /** outputs of the original at the input size of the items */
  readonly originals: readonly Tensors[]
  /** outputs of the original at the card's own input size, with which agreement is meant */
  readonly references: readonly Tensors[]
  readonly labelled: boolean
}

/** Outputs of the original and of one variant are held together; large ones (masks) take fewer pictures. */
const MOST_OUTPUT_BYTES = 250e6
const LEAST_PICTURES = 16

/** @param atOwnSize the same pictures at the card's input size, where `items` are at another */
export async function openEvaluationSet(
  original: Uint8Array,
  items: readonly PreparedItem[],
  labelled: boolean,
  atOwnSize?: readonly PreparedItem[],
): Promise<EvaluationSet> {
  const outputsOf = async (of: readonly PreparedItem[]) => {
    const collected: Tensors[] = []
    let bytes = 0
    await runAll(original, of, (outputs) => {
      collected.push(outputs)
      for (const output of Object.values(outputs)) bytes += output.data.length * 4
      return collected.length < LEAST_PICTURES || bytes < MOST_OUTPUT_BYTES
    })
    return collected
  }
  const originals = await outputsOf(items)
  const references = atOwnSize ? await outputsOf(atOwnSize) : originals
  const count = Math.min(originals.length, references.length)
  return { items: items.slice(0, count), originals, references, labelled }
}

/** Runs a whole model (usually a fused combination) on every picture of the set. */
export async function evaluate(model: Uint8Array, set: EvaluationSet, card: ModelCard): Promise<Evaluation> {
  const task = taskFor(card)
  const samples: Evaluated[] = []
  let divergence = 0
  await runAll(model, set.items, (outputs) => {
    const index = samples.length
    const { prepared, truth } = set.items[index]!
    divergence += task.divergence(set.originals[index]!, outputs, card)
    samples.push({ prepared, outputs, original: set.references[index]!, truth })
    return true
  })
  const fidelity = task.fidelity(samples, card)
  return {
    quality: set.labelled ? task.quality(samples, card) : fidelity,
    fidelity,
    divergence: divergence / Math.max(samples.length, 1),
    pictures: samples.length,
  }
}

async function runAll(
  model: Uint8Array,
  items: readonly PreparedItem[],
  each: (outputs: Tensors) => boolean,
): Promise<void> {
  const session = await openSession(model)
  try {
    for (const { prepared } of items) if (!each(await session.run(prepared.feeds))) break
  } finally {
    await session.release()
  }
}
