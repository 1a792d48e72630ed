import { parentPort, workerData } from 'node:worker_threads'
import { asBlockscaleError, BlockscaleError } from '../base/index.ts'
import {
  integerSums,
  makeDescendants,
  observe,
  openLinearAlgebra,
  rangesAt,
  record,
  type Samples,
  sampleBytes,
  searchRanges,
} from '../blocks/index.ts'
import { parkOn } from '../engine/index.ts'
import { writeModel } from '../onnx/index.ts'
import { type Size, thisDevice } from '../profiles/index.ts'
import { firstInput, type Tensors } from '../tasks/index.ts'
import type { CrewJob, CrewPart, CrewResults, CrewWorkerData, FromCrew } from './crew-messages.ts'
import {
  type EvaluationSet,
  evaluate,
  evaluateBy,
  openEvaluationSet,
  type Reference,
  referencesOf,
} from './evaluate.ts'
import { openSplits, prepareItems, type SplitName, type Splits } from './splits.ts'
import { evaluateStandIns } from './stand-in.ts'

const setup = workerData as CrewWorkerData
parkOn(setup.parking)
const port = parentPort
if (!port) throw new BlockscaleError('INTERNAL', 'a crew worker is a thread of its own')

/** Recorded inputs of one block that are held at once, and the least that a refit needs. */
const SAMPLE_BYTES = 192e6
const LEAST_SAMPLES = 64
/** Pictures for the ranges of border values. */
const RANGE_PICTURES = 256

let splits: Promise<Splits> | undefined
let calibration: Promise<readonly Tensors[]> | undefined
const sets = new Map<string, Promise<EvaluationSet>>()
/** what the original says at the card's own input size, by split */
const references = new Map<SplitName, readonly Reference[]>()
const original = () => writeModel(setup.model)

const openedSplits = () => {
  splits ??= openSplits(setup.card, setup.source)
  return splits
}

async function load(name: SplitName, most: number, size: Size | undefined, job: number) {
  const { items } = await openedSplits()
  return prepareItems(items[name].slice(0, most), setup.card, size, (skipped) =>
    port!.postMessage({ job, part: { kind: 'skipped', skipped } } satisfies FromCrew),
  )
}

/** Calibration feeds are loaded once for all blocks; large pictures in smaller number. */
async function calibrationFeeds(job: number): Promise<readonly Tensors[]> {
  const bytes = setup.model.graph.inputs.reduce((sum, { name }) => {
    const dims = setup.blocks.map(({ nominal }) => nominal.get(name)).find(Boolean) ?? []
    return sum + 4 * dims.reduce((product, dim) => product * dim, 1)
  }, 0)
  calibration ??= load('calibration', Math.max(LEAST_SAMPLES, Math.floor(SAMPLE_BYTES / bytes)), undefined, job).then(
    (items) => items.map(({ prepared }) => prepared.feeds),
  )
  return calibration
}

async function evaluationSet(name: SplitName, size: Size, job: number): Promise<EvaluationSet> {
  // The pictures of one split at one size at a time, and never beside those for calibration.
  calibration = undefined
  const key = `${name} ${size.join('x')}`
  const known = sets.get(key)
  if (known) return known
  sets.clear()
  const own = firstInput(setup.card).size
  const everything = Number.POSITIVE_INFINITY
  const opened = async () => {
    const isOwn = size.join() === own.join()
    if (!isOwn && !references.has(name)) {
      references.set(name, await referencesOf(original(), await load(name, everything, own, job)))
    }
    const { labelled } = await openedSplits()
    const items = await load(name, everything, size, job)
    const atOwnSize = isOwn ? undefined : references.get(name)
    const set = await openEvaluationSet(original(), items, setup.card, labelled, atOwnSize)
    if (isOwn) references.set(name, set.references)
    return set
  }
  const made = opened()
  sets.set(key, made)
  return made
}

/** The inputs of a block as the original delivers them. */
async function samplesOf(block: CrewWorkerData['blocks'][number], feeds: readonly Tensors[]): Promise<Samples> {
  const names = block.inputs.map(({ name }) => name)
  const samples: Tensors[] = []
  await record(setup.model, feeds, names, (values) => {
    samples.push(Object.fromEntries(names.map((name) => [name, values[name]!])))
  })
  return samples
}

const handlers: {
  [Kind in CrewJob['kind']]: (job: CrewJob & { kind: Kind }, id: number) => Promise<CrewResults[Kind]>
} = {
  async ranges(_job, id) {
    const ends = new Set(setup.model.graph.outputs.map(({ name }) => name))
    const inputs = new Set(setup.model.graph.inputs.map(({ name }) => name))
    const values = [...new Set(setup.blocks.flatMap(({ outputs }) => outputs.map(({ name }) => name)))]
    const feeds = (await calibrationFeeds(id)).slice(0, RANGE_PICTURES)
    const wanted = values.filter((name) => !ends.has(name) && !inputs.has(name))
    const observed = await observe(setup.model, feeds, wanted)
    const sharedWith = new Map(wanted.map((name) => [name, name]))
    const search = { sharedWith, observed, fixed: new Map() }
    return [...rangesAt(await searchRanges(setup.model, feeds, search), search)]
  },

  async descend(job, id) {
    const block = setup.blocks[job.block]!
    const most = Math.max(LEAST_SAMPLES, Math.floor(SAMPLE_BYTES / sampleBytes(block)))
    const samples = await samplesOf(block, (await calibrationFeeds(id)).slice(0, most))
    const algebra = await openLinearAlgebra()
    const ends = new Set([...setup.model.graph.inputs, ...setup.model.graph.outputs].map(({ name }) => name))
    const post = (part: CrewPart, transfer: ArrayBuffer[] = []) =>
      port!.postMessage({ job: id, part } satisfies FromCrew, transfer)
    try {
      for await (const made of makeDescendants(block, samples, algebra, {
        recipes: job.recipes,
        borders: new Map(job.borders),
        ends,
        sums: integerSums(thisDevice().features),
        known: job.known,
        timeLeft: () => job.until === undefined || Date.now() < job.until,
      })) {
        if (made.kind === 'dropped') {
          post({ kind: 'dropped', block: job.block, id: made.id, why: made.why })
          continue
        }
        const { descendant, verdict, weightBytes, macs } = made
        const bytes = new Uint8Array(writeModel(descendant.model))
        post(
          {
            kind: 'made',
            block: job.block,
            id: descendant.id,
            descendantKind: descendant.kind,
            parameters: descendant.parameters,
            bytes,
            weightBytes,
            macs,
            outputError: verdict.outputError,
            latencyShare: verdict.latencyShare,
            integerLayers: verdict.integerLayers,
          },
          [bytes.buffer],
        )
      }
    } finally {
      await algebra.close()
    }
  },

  async evaluate(job, id) {
    const set = await evaluationSet(job.split, job.size, id)
    return evaluate(job.model, { ...set, items: set.items.slice(0, job.pictures) }, setup.card)
  },

  async original(job, id) {
    const set = await evaluationSet(job.split, job.size, id)
    return evaluateBy((index) => set.originals[index]!, set, setup.card)
  },

  async 'stand-ins'(job, id) {
    const set = await evaluationSet('profile', job.size, id)
    await evaluateStandIns(setup, job.block, job.standIns, set, setup.card, (descendant, evaluation) =>
      port!.postMessage({ job: id, part: { kind: 'evaluated', id: descendant, evaluation } } satisfies FromCrew),
    )
  },

  async feeds(job, id) {
    const whole = (await load('calibration', job.pictures, job.size, id)).map(({ prepared }) => prepared.feeds)
    const blocks: Samples[] = []
    for (const block of setup.blocks) blocks.push(await samplesOf(block, whole))
    return { blocks, whole }
  },
}

port.on('message', async ({ id, job }: { id: number; job: CrewJob }) => {
  try {
    const handle = handlers[job.kind] as (job: CrewJob, id: number) => Promise<unknown>
    port.postMessage({ job: id, result: await handle(job, id) } satisfies FromCrew)
  } catch (thrown) {
    const { code, message, hint } = asBlockscaleError(thrown)
    port.postMessage({ job: id, error: { code, message, hint } } satisfies FromCrew)
  }
})
