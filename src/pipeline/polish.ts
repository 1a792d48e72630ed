import { rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { type BlockId, BlockscaleError, type Progress, seededRandom, shuffled, silentProgress } from '../base/index.ts'
import {
  type ChosenBlock,
  nominalOf,
  openLinearAlgebra,
  type PolishedLayer,
  polish,
  recoverCombination,
} from '../blocks/index.ts'
import { compose, type Model, readModel, writeModel } from '../onnx/index.ts'
import type { Size } from '../profiles/index.ts'
import { firstInput, type Item } from '../tasks/index.ts'
import {
  type Choices,
  type Manifest,
  type Polish,
  type PolishFigures,
  polishCheckpoint,
  readPolish,
  writePolish,
  type Zoo,
} from '../zoo/index.ts'
import { descendantOf } from './choices.ts'
import { evaluate, openEvaluationSet } from './evaluate.ts'
import { type PreparedItem, prepareItems } from './splits.ts'

export interface PolishPlanOptions {
  readonly zoo: Zoo
  readonly manifest: Manifest
  readonly choices: Choices
  readonly size: Size
  /** pictures to fit on; a share of them is held out, and none of them is ever reported on */
  readonly items: readonly Item[]
  /** `sequence` solves the last layer of each unit again; `head` the last layers alone */
  readonly what: 'sequence' | 'head'
  /** milliseconds of training after that; none unless given */
  readonly distilMs?: number | undefined
  readonly threads?: number | undefined
  readonly progress?: Progress | undefined
  readonly signal?: AbortSignal | undefined
}

export interface PolishReport {
  /** whether better weights were found and kept */
  readonly kept: boolean
  /** what is in force now for the choice: the new weights, or what was there before */
  readonly polish: Polish | undefined
  readonly before: PolishFigures
  readonly after: PolishFigures
  readonly layers: readonly PolishedLayer[]
  readonly ms: number
}

const SEED = 4099
const HELD_OUT = 0.25
const LEAST_PICTURES = 8
/** Pictures beyond these make a fit no better that one can see. */
const MOST_PICTURES = 1000
/** Operations of the original over all pictures: what a fit may cost. */
const MOST_MACS = 1e11
/** What the values at one border may take for all pictures, in the original and in the student. */
const BORDER_BYTES = 200e6

/**
 * Makes better weights for exactly one choice of descendants and keeps them in the zoo, if on pictures held out they are closer
 * to the original and agree with it no less.
 *
 * @throws BlockscaleError PICTURES_MISSING with fewer than eight readable pictures, PLAN_INVALID, ZOO_DAMAGED, ZOO_NOT_WRITABLE
 */
export async function polishPlan(options: PolishPlanOptions): Promise<PolishReport> {
  const { zoo, manifest, choices, size, items, what, distilMs } = options
  const progress = options.progress ?? silentProgress
  const threads = options.threads ?? Math.min(2, availableParallelism())
  const started = Date.now()
  const teacher = readModel(await zoo.load(manifest.model, manifest.original))
  const known = await readPolish(zoo, manifest, choices, size)
  progress.step('read pictures')
  const some = shuffled([...items], seededRandom(SEED)).slice(0, mostPictures(manifest))
  const pictures = await prepareItems(some, manifest.card, size, ({ path, why }) =>
    progress.note(`left out ${path}: ${why}`),
  )
  if (pictures.length < LEAST_PICTURES) {
    throw new BlockscaleError(
      'PICTURES_MISSING',
      `${pictures.length} pictures could be read; at least ${LEAST_PICTURES} are needed`,
      'give a folder with more pictures like those that the model will see; 200 or more are good',
    )
  }
  const feeds = pictures.map(({ prepared }) => prepared.feeds)
  const held = Math.max(2, Math.round(pictures.length * HELD_OUT))
  const nominal = await nominalOf(teacher, feeds[0]!)
  const blocks = await Promise.all(
    manifest.blocks.map(async (block): Promise<ChosenBlock> => {
      const load = async (file: Parameters<Zoo['load']>[1]) => readModel(await zoo.load(manifest.model, file))
      const chosen = descendantOf(block, choices[block.id])
      const original = await load(block.descendants[0]!.file)
      const better = what === 'head' ? known?.blocks.find((each) => each.block === block.id)?.file : undefined
      const isOriginal = chosen === block.descendants[0] && !better
      return {
        original: { id: block.id, model: original, inputs: block.inputs, outputs: block.outputs, nominal },
        student: isOriginal ? original : await load(better ?? chosen.file),
      }
    }),
  )
  const judge = await openJudge(manifest, writeModel(teacher), pictures.slice(-held))
  let best: Candidate = {
    models: blocks.map(({ student }) => student),
    how: [],
    figures: await judge(blocks.map(({ student }) => student)),
  }
  const before = best.figures
  const consider = async (how: string, models: Model[]) => {
    const figures = await judge(models)
    const { divergence, agreement } = figures
    progress.note(
      `${how}: divergence ${divergence.toPrecision(3)}, agreement ${agreement.toPrecision(3)} on pictures held out`,
    )
    if (isBetter(figures, best.figures)) best = { models, how: [...best.how, how], figures }
  }
  const classes = manifest.card.task === 'classification' ? manifest.outputs[0]?.name : undefined
  const algebra = await openLinearAlgebra(threads)
  const layers: PolishedLayer[] = []
  try {
    const solveAgain = async (models: readonly Model[]) => {
      const from = blocks.map((block, i) => ({ ...block, student: models[i]! }))
      progress.step(what === 'head' ? 'solve the head again' : 'solve the units again', blocks.length)
      const solved = await polish(from, feeds, {
        algebra,
        heldOut: held,
        threads,
        only: what,
        onBlock: () => progress.advance(),
      })
      layers.push(...solved.layers)
      await consider(what, solved.models)
    }
    await solveAgain(best.models)
    if (distilMs !== undefined && distilMs > 0) {
      progress.step('learn from the original')
      const from = blocks.map((block, i) => ({ ...block, student: best.models[i]! }))
      const checkpoint = polishCheckpoint(zoo, manifest, choices, size)
      const recovered = await recoverCombination(from, teacher, feeds.slice(0, -held), {
        ends: endsOf(manifest),
        heldOut: feeds.slice(-held),
        classes,
        ...TRAINING,
        batch: batchOf(manifest),
        shift: Math.round(Math.min(...size) * SHIFT),
        timeLimitMs: distilMs,
        threads,
        ...(options.signal ? { signal: options.signal } : {}),
        checkpoint,
        onProgress: ({ step, loss, etaMs }) =>
          progress.note(`step ${step}: loss ${loss.toFixed(4)}, ${Math.ceil(etaMs / 1000)} s left`),
      })
      if (recovered.ended !== 'interrupted') await rm(checkpoint, { force: true })
      await consider('distillation', recovered.models)
      await solveAgain(best.models)
    }
  } finally {
    await algebra.close()
  }
  const ms = Date.now() - started
  const report = { before, after: best.figures, layers, ms }
  if (best.how.length === 0) return { kept: false, polish: known, ...report }
  const changed = new Map<BlockId, Uint8Array>()
  blocks.forEach(({ original, student }, i) => {
    const file = known?.blocks.find((each) => each.block === original.id)
    if (best.models[i] !== student || (what === 'head' && file)) changed.set(original.id, writeModel(best.models[i]!))
  })
  const kept = await writePolish(
    zoo,
    manifest,
    {
      choices,
      size,
      how: what === 'head' ? [...(known?.how ?? []), ...best.how] : best.how,
      pictures: pictures.length - held,
      heldOut: held,
      before,
      after: best.figures,
      ms,
    },
    changed,
  )
  return { kept: true, polish: kept, ...report }
}

interface Candidate {
  readonly models: readonly Model[]
  readonly how: readonly string[]
  readonly figures: PolishFigures
}

/** Operations of the original for one training step. */
const STEP_MACS = 5e9
const TRAINING = { rate: 5e-4, steps: 2000, flip: true, measureEvery: 25, warmup: 20 } as const
/** Of the shorter side: how far pictures are shifted while training. */
const SHIFT = 0.06

/** Closer to the original, and agreeing with it no less. */
const isBetter = (a: PolishFigures, b: PolishFigures): boolean =>
  a.divergence < b.divergence && a.agreement >= b.agreement

/** The ends of the whole model, as `compose` takes them. */
const endsOf = ({ model, inputs, outputs }: Manifest) => ({ name: model, inputs, outputs })

async function openJudge(
  manifest: Manifest,
  original: Uint8Array,
  heldOut: readonly PreparedItem[],
): Promise<(models: readonly Model[]) => Promise<PolishFigures>> {
  const set = await openEvaluationSet(original, heldOut, manifest.card, false)
  return async (models) => {
    const whole = writeModel(compose([...models], endsOf(manifest)))
    const { divergence, fidelity } = await evaluate(whole, set, manifest.card)
    return { divergence, agreement: fidelity.value }
  }
}

const macsOf = ({ blocks }: Manifest): number => blocks.reduce((sum, { descendants }) => sum + descendants[0]!.macs, 1)

/** As many pictures at a time as make a training step worth its overhead. */
const batchOf = (manifest: Manifest): number =>
  Math.max(8, Math.min(64, Math.round(STEP_MACS / macsOf(manifest) / 8) * 8))

/** As many pictures as the values at the widest border allow. */
function mostPictures(manifest: Manifest): number {
  const bytes = manifest.blocks.map(({ outputs }) =>
    outputs.reduce((sum, { fact }) => {
      const dims = (fact.dims ?? []).map((dim) => (typeof dim === 'number' ? dim : 1))
      return sum + 4 * dims.reduce((product, dim) => product * dim, 1)
    }, 0),
  )
  const [height, width] = firstInput(manifest.card).size
  const widest = Math.max(...bytes, 12 * height * width)
  return Math.max(
    64,
    Math.min(MOST_PICTURES, Math.floor(BORDER_BYTES / widest), Math.floor(MOST_MACS / macsOf(manifest))),
  )
}

/** The chosen descendants joined into one plain model, with better weights where the choice was polished. */
export async function fusePolished(zoo: Zoo, manifest: Manifest, polish: Polish): Promise<Uint8Array> {
  const models = await Promise.all(
    manifest.blocks.map(async (block) => {
      const better = polish.blocks.find((each) => each.block === block.id)?.file
      const file = better ?? descendantOf(block, polish.choices[block.id]).file
      return readModel(await zoo.load(manifest.model, file))
    }),
  )
  return writeModel(compose(models, endsOf(manifest)))
}
