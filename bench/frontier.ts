/**
 * Quality that is left at shares of the original's latency and memory: planned by the optimizer from the profiles, then
 * measured as fused wholes on the report pictures, which neither the choice nor the descendants have seen.
 *
 *     npx tsx bench/frontier.ts <zoo> <model> <images> [validation]
 *
 * The picture folders are those that the model was built with. Latencies are ratios to the original, measured in turns.
 */
import { modelId } from '../src/base/index.ts'
import { readModel, weightBytes } from '../src/onnx/index.ts'
import { solve } from '../src/optimizer/index.ts'
import {
  evaluate,
  fuseToBytes,
  openEvaluationSet,
  openSplits,
  originalChoices,
  prepareItems,
} from '../src/pipeline/index.ts'
import { measureWholes, openProfiles, predictors, problemModel, thisDevice } from '../src/profiles/index.ts'
import { type Choices, openZoo } from '../src/zoo/index.ts'
import { writeResult } from './result.ts'

const [zooDir, name, images, validation] = process.argv.slice(2)
if (!zooDir || !name || !images) throw new Error('usage: npx tsx bench/frontier.ts <zoo> <model> <images> [validation]')
const LATENCY_SHARES = [0.75, 0.6, 0.5, 0.42, 0.35, 0.3]
const WEIGHT_SHARES = [0.5, 0.28, 0.25, 0.125]

const zoo = openZoo(zooDir)
const manifest = await zoo.manifest(modelId(name))
const store = openProfiles(zoo.profilesPath, { readOnly: true })
const sized = predictors(store, manifest, thisDevice().key)
store.close()
const own = sized[0]
if (!own) throw new Error(`${name} has no profile on this device`)
const original = originalChoices(manifest)
const originalMs = own.predictor.latency(original).value
const weights = new Map<string, number>(
  manifest.blocks.flatMap((b) => b.descendants.map((d) => [`${b.id}/${d.id}`, d.weightBytes] as const)),
)
const originalWeights = manifest.blocks.reduce((sum, block) => sum + weights.get(`${block.id}/original`)!, 0)

interface Point {
  readonly limit: string
  readonly choices: Choices
  readonly size: readonly [number, number]
  readonly predicted: number
}

function plan(limit: string, maxLatencyMs: number | undefined, weightShare: number | undefined): Point | undefined {
  let problem = problemModel(name!, sized, { maxLatencyMs })
  if (weightShare !== undefined) {
    // The same problem with stored weights in the place of memory.
    const inWeights = (blocks: NonNullable<typeof problem.blocks>) =>
      blocks.map((b) => ({
        ...b,
        choices: b.choices.map((c) => ({ ...c, memoryBytes: weights.get(`${b.id}/${c.id}`)! })),
      }))
    problem = problem.blocks
      ? { ...problem, blocks: inWeights(problem.blocks) }
      : { ...problem, variants: problem.variants!.map((v) => ({ ...v, blocks: inWeights(v.blocks) })) }
  }
  const memoryBytes = weightShare === undefined ? undefined : Math.floor(weightShare * originalWeights)
  const answer = solve({ models: [problem], memoryBytes })
  const [model] = answer.models
  if (!model) return undefined
  const at = sized.find(({ id }) => id === model.variant) ?? own!
  const choices = Object.fromEntries(model.choices.map(({ block, descendant }) => [block, descendant])) as Choices
  return { limit, choices, size: at.size, predicted: at.predictor.quality(choices).value }
}

const points = [
  { limit: 'original', choices: original, size: own.size, predicted: own.predictor.originalQuality },
  ...LATENCY_SHARES.map((share) => plan(`${share} of the latency`, share * originalMs, undefined)),
  ...WEIGHT_SHARES.map((share) => plan(`${share} of the weights`, undefined, share)),
].filter((point): point is Point => point !== undefined)

const splits = await openSplits(manifest.card, { images, validation, folder: '.' })
const originalBytes = await zoo.load(manifest.model, manifest.original)
const atOwn = await prepareItems(splits.items.report, manifest.card, own.size, () => {})
const rows = []
for (const { size } of sized) {
  const here = points.filter((point) => point.size.join() === size.join())
  if (here.length === 0) continue
  const items = await prepareItems(splits.items.report, manifest.card, size, () => {})
  const set = await openEvaluationSet(originalBytes, items, splits.labelled, atOwn)
  const wholes = await Promise.all(
    here.map(async ({ choices }, i) => ({ id: `${i}`, model: await fuseToBytes(zoo, manifest, choices) })),
  )
  const feeds = items.slice(0, 4).map(({ prepared }) => prepared.feeds)
  // The original at its own size and the plans at theirs are measured in turns, each with inputs of its size.
  const [originalCost] = [
    ...(
      await measureWholes(
        [{ id: 'o', model: originalBytes }],
        atOwn.slice(0, 4).map(({ prepared }) => prepared.feeds),
      )
    ).values(),
  ]
  const costs = await measureWholes(wholes, feeds)
  for (const [i, point] of here.entries()) {
    const { quality, fidelity } = await evaluate(wholes[i]!.model, set, manifest.card)
    rows.push({
      limit: point.limit,
      inputSize: size.join('×'),
      metric: quality.metric,
      predicted: round(point.predicted),
      quality: round(quality.value),
      agreement: round(fidelity.value),
      latencyShare: round(costs.get(`${i}`)!.latencyP50Ms / originalCost!.latencyP50Ms),
      weightShare: round(weightBytes(readModel(wholes[i]!.model)) / originalWeights),
      pictures: set.items.length,
      choices: Object.entries(point.choices)
        .map(([block, id]) => `${block}=${id}`)
        .join(' '),
    })
  }
}
console.table(rows.map(({ choices: _, ...row }) => row))
await writeResult(`frontier-${name}`, rows, `npx tsx bench/frontier.ts <zoo> ${name} <images> <validation>`)

function round(value: number): number {
  return Math.round(value * 1e4) / 1e4
}
