import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { modelId, ORIGINAL } from '../src/base/index.ts'
import { type Model, node, writeModel } from '../src/onnx/index.ts'
import { openProfiles, predictors, thisDevice } from '../src/profiles/index.ts'
import { Builder } from '../src/runtime/builder.ts'
import { openPlanner } from '../src/runtime/planner.ts'
import type { Unit } from '../src/runtime/unit.ts'
import { modelInputs, UnitFiles } from '../src/runtime/unit-files.ts'
import { openZoo } from '../src/zoo/index.ts'
import { inOwnProcess } from './own-process.ts'
import type { ResultRow } from './result.ts'
import type { StreamAsk, StreamFigures } from './runtime-stream-child.ts'

/** Share of the weights that may be in memory. */
const SHARE = 0.4
const round = (value: number, digits = 3) => Number(value.toFixed(digits))

/**
 * A model of which 40 % of the weights may be in memory beside what its largest block computes in: as it is planned and streamed, and as it
 * would be with each block loaded when it is its turn. Each in a process of its own. Between two pictures the files of streamed blocks are
 * taken out of the system's cache, as on a machine that has no memory for them, so that each picture reads them from disk.
 *
 * @param dir folder of a built zoo that holds the model; what is not compiled yet is compiled into it
 */
export async function stream(dir: string, model: string): Promise<ResultRow> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-stream-'))
  try {
    const { loaded, streamed, ...limits } = await plans(dir, model)
    const nothing = join(folder, 'nothing.onnx')
    writeFileSync(nothing, writeModel(identity(streamed.inputs[0]!)))
    const ask = ({ chain, windowBytes, inputs, outputs }: Planned, way: StreamAsk['way']) =>
      inOwnProcess<StreamFigures>('./runtime-stream-child.ts', {
        way,
        chain,
        windowBytes,
        inputs,
        outputs,
        nothing,
      } satisfies StreamAsk)
    const all = ask(loaded, 'as planned')
    const through = ask(streamed, 'as planned')
    const onDemand = ask(streamed, 'on demand')
    return {
      part: 'streaming',
      model,
      weightMB: round(limits.weightBytes / 1e6, 2),
      loadedNeedsMB: round(loaded.memoryBytes / 1e6, 2),
      limitMB: round(limits.limitBytes / 1e6, 2),
      plannedMB: round(streamed.memoryBytes / 1e6, 2),
      streamedBlocks: streamed.chain.filter(({ window }) => window?.isPassing).length,
      blocks: streamed.chain.length,
      readMBPerSecond: round((streamed.readBytesPerSecond ?? 0) / 1e6, 1),
      sampledPeakMB: round(through.sampledPeakBytes / 1e6, 2),
      loadedSampledPeakMB: round(all.sampledPeakBytes / 1e6, 2),
      loadedMs: round(all.medianMs),
      streamedMs: round(through.medianMs),
      predictedMs: round(streamed.latencyMs),
      onDemandMs: round(onDemand.medianMs),
      streamedToOnDemand: round(through.medianMs / onDemand.medianMs),
      streamedToPredicted: round(through.medianMs / streamed.latencyMs),
      // By so much the machine is slower now than when it was profiled: no fault of the prediction above.
      loadedToPredicted: round(all.medianMs / loaded.latencyMs),
      greatestDifference: round(
        Math.max(...[through, onDemand].map(({ answer }) => difference(answer, all.answer))),
        7,
      ),
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

interface Planned {
  readonly chain: readonly Unit[]
  readonly windowBytes?: number | undefined
  readonly readBytesPerSecond?: number | undefined
  readonly memoryBytes: number
  readonly latencyMs: number
  readonly inputs: Unit['inputs']
  readonly outputs: readonly string[]
}

async function plans(dir: string, name: string) {
  const zoo = openZoo(dir)
  const device = thisDevice().key
  const store = openProfiles(zoo.profilesPath)
  const planner = openPlanner(zoo, store, device)
  const builder = new Builder(0)
  const unitFiles = new UnitFiles({ zoo, builder, background: builder, device })
  try {
    const manifest = await zoo.manifest(modelId(name))
    const [own] = predictors(store, manifest, device)
    if (!own) throw new Error(`${name} is not profiled on this device`)
    const weightBytes = manifest.blocks
      .flatMap(({ descendants }) => descendants.filter(({ id }) => id === ORIGINAL))
      .reduce((sum, { file }) => sum + file.bytes, 0)
    const originals = own.predictor.descendants.filter(({ descendant }) => descendant === ORIGINAL)
    const computing = Math.max(...originals.map(({ anonymousBytes }) => anonymousBytes))
    const limitBytes = Math.round(computing + SHARE * weightBytes)
    // The quality of the original is asked for, so that no smaller descendants help.
    const minQuality = own.predictor.originalQuality - 1e-3
    const planned = async (memoryBytes?: number): Promise<Planned> => {
      const { plan, chosen } = await planner.plan({
        wishes: [{ model: name, rate: 0, weight: 1, minQuality }],
        budget: { memoryBytes },
        workers: 1,
        current: new Map(),
      })
      const [found] = plan.models
      if (!found) throw new Error(`no plan fits: ${JSON.stringify(plan.infeasible)}`)
      const size = found.inputSize ?? manifest.sizes[0]!
      return {
        chain: await unitFiles.chain(manifest, chosen.get(name)!, size),
        ...found.streaming,
        ...found.predicted,
        inputs: modelInputs(manifest, size),
        outputs: manifest.outputs.map((output) => output.name),
      }
    }
    return { weightBytes, limitBytes, loaded: await planned(), streamed: await planned(limitBytes) }
  } finally {
    await builder.close()
    await planner.close()
    store.close()
  }
}

function identity({ name, type, dims }: Unit['inputs'][number]): Model {
  const fact = { type, dims: [...dims] }
  return {
    graph: {
      name: 'nothing',
      facts: new Map(),
      inputs: [{ name, fact }],
      outputs: [{ name: 'same', fact }],
      nodes: [node('Identity', [name], ['same'])],
      initializers: new Map(),
    },
    opsets: new Map([['', 13]]),
    irVersion: 8,
    producer: '',
    metadata: new Map(),
    functions: [],
  }
}

/** Greatest difference, relative to the greatest value: weights that are mapped are added up in another order than copied ones. */
function difference(answer: readonly number[], reference: readonly number[]): number {
  const scale = Math.max(...reference.map(Math.abs))
  return Math.max(...reference.map((value, i) => Math.abs(value - answer[i]!))) / scale
}
