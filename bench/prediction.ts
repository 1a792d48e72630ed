/**
 * How well a combination is predicted: draws combinations that no build has seen, predicts each from the profiles, then
 * measures it fused, on report pictures, and compares. `upper` are those that keep four fifths of the original's quality.
 *
 *     npx tsx bench/prediction.ts <zoo> <model> [images] [validation] [combinations]
 *
 * The picture folders are those that the model was built with, so that the report pictures are the same ones. Shares of latency
 * are of the original's, measured in the same turns: the machine may be faster or slower than it was at the build.
 */

import { modelId, seededRandom } from '../src/base/index.ts'
import { drawCombinations } from '../src/pipeline/combinations.ts'
import { type EvaluationSet, evaluateBy, outputsOf } from '../src/pipeline/evaluate.ts'
import { fuseToBytes, openEvaluationSet, openSplits, originalChoices, prepareItems } from '../src/pipeline/index.ts'
import { measureWholes, openProfiles, predictors, thisDevice } from '../src/profiles/index.ts'
import { firstInput } from '../src/tasks/index.ts'
import { openZoo } from '../src/zoo/index.ts'
import { writeResult } from './result.ts'

const [zooDir, name, images, validation, wanted = '20'] = process.argv.slice(2)
if (!zooDir || !name)
  throw new Error('usage: npx tsx bench/prediction.ts <zoo> <model> [images] [validation] [combinations]')

/** Time is measured of this many; their errors are alike. */
const TIMED = 20
/** draws of report pictures from themselves, for what is chance in a measured quality */
const RESAMPLES = 50

const zoo = openZoo(zooDir)
const manifest = await zoo.manifest(modelId(name))
const store = openProfiles(zoo.profilesPath, { readOnly: true })
const { size } = firstInput(manifest.card)
const sized = predictors(store, manifest, thisDevice().key).find((each) => each.size.join() === size.join())
if (!sized) throw new Error(`${name} has no profile on this device`)
const { predictor } = sized

const known = store.combinations({ model: manifest.model }).map(({ choices }) => choices)
const facts = new Map(
  predictor.descendants.map(({ block, descendant, latencyMs, divergence }) => [
    `${block}/${descendant}`,
    { latencyMs, divergence },
  ]),
)
const combinations = drawCombinations(manifest.blocks, facts, Number(wanted), 2.5, 777, known)

const splits = await openSplits(manifest.card, { images, validation, folder: '.' })
const items = await prepareItems(splits.items.report, manifest.card, size, () => {})
const set = await openEvaluationSet(
  await zoo.load(manifest.model, manifest.original),
  items,
  manifest.card,
  splits.labelled,
)
const all = [originalChoices(manifest), ...combinations]
const models = await Promise.all(
  all.map(async (choices, index) => ({ id: `${index}`, model: await fuseToBytes(zoo, manifest, choices) })),
)
const random = seededRandom(5)
const resamples = Array.from({ length: RESAMPLES }, () => set.items.map(() => Math.floor(random() * set.items.length)))
const judged: { quality: number; resampled: number[] }[] = []
for (const { model } of models) {
  const outputs = await outputsOf(model, set.items)
  const on = async (numbers: readonly number[]) =>
    (await evaluateBy((i) => outputs[numbers[i]!]!, part(numbers), manifest.card)).quality.value
  const quality = await on(set.items.map((_, i) => i))
  const resampled: number[] = []
  for (const numbers of resamples) resampled.push(await on(numbers))
  judged.push({ quality, resampled })
}
const costs = await measureWholes(
  models.slice(0, 1 + TIMED),
  items.slice(0, 4).map(({ prepared }) => prepared.feeds),
)

const [original] = judged
/** Predicted over measured, of the originals: how much slower or faster the machine was when the profiles were measured. */
const drift = predictor.latency(originalChoices(manifest)).value / costs.get('0')!.latencyP50Ms
const rows = combinations.map((choices, index) => {
  const quality = predictor.quality(choices)
  const { quality: measured, resampled } = judged[index + 1]!
  const losses = resampled.map((value, i) => original!.resampled[i]! - value)
  const latency = costs.get(`${index + 1}`)?.latencyP50Ms
  return {
    choices: Object.values(choices).join(' '),
    predictedQuality: quality.value,
    measuredQuality: measured,
    inInterval: measured >= quality.low && measured <= quality.high,
    qualityError: measured - quality.value,
    chance: Math.sqrt(mean(losses.map((loss) => (loss - mean(losses)) ** 2))),
    latencyError: latency === undefined ? undefined : predictor.latency(choices).value / latency - 1,
    latencyShareError: latency === undefined ? undefined : predictor.latency(choices).value / latency / drift - 1,
  }
})

/**
 * How far predictions are off, and how far the best possible ones would be by chance: which pictures are in the report split,
 * and (`ofBothSplits`) which are in the split that predictions were fitted on as well.
 */
function figures(of: typeof rows) {
  const byChance = mean(of.map((row) => row.chance)) * Math.sqrt(2 / Math.PI)
  const own = Math.max(0, mean(of.map((row) => row.qualityError ** 2 - row.chance ** 2)))
  return {
    combinations: of.length,
    meanQualityError: round(mean(of.map((row) => Math.abs(row.qualityError)))),
    meanErrorByChance: round(byChance),
    ofBothSplits: round(byChance * Math.sqrt(1 + set.items.length / splits.items.refit.length)),
    ownErrorRms: round(Math.sqrt(own)),
    bias: round(mean(of.map((row) => row.qualityError))),
    worstQualityError: round(Math.max(...of.map((row) => Math.abs(row.qualityError)))),
    insideInterval: round(mean(of.map((row) => Number(row.inInterval)))),
  }
}
const sizes = (errors: readonly (number | undefined)[]) =>
  errors.flatMap((error) => (error === undefined ? [] : [Math.abs(error)]))
const latencyErrors = sizes(rows.map(({ latencyError }) => latencyError))
const shareErrors = sizes(rows.map(({ latencyShareError }) => latencyShareError))
const summary = {
  model: name,
  reportPictures: set.items.length,
  originalOnReport: original!.quality,
  all: figures(rows),
  upper: figures(rows.filter((row) => row.measuredQuality >= 0.8 * original!.quality)),
  timed: latencyErrors.length,
  meanLatencyError: round(mean(latencyErrors)),
  worstLatencyError: round(Math.max(...latencyErrors)),
  meanLatencyShareError: round(mean(shareErrors)),
  worstLatencyShareError: round(Math.max(...shareErrors)),
}
console.table(rows.map(({ choices: _, ...row }) => row))
console.log(summary)
store.close()

/** The set with these of its pictures, some of them more than once. */
function part(numbers: readonly number[]): EvaluationSet {
  const pick = <T>(of: readonly T[]): T[] => numbers.map((i) => of[i]!)
  return { ...set, items: pick(set.items), originals: pick(set.originals), references: pick(set.references) }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function round(value: number): number {
  return Math.round(value * 1e4) / 1e4
}

await writeResult(
  `prediction-${name}`,
  [summary],
  `npx tsx bench/prediction.ts <zoo> ${name} <images> <validation> ${wanted}`,
)
