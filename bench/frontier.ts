/**
 * Quality that is left at shares of the original's latency and weights: planned by the optimizer from the profiles, then
 * measured as fused wholes on the report pictures, which neither the choice nor the descendants have seen; and the same plans with
 * layers solved again on the calibration pictures, in closed form, as `plan --polish` does it. Beside it are what else one could do
 * with the same network, measured in the same turns:
 *
 * - LegoDNN's recipe (filters of least weight out, then block-wise distillation), planned by the same optimizer;
 * - one pruning level for the whole network, with our own channel choice and refit;
 * - 8-bit integers throughout.
 *
 *     npx tsx bench/frontier.ts <zoo> <model> <images> [validation] [--lego <zoo>] [--uniform <zoo>]
 *
 * The picture folders are those that the model was built with. The other zoos hold the same model, built on the same pictures
 * with `--recipes l1-distill` and with `--recipes prune`. Latencies are ratios to the original, measured in turns.
 */
import { parseArgs } from 'node:util'
import { modelId } from '../src/base/index.ts'
import { readModel, weightBytes } from '../src/onnx/index.ts'
import { solve } from '../src/optimizer/index.ts'
import {
  type EvaluationSet,
  evaluate,
  fusePolished,
  fuseToBytes,
  openEvaluationSet,
  openSplits,
  originalChoices,
  polishPlan,
  prepareItems,
  referencesOf,
} from '../src/pipeline/index.ts'
import {
  measureWholesAtSizes,
  openProfiles,
  predictors,
  problemModel,
  type SizedPredictor,
  thisDevice,
} from '../src/profiles/index.ts'
import { type Choices, type Manifest, openZoo, type Zoo } from '../src/zoo/index.ts'
import { writeResult } from './result.ts'

const { positionals, values: given } = parseArgs({
  allowPositionals: true,
  options: { lego: { type: 'string' }, uniform: { type: 'string' } },
})
const [zooDir, name, images, validation] = positionals
if (!zooDir || !name || !images) {
  throw new Error(
    'usage: npx tsx bench/frontier.ts <zoo> <model> <images> [validation] [--lego <zoo>] [--uniform <zoo>]',
  )
}
const LATENCY_SHARES = [0.75, 0.65, 0.6, 0.5, 0.42, 0.4, 0.35, 0.3]
const WEIGHT_SHARES = [0.5, 0.28, 0.25, 0.125]
/** A variant of the whole model counts at a limit that it misses by less: its latency is measured, not planned. */
const TOLERANCE = 0.01

interface Built {
  readonly zoo: Zoo
  readonly manifest: Manifest
  readonly sized: readonly SizedPredictor[]
}

interface Candidate {
  readonly method: string
  /** for what is planned: what it was planned for */
  readonly limit?: { readonly of: 'latency' | 'weights'; readonly share: number }
  readonly from: Built
  readonly choices: Choices
  readonly size: readonly [number, number]
  readonly predicted?: number
  /** predicted latency, of the original's */
  readonly predictedShare?: number
}

const ours = await opened(zooDir)
const { manifest } = ours
const own = ours.sized[0]!
const original = originalChoices(manifest)
const originalWeights = manifest.blocks.reduce((sum, { descendants }) => sum + descendants[0]!.weightBytes, 0)

const candidates: Candidate[] = [
  { method: 'original', from: ours, choices: original, size: own.size, predicted: own.predictor.originalQuality },
  ...planned('blockscale', ours),
  ...(given.lego ? planned('LegoDNN recipe', await opened(given.lego)) : []),
  ...(given.uniform ? uniform(await opened(given.uniform)) : []),
  { method: 'int8 throughout', from: ours, choices: everywhere(ours, (id) => id === 'int8'), size: own.size },
]

const splits = await openSplits(manifest.card, { images, validation, folder: '.' })
const originalBytes = await ours.zoo.load(manifest.model, manifest.original)
const atOwn = await prepareItems(splits.items.report, manifest.card, own.size, () => {})
const wholes = await Promise.all(
  candidates.map(async ({ from, choices }, i) => ({
    id: `${i}`,
    model: await fuseToBytes(from.zoo, from.manifest, choices),
  })),
)
const sizes = [...new Map(candidates.map(({ size }) => [size.join(), size])).values()]
const setsOf = async (size: readonly [number, number]) => {
  const isOwn = size.join() === own.size.join()
  const items = isOwn ? atOwn : await prepareItems(splits.items.report, manifest.card, size, () => {})
  const ids = new Set(wholes.flatMap(({ id }, i) => (candidates[i]!.size.join() === size.join() ? [id] : [])))
  return { items, ids, feeds: items.slice(0, 4).map(({ prepared }) => prepared.feeds) }
}
const sets = await Promise.all(sizes.map(setsOf))
const costs = await measureWholesAtSizes(wholes, sets)
const originalMs = costs[0]!.get('0')!.latencyP50Ms

const POLISHED = 'blockscale, polished'
const measured: (Candidate & { quality: number; agreement: number; latency: number; weights: number })[] = []
const polished = new Map<string, Awaited<ReturnType<typeof polishedFigures>>>()
let metric = ''
const references = await referencesOf(originalBytes, atOwn)
for (const [s, { items, ids }] of sets.entries()) {
  const set = await openEvaluationSet(originalBytes, items, manifest.card, splits.labelled, references)
  for (const id of ids) {
    const candidate = candidates[Number(id)]!
    const { model } = wholes[Number(id)]!
    const { quality, fidelity } = await evaluate(model, set, manifest.card)
    metric = quality.metric
    const known = {
      ...candidate,
      quality: quality.value,
      agreement: fidelity.value,
      latency: costs[s]!.get(id)!.latencyP50Ms / originalMs,
      weights: weightBytes(readModel(model)) / originalWeights,
    }
    measured.push(known)
    if (candidate.method !== 'blockscale') continue
    const key = JSON.stringify([candidate.choices, candidate.size])
    if (!polished.has(key)) polished.set(key, await polishedFigures(candidate, set))
    const { predicted: _, ...rest } = known
    measured.push({ ...rest, ...polished.get(key), method: POLISHED })
  }
}

const limits = [
  ...LATENCY_SHARES.map((share) => ({ of: 'latency', share }) as const),
  ...WEIGHT_SHARES.map((share) => ({ of: 'weights', share }) as const),
]
const methods = [...new Set(measured.map(({ method }) => method))]
const rows = [
  { metric, pictures: splits.items.report.length },
  row(measured.find(({ method }) => method === 'original')!, 'original'),
  ...limits.flatMap(({ of, share }) =>
    methods.flatMap((method) => {
      const best = measured
        .filter((each) => each.method === method && method !== 'original')
        .filter(({ limit, ...each }) =>
          limit ? limit.of === of && limit.share === share : each[of] <= share + TOLERANCE,
        )
        .sort((a, b) => b.quality - a.quality)[0]
      return best ? [row(best, `${share} of the ${of}`)] : []
    }),
  ),
]
console.table(rows)
const others = `${given.lego ? ' --lego <zoo>' : ''}${given.uniform ? ' --uniform <zoo>' : ''}`
await writeResult(`frontier-${name}`, rows, `npx tsx bench/frontier.ts <zoo> ${name} <images> <validation>${others}`)

/** What a plan keeps with layers solved again; nothing where that is not better on pictures held out, and the plan stays as it is. */
async function polishedFigures({ choices, size }: Candidate, set: EvaluationSet) {
  const { zoo } = ours
  const { kept, polish } = await polishPlan({
    zoo,
    manifest,
    choices,
    size,
    items: splits.items.calibration,
    what: 'sequence',
  })
  if (!kept || !polish) return {}
  const { quality, fidelity } = await evaluate(await fusePolished(zoo, manifest, polish), set, manifest.card)
  return { quality: quality.value, agreement: fidelity.value }
}

function row(of: (typeof measured)[number], limit: string) {
  return {
    limit,
    method: of.method,
    inputSize: of.size.join('×'),
    predicted: of.predicted === undefined ? null : round(of.predicted),
    quality: round(of.quality),
    agreement: round(of.agreement),
    latencyShare: round(of.latency),
    predictedShare: of.predictedShare === undefined ? null : round(of.predictedShare),
    weightShare: round(of.weights),
  }
}

async function opened(dir: string): Promise<Built> {
  const zoo = openZoo(dir)
  const built = await zoo.manifest(modelId(name!))
  const store = openProfiles(zoo.profilesPath, { readOnly: true })
  const sized = predictors(store, built, thisDevice().key)
  store.close()
  if (sized.length === 0) throw new Error(`${name} has no profile on this device in ${dir}`)
  return { zoo, manifest: built, sized }
}

/** A plan for each limit, where one fits. */
function planned(method: string, from: Built): Candidate[] {
  const weightsOf = new Map<string, number>(
    from.manifest.blocks.flatMap((b) => b.descendants.map((d) => [`${b.id}/${d.id}`, d.weightBytes] as const)),
  )
  const ms = from.sized[0]!.predictor.latency(originalChoices(from.manifest)).value
  // Within one input size less divergence is more quality, whatever the curve between them; sizes are compared by what is predicted.
  const plan = (limit: NonNullable<Candidate['limit']>): Candidate[] => {
    const inTime = limit.of === 'latency' ? limit.share * ms : undefined
    const memoryBytes = limit.of === 'weights' ? Math.floor(limit.share * originalWeights) : undefined
    const found = from.sized.flatMap((at): Candidate[] => {
      const problem = problemModel(name!, [at], { maxLatencyMs: inTime })
      // With stored weights in the place of memory, where those are limited.
      const blocks = problem.blocks!.map((b) => ({
        ...b,
        choices: b.choices.map((c) => ({
          ...c,
          memoryBytes: memoryBytes === undefined ? c.memoryBytes : weightsOf.get(`${b.id}/${c.id}`)!,
        })),
      }))
      const [model] = solve({ models: [{ ...problem, blocks }], memoryBytes }).models
      if (!model) return []
      const choices = Object.fromEntries(model.choices.map(({ block, descendant }) => [block, descendant])) as Choices
      const predicted = at.predictor.quality(choices).value
      const predictedShare = at.predictor.latency(choices).value / ms
      return [{ method, limit, from, choices, size: at.size, predicted, predictedShare }]
    })
    return found.sort((a, b) => b.predicted! - a.predicted!).slice(0, 1)
  }
  return [
    ...LATENCY_SHARES.flatMap((share) => plan({ of: 'latency', share })),
    ...WEIGHT_SHARES.flatMap((share) => plan({ of: 'weights', share })),
  ]
}

/** The whole network at each level of pruning. */
function uniform(from: Built): Candidate[] {
  const levelOf = (id: string) => (/^prune\d+$/.test(id) ? Number(id.slice('prune'.length)) : 0)
  const levels = new Set(from.manifest.blocks.flatMap((b) => b.descendants.map(({ id }) => levelOf(id))))
  levels.delete(0)
  return [...levels].map((level) => {
    // A block that has no such level, because it would be the same as a lighter one, takes that.
    const choices = everywhere(from, (id) => levelOf(id) > 0 && levelOf(id) <= level)
    return { method: 'uniform pruning', from, choices, size: own.size }
  })
}

/** The last descendant of each block that is wanted, or the original. */
function everywhere({ manifest: { blocks } }: Built, wanted: (id: string) => boolean): Choices {
  return Object.fromEntries(
    blocks.map(({ id, descendants }) => [id, (descendants.findLast((each) => wanted(each.id)) ?? descendants[0]!).id]),
  ) as Choices
}

function round(value: number): number {
  return Math.round(value * 1e4) / 1e4
}
