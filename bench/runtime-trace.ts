import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BlockId, blockId, descendantId, modelId, ORIGINAL, seededRandom } from '../src/base/index.ts'
import { openSession, type Session, type Tensors } from '../src/engine/index.ts'
import type { Plan, PlannedModel } from '../src/optimizer/index.ts'
import { fuseToBytes } from '../src/pipeline/index.ts'
import { openProfiles, type Predictor, predictors, thisDevice } from '../src/profiles/index.ts'
import { feedsOf } from '../src/runtime/compile-unit.ts'
import { openRuntime, type Runtime } from '../src/runtime/index.ts'
import { modelInputs } from '../src/runtime/unit-files.ts'
import { type Choices, type Manifest, openZoo, type Zoo } from '../src/zoo/index.ts'
import { openEnergyMeter } from './energy.ts'
import type { ResultRow } from './result.ts'

/** One budget for each ten seconds of five minutes. */
const STEPS = 30
const round = (value: number, digits = 3) => Number(value.toFixed(digits))

/**
 * A trace of memory budgets, replayed once to compile what its plans need and once to measure: what scaling costs block by block, against
 * loading whole models of the same qualities, and the quality against switching between whole-model variants at the same limits.
 *
 * @param built folder of a zoo that holds the models; it is copied
 */
export async function trace(built: string, models: readonly string[], steps = STEPS): Promise<ResultRow[]> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-trace-'))
  try {
    const dir = join(folder, 'zoo')
    for (const each of [...models, 'profiles.db', 'profiles.db-wal', 'profiles.db-shm']) {
      if (existsSync(join(built, each))) cpSync(join(built, each), join(dir, each), { recursive: true })
    }
    const first = await replay(dir, models, steps)
    const second = await replay(dir, models, first.budgets)
    const whole = await wholeModels(dir, folder, second.plans)
    const uniform = await uniformVariants(dir, models, second.budgets)
    const ours = second.plans.map(qualityOf)
    const served = uniform.map((quality, step) => ({ quality, step })).filter(({ quality }) => quality !== undefined)
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
    const common = { part: 'trace', models: models.join(','), budgets: steps }
    return [
      {
        ...common,
        what: 'scaling cost against loading whole models of the same qualities',
        changes: second.changes,
        blocksCpuMs: round(second.swapCpuMs, 1),
        fuseLoadMs: round(second.fuseCpuMs, 1),
        fusedShare: round(second.fused / (steps * models.length)),
        planningCpuMs: round(second.planCpuMs, 1),
        wholeCpuMs: round(whole.cpuMs, 1),
        cpuRatio: round(second.swapCpuMs / whole.cpuMs),
        cpuRatioWithFusedGear: round((second.swapCpuMs + second.fuseCpuMs) / whole.cpuMs),
        cpuRatioWithFusedGearAndPlanning: round((second.swapCpuMs + second.fuseCpuMs + second.planCpuMs) / whole.cpuMs),
        blocksBytes: second.bytes,
        wholeBytes: whole.bytes,
        bytesRatio: round(second.bytes / whole.bytes),
        ...energyOf(second, whole),
        compiledOnceCpuMs: round(first.compileCpuMs, 0),
      },
      {
        ...common,
        what: 'mean quality at equal memory limits against whole-model variants',
        blocksQuality: round(mean(served.map(({ step }) => ours[step]!)), 4),
        wholeQuality: round(mean(served.map(({ quality }) => quality!)), 4),
        servedByWholeVariants: served.length,
        blocksQualityOverAll: round(mean(ours), 4),
      },
    ]
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const meter = openEnergyMeter()

/** Joules of the whole machine, where it reports them: what the swaps took, and what loading took, without the planning. */
function energyOf(blocks: { joules: number }, whole: { joules: number }): ResultRow {
  if (!meter) return {}
  const ratio = round(blocks.joules / whole.joules)
  return { energy: meter.source, blocksJoules: blocks.joules, wholeJoules: whole.joules, joulesRatio: ratio }
}

const qualityOf = ({ models }: Plan): number =>
  models.reduce((sum, { predicted }) => sum + predicted.quality, 0) / models.length

async function replay(zoo: string, models: readonly string[], trace: readonly number[] | number) {
  const childrenBefore = childrenCpuMs()
  const runtime = await openRuntime({ zoo, workers: 1, models })
  const found = {
    plans: [] as Plan[],
    changes: 0,
    swapCpuMs: 0,
    planCpuMs: 0,
    fuseCpuMs: 0,
    fused: 0,
    bytes: 0,
    joules: 0,
  }
  const budgets = typeof trace === 'number' ? await walk(runtime, trace) : trace
  try {
    for (const memoryBytes of budgets) {
      const planning = await cpuOf(() => runtime.whatIf({ budget: { memoryBytes } }))
      const changing = await cpuOf(() => runtime.setBudget({ memoryBytes }))
      found.planCpuMs += planning.cpuMs
      found.swapCpuMs += Math.max(0, changing.cpuMs - planning.cpuMs)
      found.joules += Math.max(0, changing.joules - planning.joules)
      if (changing.result.swap) {
        found.changes++
        found.bytes += changing.result.swap.bytes
      }
      found.plans.push(changing.result.plan)
      found.fuseCpuMs += await answering(runtime, models)
      found.fused += runtime.live().models.filter(({ gear }) => gear === 'fused').length
    }
  } finally {
    await runtime.close()
  }
  return { ...found, budgets, compileCpuMs: childrenCpuMs() - childrenBefore }
}

/** A walk between the least and the greatest budget that make a difference. */
async function walk(runtime: Runtime, steps: number): Promise<number[]> {
  // With less the blocks would be streamed, which whole models cannot be.
  const least = (await runtime.whatIf({ budget: {}, objective: 'memory' })).totals!.memoryBytes
  const most = (await runtime.whatIf({ budget: {} })).totals!.memoryBytes
  const random = seededRandom(11)
  let at = 0.5
  return Array.from({ length: steps }, () => {
    at = Math.min(1, Math.max(0, at + (random() - 0.5) * 0.7))
    return Math.ceil(least * 1.02 + at * (most * 1.02 - least * 1.02))
  })
}

/** Pictures a second that each model answers. */
const RATE = 10
/** How long each budget holds, in seconds: so many pictures are asked for, as fast as they are answered. */
const HOLDS = 10

/** Answers the pictures of one budget. @returns milliseconds that the engine spent on mapping fused graphs meanwhile */
async function answering(runtime: Runtime, models: readonly string[]): Promise<number> {
  const before = runtime.statistics().loads.ms
  for (let picture = 0; picture < RATE * HOLDS; picture++) {
    for (const model of models) await runtime.infer(model, feedsFor(runtime, model))
  }
  return runtime.statistics().loads.ms - before
}

function feedsFor(runtime: Runtime, name: string): Tensors {
  const { inputs } = runtime.models().find(({ model }) => model === name)!
  return feedsOf(
    inputs.map(({ name: input, fact }) => ({ name: input, type: fact.type, dims: sizesOf(fact.dims ?? []) })),
  )!
}

const sizesOf = (dims: readonly (number | string | null)[]): number[] =>
  dims.map((dim) => (typeof dim === 'number' ? dim : 1))

async function cpuOf<T>(work: () => Promise<T>): Promise<{ result: T; cpuMs: number; joules: number }> {
  const [before, joulesBefore] = [process.cpuUsage(), meter?.joules() ?? 0]
  const result = await work()
  const { user, system } = process.cpuUsage(before)
  return { result, cpuMs: (user + system) / 1000, joules: (meter?.joules() ?? 0) - joulesBefore }
}

/** CPU time of processes that were started from here and have ended: those that compile. */
function childrenCpuMs(): number {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[13]) + Number(fields[14])) * 10
}

/** What it costs to load the same combinations as whole models, one file for each: made beforehand, loaded and run once when it changes. */
async function wholeModels(dir: string, folder: string, plans: readonly Plan[]) {
  const zoo = openZoo(dir)
  const files = new Map<string, string>()
  const live = new Map<string, { key: string; session: Session }>()
  let [cpuMs, bytes, joules] = [0, 0, 0]
  for (const plan of plans) {
    for (const planned of plan.models) {
      const manifest = await zoo.manifest(modelId(planned.model))
      const key = JSON.stringify([planned.choices, planned.inputSize])
      const path = files.get(key) ?? (await writeWhole(zoo, manifest, planned, join(folder, `${files.size}.onnx`)))
      files.set(key, path)
      const before = live.get(planned.model)
      if (before?.key === key) continue
      const feeds = feedsOf(modelInputs(manifest, planned.inputSize ?? manifest.sizes[0]!))!
      const loading = await cpuOf(async () => {
        const session = await openSession(path)
        await session.run(feeds)
        await before?.session.release()
        return session
      })
      live.set(planned.model, { key, session: loading.result })
      // What was live at the start was loaded before the trace, on both sides.
      if (before) {
        cpuMs += loading.cpuMs
        joules += loading.joules
        bytes += statSync(path).size
      }
    }
  }
  for (const { session } of live.values()) await session.release()
  return { cpuMs, bytes, joules }
}

async function writeWhole(zoo: Zoo, manifest: Manifest, { choices }: PlannedModel, path: string): Promise<string> {
  const chosen = Object.fromEntries(
    choices.map(({ block, descendant }) => [blockId(block), descendantId(descendant)]),
  ) as Choices
  writeFileSync(path, await fuseToBytes(zoo, manifest, chosen))
  return path
}

/** Mean quality of the best whole-model variants within each budget; nothing where none fit. */
async function uniformVariants(dir: string, models: readonly string[], budgets: readonly number[]) {
  const zoo = openZoo(dir)
  const store = openProfiles(zoo.profilesPath, { readOnly: true })
  const offers = []
  for (const model of models) {
    const manifest = await zoo.manifest(modelId(model))
    offers.push(predictors(store, manifest, thisDevice().key).flatMap(({ predictor }) => variants(manifest, predictor)))
  }
  store.close()
  const combinations = offers.reduce<{ quality: number; memoryBytes: number }[]>(
    (all, offer) =>
      all.flatMap(({ quality, memoryBytes }) =>
        offer.map((each) => ({ quality: quality + each.quality, memoryBytes: memoryBytes + each.memoryBytes })),
      ),
    [{ quality: 0, memoryBytes: 0 }],
  )
  return budgets.map((budget) => {
    const fitting = combinations.filter(({ memoryBytes }) => memoryBytes <= budget)
    return fitting.length === 0 ? undefined : Math.max(...fitting.map(({ quality }) => quality)) / models.length
  })
}

/** The whole model made smaller in one way: a descendant in every block that offers it, the original elsewhere. */
function variants({ blocks }: Manifest, predictor: Predictor): { quality: number; memoryBytes: number }[] {
  const ids = [...new Set(blocks.flatMap(({ descendants }) => descendants.map(({ id }) => id)))]
  return ids.flatMap((wanted) => {
    const choices = Object.fromEntries(
      blocks.map(({ id, descendants }): [BlockId, string] => [
        id,
        descendants.some((each) => each.id === wanted) ? wanted : ORIGINAL,
      ]),
    ) as Choices
    try {
      return [{ quality: predictor.quality(choices).value, memoryBytes: predictor.memory(choices).value }]
    } catch {
      return [] // not profiled at this input size
    }
  })
}
