import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { modelId, sha256, silentLog } from '../../src/base/index.ts'
import type { Plan } from '../../src/optimizer/index.ts'
import { openProfiles, thisDevice } from '../../src/profiles/index.ts'
import { openRuntime, type Runtime, type RuntimeOptions } from '../../src/runtime/index.ts'
import { PlanMemory } from '../../src/runtime/plan-memory.ts'
import { openZoo } from '../../src/zoo/index.ts'
import { answersRightly, removeBusy } from './damaging.ts'
import { buildMini } from './mini-zoo.ts'

let root: string
let kept: string
let dir: string
let runtime: Runtime | undefined
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'blockscale-plans-'))
  kept = join(root, 'kept')
  await buildMini(kept, 'one')
  const first = await openRuntime({ zoo: kept, workers: 1, models: ['one'] })
  await first.close()
})
afterAll(() => removeBusy(root))
beforeEach(async () => {
  dir = await mkdtemp(join(root, 'zoo-'))
  await cp(kept, dir, { recursive: true })
})
afterEach(async () => {
  await runtime?.close()
  runtime = undefined
})

async function start(options: Partial<RuntimeOptions> = {}): Promise<string[]> {
  await runtime?.close()
  runtime = await openRuntime({ zoo: dir, workers: 1, ...options })
  expect(await answersRightly(runtime, 'one')).toBe(true)
  return runtime.live().models[0]!.blocks.map(({ descendant }) => descendant)
}

const path = () => join(dir, '.device', thisDevice().key, 'plans.json')

interface Loose {
  plan: { models: { core: number; choices: { block: string; descendant: string }[] }[] }
  chosen: [string, { block: string; descendant: string; memoryBytes: number }[]][]
}

/** Changes the plan that is kept, with the checksum that belongs to it. */
async function rewrite(change: (kept: Loose) => void): Promise<void> {
  const { plans } = JSON.parse(await readFile(path(), 'utf8')) as { plans: Loose[] }
  expect(plans).toHaveLength(1)
  change(plans[0]!)
  await writeFile(path(), JSON.stringify({ checksum: sha256(JSON.stringify(plans)), plans }))
}

/** No planner chooses this: who answers so took it from what is kept. */
const MARKED = ['original', 'd3', 'original']
const PLANNED = ['original', 'original', 'original']
const mark = (descendant = 'd3') =>
  rewrite(({ plan, chosen }) => {
    plan.models[0]!.choices[1]!.descendant = descendant
    chosen[0]![1][1]!.descendant = descendant
  })

describe('a start', () => {
  it('takes the plan of the last start where nothing has changed since, and says that it solved nothing', async () => {
    await mark()
    expect(await start()).toEqual(MARKED)
    expect(runtime!.live().plan).toMatchObject({ status: 'optimal', solveMs: 0 })
    expect(await start()).toEqual(MARKED)
  })

  it('after which something is asked for plans that', async () => {
    await mark()
    await start()
    await runtime!.putWorkload('camera', { model: 'one', maxLatencyMs: 6 })
    const { predicted } = runtime!.live().models[0]!
    expect(predicted.latencyMs).toBeLessThanOrEqual(6)
  })

  const changes: Record<string, () => Promise<Partial<RuntimeOptions>> | Partial<RuntimeOptions>> = {
    'another budget': () => ({ budget: { memoryBytes: 100e6 } }),
    'another number of engines': () => ({ workers: 2 }),
    'another wish': async () => {
      const text = await readFile(join(dir, 'workloads.json'), 'utf8')
      const { workloads, ...rest } = JSON.parse(text)
      workloads['default:one'].rate = 0.5
      await writeFile(join(dir, 'workloads.json'), JSON.stringify({ workloads, ...rest }))
      return {}
    },
    'a latency measured anew': () =>
      saved((store) => {
        const where = { model: modelId('one'), device: thisDevice().key }
        const [row] = store.measurements(where)
        store.saveMeasurements([{ ...row!, latencyP50Ms: row!.latencyP50Ms + 0.001 }])
      }),
    'a loss measured anew': () =>
      saved((store) => {
        const [row] = store.losses({ model: modelId('one') }).filter(({ descendant }) => descendant === 'd2')
        store.saveLosses([{ ...row!, qualityLoss: row!.qualityLoss * 1.01 }])
      }),
    'a whole measured anew': () =>
      saved((store) => {
        const [row] = store.combinations({ model: modelId('one') })
        store.saveCombinations([{ ...row!, measured: { ...row!.measured, quality: 0.91 } }])
      }),
    'another build': async () => {
      const zoo = openZoo(dir)
      await zoo.writeManifest({ ...(await zoo.manifest(modelId('one'))), builtWith: 'another' })
      return {}
    },
  }
  const saved = (change: (store: ReturnType<typeof openProfiles>) => void): Partial<RuntimeOptions> => {
    const store = openProfiles(join(dir, 'profiles.db'))
    change(store)
    store.close()
    return {}
  }
  it.each(Object.keys(changes))('plans anew after %s, and then remembers that as well', async (what) => {
    await mark()
    const options = await changes[what]!()
    expect(await start(options)).toEqual(PLANNED)
    expect(runtime!.live().plan.solveMs).toBeGreaterThan(0)
    expect(await start(options)).toEqual(PLANNED)
    expect(runtime!.live().plan.solveMs).toBe(0)
  })
})

describe('a start whose files are long in being read', () => {
  const whys = (): string[] => {
    const database = new Database(join(dir, 'profiles.db'), { readonly: true })
    const rows = database.prepare('SELECT why FROM plans ORDER BY rowid').all() as { why: string }[]
    database.close()
    return rows.map(({ why }) => why)
  }
  const asPlanned = () =>
    expect.poll(() => runtime!.live().models[0]!.blocks.map(({ descendant }) => descendant)).toEqual(PLANNED)
  const compiledFiles = async () => (await readdir(join(path(), '..'))).filter((name) => /^[0-9a-f]+\.ort$/.test(name))
  beforeEach(async () => {
    await rm(dir, { recursive: true })
    await buildMini(dir, 'one', 4, { largeOriginals: true })
    await start({ models: ['one'], readingMs: async () => 5000 })
    // Nothing is kept yet with which it could begin; all is compiled while the plan stays.
    expect(whys()).toHaveLength(1)
    await expect.poll(async () => (await compiledFiles()).length, { timeout: 20_000 }).toBe(12)
  })

  it('begins with small ones of a plan that is not much worse, answers with them, and goes on to what was planned', async () => {
    const asked: string[] = []
    await start({
      readingMs: async (paths) => {
        asked.push(...paths)
        return 5000
      },
    })
    await asPlanned()
    expect(await answersRightly(runtime!, 'one')).toBe(true)
    expect(asked.every((each) => each.endsWith('.ort'))).toBe(true)
    expect(whys().slice(1)).toEqual([expect.stringMatching(/read soonest/), expect.stringMatching(/planned is read/)])
    const { plans } = JSON.parse(await readFile(path(), 'utf8')) as { plans: { first: Loose }[] }
    const { choices } = plans[0]!.first.plan.models[0]!
    expect(choices.some(({ descendant }) => descendant !== 'original')).toBe(true)
  })

  it('but not where that is no sooner, nor where it would have to be compiled first', async () => {
    await start({ readingMs: async () => 100 })
    await asPlanned()
    expect(whys()).toHaveLength(2)
    await runtime!.close()
    for (const name of await compiledFiles()) await rm(join(path(), '..', name))
    await start({ readingMs: async () => 5000 })
    await asPlanned()
    expect(whys().slice(2)).toEqual(['the start'])
  })

  it('and what turns out to be damaged is no beginning', async () => {
    await runtime!.close()
    for (const block of ['b0', 'b1', 'b2']) {
      for (const descendant of ['d2', 'd3', 'd4']) await rm(join(dir, 'one', 'blocks', block, `${descendant}.onnx`))
    }
    for (const name of await compiledFiles()) {
      const bytes = await readFile(join(path(), '..', name))
      bytes[bytes.length >> 1]! ^= 1
      await writeFile(join(path(), '..', name), bytes)
    }
    await start({ readingMs: async () => 5000 })
    await asPlanned()
    expect(
      whys()
        .slice(1)
        .filter((why) => /planned is read/.test(why)),
    ).toEqual([])
    expect(whys().at(-1)).toBe('the start')
  })
})

it('keeps the plans of the last eight wishes', async () => {
  const memory = new PlanMemory(dir, silentLog)
  for (let wish = 0; wish < 9; wish++) memory.keep(`wish ${wish}`, { plan: NO_MODELS, chosen: new Map() })
  await memory.close()
  const { plans } = JSON.parse(await readFile(join(dir, 'plans.json'), 'utf8')) as { plans: { from: string }[] }
  expect(plans.map(({ from }) => from)).toEqual([8, 7, 6, 5, 4, 3, 2, 1].map((wish) => `wish ${wish}`))
  expect(await memory.recall('wish 0', new Map(), 1)).toBeUndefined()
  expect(await memory.recall('wish 1', new Map(), 1)).toMatchObject({ plan: NO_MODELS })
})
const NO_MODELS: Plan = { status: 'optimal', solveMs: 1, models: [], binding: [] }

describe('what is kept and cannot be right', () => {
  const damages: Record<string, () => Promise<unknown>> = {
    'is cut off': async () => writeFile(path(), (await readFile(path(), 'utf8')).slice(0, 300)),
    'was changed by hand': async () => writeFile(path(), (await readFile(path(), 'utf8')).replaceAll('"d3"', '"d2"')),
    'names a descendant that there is not': () => mark('d9'),
    'chooses another descendant than it counts': () =>
      rewrite(({ plan }) => {
        plan.models[0]!.choices[1]!.descendant = 'd9'
      }),
    'leaves a block out': () =>
      rewrite(({ plan, chosen }) => {
        plan.models[0]!.choices.pop()
        chosen[0]![1].pop()
      }),
    'names an engine that there is not': () =>
      rewrite(({ plan }) => {
        plan.models[0]!.core = 7
      }),
    'has a field of another kind': () =>
      rewrite(({ chosen }) => {
        chosen[0]![1][0]!.memoryBytes = 'much' as never
      }),
  }
  it.each(Object.keys(damages))('%s is passed over', async (how) => {
    await mark()
    await damages[how]!()
    expect(await start()).toEqual(PLANNED)
    expect(runtime!.live().plan.solveMs).toBeGreaterThan(0)
  })
})

describe('files', () => {
  const compiled = () => join(dir, '.device', thisDevice().key)
  const source = (block: string, descendant: string) => join(dir, 'one', 'blocks', block, `${descendant}.onnx`)

  /** Changes a byte in every compiled file that was made of a descendant's own number: its size stays. */
  async function flipCompiled(): Promise<number> {
    const files = (await readdir(compiled())).filter((name) => name.endsWith('.ort'))
    for (const name of files) {
      const bytes = await readFile(join(compiled(), name))
      bytes[bytes.length >> 1]! ^= 1
      await writeFile(join(compiled(), name), bytes)
    }
    return files.length
  }

  it('of a remembered plan that are damaged are made again', async () => {
    await mark()
    await start()
    await runtime!.close()
    expect(await flipCompiled()).toBeGreaterThan(2)
    expect(await start()).toEqual(MARKED)
  })

  it('of a remembered plan that cannot be made again are planned around, and nothing of the first try stays', async () => {
    await mark()
    await start()
    await runtime!.close()
    runtime = undefined
    await flipCompiled()
    const whole = await readFile(source('b1', 'd3'))
    await writeFile(source('b1', 'd3'), 'not a network')
    const kept = await readFile(path(), 'utf8')
    expect(await start()).toEqual(PLANNED)
    // The originals take 4 MB each, and d3 was being loaded between them.
    expect(runtime!.live().memory.plannedBytes).toBe(12e6)
    await runtime!.unload('one')
    expect(runtime!.live().memory.plannedBytes).toBe(0)
    await runtime!.close()
    runtime = undefined
    // What was planned without a damaged file is not what a start with all files is to take.
    expect(await readFile(path(), 'utf8')).toBe(kept)
    await writeFile(source('b1', 'd3'), whole)
    expect(await start({ models: ['one'] })).toEqual(MARKED)
  })
})

it('a start in a folder that cannot be kept in goes on', async () => {
  await rm(path())
  // A folder in the way of the file.
  await cp(join(dir, 'one', 'blocks'), path(), { recursive: true })
  expect(await start()).toEqual(PLANNED)
})
