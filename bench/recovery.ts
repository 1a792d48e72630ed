/**
 * What recovery brings back: distillation of a pruned network, and the polish of plans, on report pictures that neither
 * training nor choice has seen.
 *
 *     npx tsx bench/recovery.ts halved [steps]
 *         cifar10-resnet20 with all inner channels halved, in float: closed form, then learning; beside it the same learning
 *         from the channels that have the least weights (L1). Needs the assets folder (`BLOCKSCALE_ASSETS`).
 *     npx tsx bench/recovery.ts plans <zoo> <model> <images> [validation] [--seconds 120] [--shares 0.42,0.37] [--any-size]
 *         plans at shares of the original's latency: as they are, solved again in order, and taught as well; at the model's own
 *         input size, or at whichever is best. The folders are those that the model was built with.
 *
 * Each part replaces its own rows in bench/results/recovery.json and leaves the others.
 */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { modelId, silentProgress } from '../src/base/index.ts'
import { analysePruning, leastWeightsRemoved, openLinearAlgebra, pruneTo } from '../src/blocks/index.ts'
import { openSession } from '../src/engine/index.ts'
import { cut, type Model, normalise, readModel, writeModel } from '../src/onnx/index.ts'
import { solve } from '../src/optimizer/index.ts'
import {
  evaluate,
  fusePolished,
  fuseToBytes,
  openEvaluationSet,
  openSplits,
  originalChoices,
  polishPlan,
  prepareItems,
} from '../src/pipeline/index.ts'
import { measureWholesAtSizes, openProfiles, predictors, problemModel, thisDevice } from '../src/profiles/index.ts'
import { firstInput, type ModelCard, openDataset, readCard, type Tensors } from '../src/tasks/index.ts'
import { imitate } from '../src/trainer/index.ts'
import { type Choices, openZoo } from '../src/zoo/index.ts'
import { assets } from '../test/assets.ts'
import { type ResultRow, writeResult } from './result.ts'

const RESULT = fileURLToPath(new URL('./results/recovery.json', import.meta.url))
const round = (value: number): number => Math.round(value * 1e4) / 1e4

/** Standard error of the difference of two shares that were measured on the same number of pictures. */
const errorOf = (a: number, b: number, count: number): number => Math.sqrt((a * (1 - a) + b * (1 - b)) / count)

async function keep(part: string, rows: readonly ResultRow[]): Promise<void> {
  const text = await readFile(RESULT, 'utf8').catch(() => '{"rows":[]}')
  const others = (JSON.parse(text) as { rows: ResultRow[] }).rows.filter((row) => row.part !== part)
  const all = [...others, ...rows.map((row) => ({ part, when: new Date().toISOString(), ...row }))]
  console.log(await writeResult('recovery', all, 'npx tsx bench/recovery.ts halved; … plans <zoo> <model> <images>'))
}

const CIFAR: ModelCard = readCard({
  id: 'cifar10-resnet20',
  task: 'classification',
  file: 'cifar10-resnet20.onnx',
  input: {
    name: 'input',
    size: [32, 32],
    resize: 'none',
    scale: 1 / 255,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
  },
  output: {
    decoder: 'softmax',
    labels: ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'],
  },
})

/** All inner channels halved: what closed form keeps, what learning brings back, and what it does from an L1 start. */
async function halved(steps: number): Promise<void> {
  if (!assets) throw new Error('this part needs the models and pictures of the assets folder')
  const read = readModel(await readFile(`${assets}/models/cifar10-resnet20.onnx`))
  const [block] = cut(await normalise(read, runOnce, { nominalSize: [32, 32] }), [])
  const original = block!.model
  const feedsOf = async (folder: string) => {
    const { items } = await openDataset(`${assets}/images/${folder}`, CIFAR)
    return prepareItems(items, CIFAR, undefined, () => {})
  }
  const calibration = (await feedsOf('cifar10-calibration')).map(({ prepared }) => prepared.feeds)
  const report = await feedsOf('cifar10-validation')
  const set = await openEvaluationSet(writeModel(original), report, CIFAR, true)
  const top1 = async (model: Model) => (await evaluate(writeModel(model), set, CIFAR)).quality.value
  const algebra = await openLinearAlgebra()
  const started = performance.now()
  const before = process.cpuUsage()
  const cpu = () => {
    const { user, system } = process.cpuUsage(before)
    return Math.round((user + system) / 1e6)
  }
  const samples = calibration.slice(0, 1000)
  const analysis = await analysePruning(block!, samples, algebra)
  const widths = analysis.channels.groups.map(({ classes, consumers }) =>
    consumers.length === 1 ? classes.length / 2 : classes.length,
  )
  const closed = (await pruneTo(block!, samples, analysis, widths, algebra))!
  const closedMs = performance.now() - started
  await algebra.close()
  const learn = (student: Model) =>
    imitate(student, original, calibration, {
      ...RECIPE,
      steps,
      likenesses: likenesses(original),
      onProgress: ({ step, loss, quality, msPerStep }) => {
        if (step % 50 === 0) console.log(step, loss.toFixed(4), quality?.toFixed(4), `${msPerStep.toFixed(0)} ms`)
      },
    })
  const rows: ResultRow[] = []
  const add = async (what: string, model: Model, more: ResultRow) => {
    const row = { what, top1: round(await top1(model)), pictures: report.length, ...more }
    console.log(JSON.stringify(row))
    rows.push(row)
    return row.top1
  }
  await add('original', original, {})
  await add('closed form', closed, { seconds: round(closedMs / 1000), cpuSeconds: cpu() })
  const taught = await learn(closed)
  const cpuSeconds = cpu()
  const ours = await add('closed form, then learning', taught.model, {
    steps: taught.steps,
    seconds: round((closedMs + taught.ms) / 1000),
    // Wall time says little on a busy machine: two cores for three minutes are 360 seconds of them.
    cpuSeconds,
  })
  const plain = leastWeightsRemoved(block!, analysis.channels, widths)
  await add('L1', plain, {})
  const other = await learn(plain)
  const theirs = await add('L1, then as many steps', other.model, { steps: other.steps })
  rows.push({
    what: 'closed form against L1, both taught',
    difference: round(ours - theirs),
    standardError: round(errorOf(ours, theirs, report.length)),
  })
  await keep('halved', rows)
}

const RECIPE = {
  rate: 1e-3,
  warmup: 20,
  batch: 64,
  shift: 4,
  flip: true,
  threads: 1,
  heldOutShare: 0.1,
  measureEvery: 50,
} as const

/** The classes, and what every residual block gives. */
const likenesses = ({ graph }: Model) => {
  const output = graph.outputs[0]!.name
  const sums = graph.nodes.filter(({ op }) => op === 'Add').map(({ outputs }) => outputs[0]!)
  return [
    { student: output, teacher: output, classes: true },
    ...sums.map((name) => ({ student: name, teacher: name, weight: 1 / sums.length })),
  ]
}

async function runOnce(model: Model, feeds: Tensors, outputs: readonly string[]): Promise<Tensors> {
  const asked = { ...model, graph: { ...model.graph, outputs: outputs.map((name) => ({ name })) } }
  const session = await openSession(writeModel(asked), { optimization: 'disabled' })
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

/** Plans at shares of the original's latency: raw, solved again, taught. */
async function plans(
  [zooDir, name, images, validation]: readonly (string | undefined)[],
  seconds: number,
  shares: readonly number[],
  anySize: boolean,
): Promise<void> {
  if (!zooDir || !name || !images) {
    throw new Error('usage: npx tsx bench/recovery.ts plans <zoo> <model> <images> [validation]')
  }
  const zoo = openZoo(zooDir)
  const manifest = await zoo.manifest(modelId(name))
  const store = openProfiles(zoo.profilesPath, { readOnly: true })
  const sized = predictors(store, manifest, thisDevice().key)
  store.close()
  const own = sized[0]
  if (!own) throw new Error(`${name} has no profile on this device`)
  const originalMs = own.predictor.latency(originalChoices(manifest)).value
  const sizes = anySize ? sized : [own]
  const splits = await openSplits(manifest.card, { images, validation, folder: '.' })
  const original = await zoo.load(manifest.model, manifest.original)
  const atOwn = await prepareItems(splits.items.report, manifest.card, firstInput(manifest.card).size, () => {})
  const ownSet = await openEvaluationSet(original, atOwn, manifest.card, splits.labelled)
  const base = await evaluate(original, ownSet, manifest.card)
  const rows: ResultRow[] = [
    { what: 'original', metric: base.quality.metric, quality: round(base.quality.value), pictures: base.pictures },
  ]
  for (const share of shares) {
    const [planned] = sizes
      .flatMap((at) => {
        const [found] = solve({ models: [problemModel(name, [at], { maxLatencyMs: share * originalMs })] }).models
        if (!found) return []
        const choices = Object.fromEntries(found.choices.map(({ block, descendant }) => [block, descendant])) as Choices
        return [{ size: at.size, choices, quality: at.predictor.quality(choices).value }]
      })
      .sort((a, b) => b.quality - a.quality)
    if (!planned) {
      console.log(`no plan at ${share}`)
      continue
    }
    const { size, choices } = planned
    const isOwn = size.join() === own.size.join()
    const items = isOwn ? atOwn : await prepareItems(splits.items.report, manifest.card, size, () => {})
    const set = isOwn
      ? ownSet
      : await openEvaluationSet(original, items, manifest.card, splits.labelled, ownSet.references)
    const row = async (what: string, bytes: Uint8Array, more: ResultRow) => {
      const { quality, fidelity, divergence } = await evaluate(bytes, set, manifest.card)
      const figures = { quality: round(quality.value), agreement: round(fidelity.value), divergence: round(divergence) }
      rows.push({ share, what, ...figures, ...more })
      console.log(JSON.stringify(rows.at(-1)))
    }
    const raw = await fuseToBytes(zoo, manifest, choices)
    const costs = await measureWholesAtSizes(
      [
        { id: 'original', model: original },
        { id: 'raw', model: raw },
      ],
      [atOwn, ...(isOwn ? [] : [items])].map((of) => ({ feeds: of.slice(0, 4).map(({ prepared }) => prepared.feeds) })),
    )
    const rawCosts = costs.at(-1)!.get('raw')!
    const latencyShare = round(rawCosts.latencyP50Ms / costs[0]!.get('original')!.latencyP50Ms)
    const list = Object.entries(choices).map(([block, id]) => `${block}=${id}`)
    await row('raw', raw, { latencyShare, inputSize: size.join('×'), choices: list.join(' ') })
    // What was tried and not kept is said too.
    const progress = { ...silentProgress, note: (text: string) => text.startsWith('step') || console.log(text) }
    const common = { zoo, manifest, choices, size, items: splits.items.calibration, what: 'sequence' as const }
    for (const distilMs of seconds > 0 ? [0, 1000 * seconds] : [0]) {
      const { kept, polish, before, after, ms } = await polishPlan({ ...common, distilMs, progress })
      const bytes = kept && polish ? await fusePolished(zoo, manifest, polish) : raw
      const heldOut = { before: round(before.divergence), after: round(after.divergence) }
      const how = kept ? polish?.how.join(', ') : 'nothing'
      await row(distilMs ? 'taught' : 'solved again', bytes, { kept: how, seconds: round(ms / 1000), heldOut })
    }
  }
  await keep(anySize ? `${name} at any size` : name, rows)
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string' }, shares: { type: 'string' }, 'any-size': { type: 'boolean' } },
})
const [part, ...rest] = positionals
if (part === 'halved') await halved(Number(rest[0] ?? 600))
else if (part === 'plans') {
  await plans(
    rest,
    Number(values.seconds ?? 120),
    (values.shares ?? '0.5,0.42,0.37,0.3').split(',').map(Number),
    values['any-size'] ?? false,
  )
} else throw new Error('usage: npx tsx bench/recovery.ts halved [steps] | plans <zoo> <model> <images> [validation]')
