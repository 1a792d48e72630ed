import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openProfiles } from '../../src/profiles/index.ts'
import { openRuntime, PlanInfeasible, type Runtime, type RuntimeEvent } from '../../src/runtime/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { removeBusy } from './damaging.ts'
import { black, buildMini, DIMS, sumOf } from './mini-zoo.ts'

const zoo = mkdtempSync(join(tmpdir(), 'runtime-'))
afterAll(() => rmSync(zoo, { recursive: true }))

let runtime: Runtime
const events: RuntimeEvent[] = []
beforeAll(async () => {
  await buildMini(zoo, 'one')
  await buildMini(zoo, 'two')
  runtime = await openRuntime({ zoo, workers: 2 })
  runtime.events((event) => events.push(event))
})
afterAll(() => runtime.close())

const until = async (happened: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + 240_000
  while (!(await happened())) {
    if (Date.now() > deadline) throw new Error('it did not happen')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** The answer to a black picture, after it was compared with the descendants that are said to have given it. */
async function ask(model: string): Promise<{ plan: string; sum: number }> {
  const { answer, choices, plan } = await runtime.predict(model, black)
  const sum = answer.task === 'generic' ? Number(answer.outputs.y?.data[0]) : Number.NaN
  expect(sum).toBe(sumOf(choices))
  return { plan, sum }
}

describe('the runtime', () => {
  it('lists what is built, loaded or not', () => {
    expect(runtime.models()).toMatchObject([
      { model: 'one', task: 'generic', loaded: false, options: 64 },
      { model: 'two', loaded: false },
    ])
    expect(runtime.live()).toMatchObject({ id: '', models: [] })
  })

  it('refuses requests for what is not loaded, and workloads for what is not built', async () => {
    await expect(runtime.predict('one', black)).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' })
    await expect(runtime.putWorkload('w', { model: 'nobody' })).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' })
    await expect(runtime.putWorkload('w', { model: 'one', rate: Number.NaN })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(runtime.setBudget({ memoryBytes: -1 })).rejects.toMatchObject({ code: 'USAGE' })
  })

  it('answers with the best plan once a workload asks', async () => {
    const { plan, swap } = await runtime.putWorkload('door', { model: 'one' })
    expect(plan.models[0]!.choices.map(({ descendant }) => descendant)).toEqual(['original', 'original', 'original'])
    expect(swap).toMatchObject({ from: null, models: [{ model: 'one', changed: { length: 3 } }] })
    expect(await ask('one')).toMatchObject({ sum: 111, plan: swap!.to })
    expect(runtime.live().models).toMatchObject([{ model: 'one', state: 'ready', measured: { count: 1 } }])
  })

  it('fuses a plan that stays, with the same answers', async () => {
    // What nobody asks loses nothing by being cut.
    await until(async () => (await ask('one')) && runtime.live().models[0]?.gear === 'fused')
    expect(events).toContainEqual(expect.objectContaining({ kind: 'gear', model: 'one', gear: 'fused' }))
    expect(await runtime.predict('one', black)).toMatchObject({ gear: 'fused' })
    expect((await ask('one')).sum).toBe(111)
  })

  it('a smaller budget swaps to a smaller plan, and no request fails meanwhile', async () => {
    let swapping = true
    const sums = new Set<number>()
    const camera = (async () => {
      while (swapping) sums.add((await ask('one')).sum)
    })()
    const { plan, swap } = await runtime.setBudget({ memoryBytes: 8e6 })
    await until(() => runtime.live().models[0]?.gear === 'fused')
    swapping = false
    await camera
    expect(plan.totals!.memoryBytes).toBeLessThanOrEqual(8e6)
    expect(swap!.models[0]!.changed.length).toBeGreaterThan(0)
    expect(runtime.budget()).toMatchObject({ memoryBytes: 8e6 })
    expect(runtime.budget().usedBytes).toBeLessThanOrEqual(8e6)
    expect(sums.size).toBe(2)
  })

  it('two models share the budget', async () => {
    const { plan } = await runtime.putWorkload('yard', { model: 'two', weight: 2 })
    expect(plan.models).toHaveLength(2)
    expect(plan.totals!.memoryBytes).toBeLessThanOrEqual(8e6)
    await Promise.all([ask('one'), ask('two'), ask('one'), ask('two')])
    const [one, two] = plan.models
    expect(two!.predicted.quality).toBeGreaterThanOrEqual(one!.predicted.quality)
    expect(
      runtime
        .live()
        .models.map(({ core }) => core)
        .sort(),
    ).toEqual([0, 1])
  })

  it('an impossible budget says by how much, and everything stays as it was', async () => {
    const before = runtime.live()
    const refused = await runtime.setBudget({ memoryBytes: 1e6 }).catch((error) => error)
    expect(refused).toBeInstanceOf(PlanInfeasible)
    expect(refused).toMatchObject({
      code: 'PLAN_INFEASIBLE',
      // Both models streamed through a window of their smallest descendant.
      plan: { status: 'infeasible', infeasible: { constraint: 'memory', needs: 2e6, has: 1e6 } },
    })
    expect(runtime.live().id).toBe(before.id)
    expect(runtime.budget().memoryBytes).toBe(8e6)
    await ask('one')
  })

  it('a what-if changes nothing', async () => {
    const before = runtime.live().id
    const plan = await runtime.whatIf({ budget: { memoryBytes: 1e6 } })
    expect(plan).toMatchObject({ status: 'infeasible' })
    expect((await runtime.whatIf({ budget: {} })).totals!.memoryBytes).toBe(24e6)
    expect(runtime.live().id).toBe(before)
  })

  it('takes tensors, and refuses those that do not fit before an engine sees them', async () => {
    const zeros = () => floats(DIMS, new Float32Array(192))
    const { outputs, plan } = await runtime.infer('one', { x: zeros() })
    expect(outputs.y!.dims).toEqual(DIMS)
    expect(plan).toBe(runtime.live().id)
    const invalid = { code: 'TENSOR_INVALID' }
    await expect(runtime.infer('one', { q: zeros() })).rejects.toMatchObject(invalid)
    await expect(runtime.infer('one', {})).rejects.toMatchObject(invalid)
    await expect(runtime.infer('one', { x: floats([1, 4], [1, 2, 3, 4]) })).rejects.toMatchObject(invalid)
    await expect(runtime.infer('one', { x: zeros() }, ['z'])).rejects.toMatchObject(invalid)
  })

  it('counts what it did', () => {
    const { models, swaps } = runtime.statistics()
    const one = models.find(({ model }) => model === 'one')!
    expect(one.success.count).toBe(one.inferenceCount)
    expect(one.fail.count).toBe(4)
    expect(one.infer.ns).toBeGreaterThan(0)
    expect(swaps.count).toBe(3)
  })

  it('writes plans and swaps with their reasons', () => {
    const store = openProfiles(join(zoo, 'profiles.db'), { readOnly: true })
    const swaps = store.inspect('swaps')
    expect(swaps.length).toBeGreaterThanOrEqual(3)
    expect(swaps.map(({ why }) => why)).toContain('the budget is now 8.0 MB')
    expect(store.inspect('decisions').length).toBeGreaterThanOrEqual(1)
    store.close()
  })

  it('comes back after a restart with what was asked for', async () => {
    const before = runtime.live().plan.models.map(({ choices }) => choices)
    await runtime.close()
    await expect(runtime.predict('one', black)).rejects.toMatchObject({ code: 'OVERLOADED' })
    runtime = await openRuntime({ zoo, workers: 2 })
    expect([...runtime.workloads().keys()].sort()).toEqual(['door', 'yard'])
    expect(runtime.budget().memoryBytes).toBe(8e6)
    expect(runtime.live().plan.models.map(({ choices }) => choices)).toEqual(before)
    await ask('two')
  })

  it('lets a model go when nobody asks for it any more', async () => {
    await runtime.deleteWorkload('yard')
    await expect(runtime.predict('two', black)).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' })
    await expect(runtime.deleteWorkload('yard')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await runtime.unload('one')
    // A fused graph that was being made is let go when it is done.
    await expect.poll(() => runtime.budget().usedBytes, { timeout: 120_000 }).toBe(0)
    await runtime.load('one')
    await ask('one')
  })

  it('compiles again what was removed from the device folder', async () => {
    await runtime.unload('one')
    const device = join(zoo, '.device')
    for (const key of await readdir(device)) await removeBusy(join(device, key))
    await runtime.load('one')
    await ask('one')
  })
})

it('follows a trace of conditions, and says why', async () => {
  const other = mkdtempSync(join(tmpdir(), 'runtime-'))
  await buildMini(other, 'one')
  const trace = join(other, 'trace.json')
  writeFileSync(trace, '[{"atMs": 0, "memoryForModelsBytes": 64e6}, {"atMs": 500, "memoryForModelsBytes": 5e6}]')
  const following = await openRuntime({ zoo: other, workers: 1, models: ['one'], control: { trace } })
  const happened: RuntimeEvent[] = []
  following.events((event) => happened.push(event))
  expect(following.live().plan.totals!.memoryBytes).toBe(12e6)
  await until(() => happened.some(({ kind }) => kind === 'swap'))
  expect(following.live().plan.totals!.memoryBytes).toBeLessThanOrEqual(5e6)
  expect(following.budget().usedBytes).toBeLessThanOrEqual(5e6)
  const why = expect.stringContaining('the device leaves 5.00 MB for models')
  expect(happened).toContainEqual(expect.objectContaining({ kind: 'decision', decision: 'replan', why }))
  expect(happened).toContainEqual(expect.objectContaining({ kind: 'swap', swap: expect.objectContaining({ why }) }))
  await following.close()
  rmSync(other, { recursive: true })
})

it('a budget that cannot be kept is an error at the start', async () => {
  const other = mkdtempSync(join(tmpdir(), 'runtime-'))
  await buildMini(other, 'one')
  const opening = openRuntime({ zoo: other, workers: 1, models: ['one'], budget: { memoryBytes: 0.5e6 } })
  await expect(opening).rejects.toMatchObject({ code: 'PLAN_INFEASIBLE' })
  rmSync(other, { recursive: true })
})
