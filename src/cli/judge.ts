import { BlockscaleError, type Progress } from '../base/index.ts'
import { openSession, type Session } from '../engine/index.ts'
import { measureWholes } from '../profiles/index.ts'
import {
  type Evaluated,
  firstInput,
  type Item,
  loadItems,
  type Quality,
  type Skipped,
  type Tensors,
  taskFor,
} from '../tasks/index.ts'
import type { Subject } from './subject.ts'

/** What one form of a model is worth, and what it costs, measured. */
export interface Judgement {
  /** against labels where there are labels, else agreement with the original */
  readonly quality: Quality
  readonly fidelity: Quality
  readonly divergence: number
  /** pictures that were judged */
  readonly images: number
  readonly skipped: readonly Skipped[]
  readonly latencyMs: number
  readonly memoryBytes: number
}

/** Outputs of the original and of the variant are held together; with large ones (masks) fewer pictures do. */
const MOST_OUTPUT_BYTES = 500e6
const LEAST_PICTURES = 16
/** Pictures on which time is measured. */
const FED = 4

/**
 * Runs a form of a model and its original over pictures, one picture in memory at a time, and then measures its time and memory
 * in processes of their own.
 *
 * @param labelled whether every picture has a truth
 * @throws BlockscaleError PICTURES_MISSING when not one picture can be read
 */
export async function judge(
  subject: Subject,
  items: readonly Item[],
  labelled: boolean,
  progress: Progress,
): Promise<Judgement> {
  const { card, original, variant } = subject
  const task = taskFor(card)
  const samples: Evaluated[] = []
  const feeds: Tensors[] = []
  const skipped: Skipped[] = []
  let divergence = 0
  const first = await openSession(original)
  const second = variant && (await openSession(variant))
  try {
    const chosen = await affordable(subject, items, first)
    if (chosen.length < items.length) {
      progress.note(`answers of ${card.id} are large: ${chosen.length} of ${items.length} pictures are judged`)
    }
    progress.step('run over the pictures', chosen.length)
    const onSkip = (each: Skipped) => {
      skipped.push(each)
      progress.note(`left out ${each.path}: ${each.why}`)
      progress.advance()
    }
    for await (const { picture, truth } of loadItems(chosen, onSkip)) {
      const derived = task.derive?.(picture, card)
      const shown = derived?.picture ?? picture
      const prepared = task.prepare(shown, card, subject.size)
      const own = isOwnSize(subject) ? prepared : task.prepare(shown, card)
      const reference = await first.run(own.feeds)
      const outputs = second ? await second.run(prepared.feeds) : reference
      if (feeds.length < FED) feeds.push(prepared.feeds)
      // what the original says at the same input size: at another one its outputs may have other shapes
      if (second)
        divergence += task.divergence(own === prepared ? reference : await first.run(prepared.feeds), outputs, card)
      const kept = task.derive ? prepared : { ...prepared, picture: { ...prepared.picture, data: new Uint8Array(0) } }
      samples.push({
        prepared: { ...kept, feeds: {} },
        outputs,
        original: reference,
        originalPlacement: own.placement,
        truth: derived?.truth ?? truth,
      })
      progress.advance()
    }
  } finally {
    await Promise.all([first.release(), second?.release()])
  }
  const fidelity = task.fidelity(samples, card)
  return {
    quality: labelled ? task.quality(samples, card) : fidelity,
    fidelity,
    divergence: divergence / samples.length,
    images: samples.length,
    skipped,
    ...(await costsOf(subject, feeds, progress)),
  }
}

const isOwnSize = ({ card, size }: Subject): boolean => firstInput(card).size.join() === size.join()

/** As many pictures, evenly spread, as memory allows for their outputs. */
async function affordable(subject: Subject, items: readonly Item[], session: Session): Promise<readonly Item[]> {
  const task = taskFor(subject.card)
  let bytes = 0
  for await (const { picture } of loadItems(items)) {
    const derived = task.derive?.(picture, subject.card)
    const outputs = await session.run(task.prepare(derived?.picture ?? picture, subject.card).feeds)
    for (const output of Object.values(outputs)) bytes += 8 * output.data.length
    if (derived) bytes += 6 * picture.data.length
    break
  }
  const most = Math.max(LEAST_PICTURES, Math.floor(MOST_OUTPUT_BYTES / Math.max(bytes, 1)))
  if (items.length <= most) return items
  return Array.from({ length: most }, (_, i) => items[Math.floor((i * items.length) / most)]!)
}

async function costsOf(
  { original, variant }: Subject,
  feeds: readonly Tensors[],
  progress: Progress,
): Promise<Pick<Judgement, 'latencyMs' | 'memoryBytes'>> {
  const model = variant ?? original
  const costs = (await measureWholes([{ id: 'whole', model }], feeds, { progress })).get('whole')
  if (!costs) throw new BlockscaleError('ENGINE_FAILED', 'nothing came of measuring time and memory')
  return { latencyMs: costs.latencyP50Ms, memoryBytes: costs.anonymousBytes + costs.mappedBytes }
}
