import { openSession } from '../engine/index.ts'
import { type Evaluated, type ModelCard, type Quality, type Task, type Tensors, taskFor } from '../tasks/index.ts'
import type { Placement } from '../tensor/index.ts'
import type { PreparedItem } from './splits.ts'

/** What a variant of a model is worth on a set of pictures. */
export interface Evaluation {
  /** against labels where there are labels, else agreement with the original */
  readonly quality: Quality
  readonly fidelity: Quality
  /** mean over the pictures, about additive over blocks */
  readonly divergence: number
  /** quality lost against the original at the card's own input size, by how sure that is of its answers, where that can be told */
  readonly expectedLoss?: number | undefined
  readonly pictures: number
}

/** Quality that is lost against the original at the same input size: as it is expected where that can be told, else as counted. */
export const lossOf = ({ quality, expectedLoss }: Evaluation, original: Evaluation): number =>
  expectedLoss === undefined || original.expectedLoss === undefined
    ? original.quality.value - quality.value
    : expectedLoss - original.expectedLoss

/** Pictures with what the original model says about them. */
export interface EvaluationSet {
  readonly items: readonly PreparedItem[]
  /** outputs of the original at the input size of the items */
  readonly originals: readonly Tensors[]
  /** what the original says at the card's own input size, with which agreement is meant */
  readonly references: readonly Reference[]
  readonly labelled: boolean
  /** what a variant is expected to lose on a picture, where labels and the task tell */
  readonly expectedLoss?: ReturnType<NonNullable<Task['expectedLoss']>>
}

/** Outputs of the original, and where it saw the picture. */
export interface Reference {
  readonly outputs: Tensors
  readonly placement: Placement
}

/** Outputs of the original and of one variant are held together; large ones (masks) take fewer pictures. */
const MOST_OUTPUT_BYTES = 250e6
const LEAST_PICTURES = 16

/** @param atOwnSize what the original says of the same pictures at the card's input size, where `items` are at another */
export async function openEvaluationSet(
  original: Uint8Array,
  items: readonly PreparedItem[],
  card: ModelCard,
  labelled: boolean,
  atOwnSize?: readonly Reference[],
): Promise<EvaluationSet> {
  const originals = await outputsOf(original, items)
  const references = atOwnSize ?? placed(originals, items)
  const held = items.slice(0, Math.min(originals.length, references.length))
  const known = held.map(({ truth }, i) => ({ original: references[i]!.outputs, truth }))
  const expectedLoss = labelled ? taskFor(card).expectedLoss?.(known, card) : undefined
  return { items: held, originals, references, labelled, expectedLoss }
}

/** What the original says of pictures at the card's own input size, as many as can be held. */
export const referencesOf = async (original: Uint8Array, items: readonly PreparedItem[]): Promise<Reference[]> =>
  placed(await outputsOf(original, items), items)

const placed = (outputs: readonly Tensors[], items: readonly PreparedItem[]): Reference[] =>
  outputs.map((each, i) => ({ outputs: each, placement: items[i]!.prepared.placement }))

/** Outputs of a whole model for pictures, as many as can be held. */
export async function outputsOf(model: Uint8Array, items: readonly PreparedItem[]): Promise<Tensors[]> {
  const session = await openSession(model)
  try {
    const collected: Tensors[] = []
    let bytes = 0
    for (const { prepared } of items) {
      const outputs = await session.run(prepared.feeds)
      collected.push(outputs)
      for (const output of Object.values(outputs)) bytes += output.data.length * 4
      if (collected.length >= LEAST_PICTURES && bytes >= MOST_OUTPUT_BYTES) break
    }
    return collected
  } finally {
    await session.release()
  }
}

/** Runs a whole model (usually a fused combination) on every picture of the set. */
export async function evaluate(model: Uint8Array, set: EvaluationSet, card: ModelCard): Promise<Evaluation> {
  const session = await openSession(model)
  try {
    return await evaluateBy((index) => session.run(set.items[index]!.prepared.feeds), set, card)
  } finally {
    await session.release()
  }
}

/** @param outputsOf the outputs of what is judged, for a picture of the set by its number */
export async function evaluateBy(
  outputsOf: (index: number) => Promise<Tensors> | Tensors,
  set: EvaluationSet,
  card: ModelCard,
): Promise<Evaluation> {
  const task = taskFor(card)
  const samples: Evaluated[] = []
  let [divergence, expectedLoss] = [0, 0]
  for (const [index, { prepared, truth }] of set.items.entries()) {
    const outputs = await outputsOf(index)
    divergence += task.divergence(set.originals[index]!, outputs, card)
    const { outputs: original, placement: originalPlacement } = set.references[index]!
    expectedLoss += set.expectedLoss?.(original, outputs) ?? 0
    samples.push({ prepared, outputs, original, originalPlacement, truth })
  }
  const fidelity = task.fidelity(samples, card)
  return {
    quality: set.labelled ? task.quality(samples, card) : fidelity,
    fidelity,
    divergence: divergence / Math.max(samples.length, 1),
    expectedLoss: set.expectedLoss && expectedLoss / Math.max(samples.length, 1),
    pictures: samples.length,
  }
}
