/**
 * How well a combination is predicted: draws combinations that no build has seen, predicts each from the profiles, then
 * measures it fused, on report pictures, and compares.
 *
 *     npx tsx bench/prediction.ts <zoo> <model> [images] [validation] [combinations]
 *
 * The picture folders are those that the model was built with, so that the report pictures are the same ones.
 */

import { modelId } from '../src/base/index.ts'
import { drawCombinations } from '../src/pipeline/combinations.ts'
import {
  evaluate,
  fuseToBytes,
  openEvaluationSet,
  openSplits,
  originalChoices,
  prepareItems,
} from '../src/pipeline/index.ts'
import { measureWholes, openProfiles, predictors, thisDevice } from '../src/profiles/index.ts'
import { firstInput } from '../src/tasks/index.ts'
import { openZoo } from '../src/zoo/index.ts'
import { writeResult } from './result.ts'

const [zooDir, name, images, validation, wanted = '20'] = process.argv.slice(2)
if (!zooDir || !name)
  throw new Error('usage: npx tsx bench/prediction.ts <zoo> <model> [images] [validation] [combinations]')

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
const set = await openEvaluationSet(await zoo.load(manifest.model, manifest.original), items, splits.labelled)
const all = [originalChoices(manifest), ...combinations]
const models = await Promise.all(
  all.map(async (choices, index) => ({ id: `${index}`, model: await fuseToBytes(zoo, manifest, choices) })),
)
const qualities: number[] = []
for (const { model } of models) qualities.push((await evaluate(model, set, manifest.card)).quality.value)
const costs = await measureWholes(
  models,
  items.slice(0, 4).map(({ prepared }) => prepared.feeds),
)

// Predictions are made for all pictures like these; which pictures happen to be in the report split shifts the original too.
const shift = qualities[0]! - predictor.originalQuality
const rows = combinations.map((choices, index) => {
  const quality = predictor.quality(choices)
  const measured = qualities[index + 1]!
  const latency = predictor.latency(choices).value
  const measuredLatency = costs.get(`${index + 1}`)!.latencyP50Ms
  return {
    choices: Object.values(choices).join(' '),
    predictedQuality: quality.value,
    measuredQuality: measured,
    inInterval: measured >= quality.low && measured <= quality.high,
    qualityError: measured - quality.value,
    pairedError: measured - shift - quality.value,
    latencyError: latency / measuredLatency - 1,
  }
})
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length
const summary = {
  model: name,
  combinations: rows.length,
  reportPictures: set.items.length,
  originalOnReport: qualities[0],
  meanQualityError: mean(rows.map((row) => row.qualityError)),
  meanPairedQualityError: mean(rows.map((row) => row.pairedError)),
  worstQualityError: Math.max(...rows.map((row) => Math.abs(row.qualityError))),
  insideInterval: rows.filter((row) => row.inInterval).length / rows.length,
  meanLatencyError: mean(rows.map((row) => row.latencyError)),
  worstLatencyError: Math.max(...rows.map((row) => Math.abs(row.latencyError))),
  upperHalf: (() => {
    const good = rows.filter((row) => row.measuredQuality >= 0.8 * qualities[0]!)
    return { combinations: good.length, meanQualityError: mean(good.map((row) => row.qualityError)) }
  })(),
}
console.table(rows.map(({ choices: _, ...row }) => row))
console.log(summary)
store.close()
await writeResult(
  `prediction-${name}`,
  [summary],
  `npx tsx bench/prediction.ts <zoo> ${name} <images> <validation> ${wanted}`,
)
