import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Clock } from '../../src/base/index.ts'
import { silentLog } from '../../src/base/index.ts'
import { Engine } from '../../src/engine/index.ts'
import { Deployed } from '../../src/runtime/deployed.ts'
import type { Crowd, Done } from '../../src/runtime/scheduler.ts'
import type { Stage } from '../../src/runtime/stage.ts'
import { shiftToFused, swap } from '../../src/runtime/swap.ts'
import { Throughput } from '../../src/runtime/throughput.ts'
import type { Budget, RuntimeHappening } from '../../src/runtime/types.ts'
import type { Manifest } from '../../src/zoo/index.ts'
import { digitsOf, fusedOf, openStage, targetOf, toy, zeros } from './blocks.ts'

const folder = mkdtempSync(join(tmpdir(), 'throughput-'))
afterAll(() => rmSync(folder, { recursive: true }))
const engines = [new Engine(), new Engine()]
afterAll(() => Promise.all(engines.map((engine) => engine.close())))

let stage: Stage
let told: RuntimeHappening[]
let limits: Budget
let maxLatencyMs: number | undefined
let manifest: Manifest | undefined
let ms: number
let throughput: Throughput
/** what the scheduler would count of requests that come without end */
let crowd: Crowd

beforeEach(() => {
  stage = openStage(engines)
  told = []
  limits = {}
  maxLatencyMs = undefined
  manifest = undefined
  ms = 0
  crowd = { crowdedMs: 0, missed: 0, answered: 0 }
  stage.scheduler.crowd = () => crowd
  throughput = new Throughput({
    stage,
    deploying: {
      inTurn: (work) => work(),
      get limits() {
        return limits
      },
      manifest: () => manifest,
      maxLatencyMs: () => maxLatencyMs,
      plan: { id: 'plan-1', plan: { status: 'optimal', solveMs: 0, models: [], binding: [] } },
    },
    workers: engines.length,
    records: { decision: () => {} },
    tell: (happening) => told.push(happening),
    clock: { now: () => ms, monotonic: () => ms } as Clock,
    log: silentLog,
    intervalMs: 1e6,
  })
})
afterEach(async () => {
  await throughput.close()
  await stage.scheduler.close()
  await swap(stage, [], undefined)
  await Promise.all(stage.retiring)
  expect(stage.residents.bytes).toBe(0)
  expect(engines.flatMap(({ sessions }) => sessions)).toEqual([])
})

const free = (name: string) => ({ name, fact: { type: 'float32', dims: ['N', 4] } })
const request = (model: string) => stage.scheduler.submit({ model, feeds: zeros, outputs: ['y'], options: {} })

/** One look at a model that gave so many answers since the last one, others waiting all the time. */
async function lookAfter(answers: number): Promise<void> {
  crowd = { ...crowd, crowdedMs: crowd.crowdedMs + 100, answered: crowd.answered + answers }
  ms += 100
  await throughput.look()
}

const coresOf = (model: string) => (stage.replicas.get(model) ?? []).map(({ target }) => target.core)
const right = ({ deployed, result }: Done) => (result.outputs.y!.data as Float32Array)[0] === digitsOf(deployed)

describe('a model that cannot keep up', () => {
  it('runs on a further engine too, where that brings more answers', async () => {
    const a = await toy(folder, 'a', 2, 2)
    await swap(stage, [targetOf(a, [1, 2])], undefined)
    for (let i = 0; i < 4; i++) await lookAfter(2)
    expect(coresOf('a')).toEqual([1])
    for (let i = 0; i < 4; i++) await lookAfter(6)
    const done = await Promise.all(Array.from({ length: 8 }, () => request('a')))
    expect(new Set(done.map(({ deployed }) => deployed.target.core))).toEqual(new Set([0, 1]))
    expect(done.every(right)).toBe(true)
    expect(coresOf('a')).toEqual([1])
    expect(told[0]).toMatchObject({ kind: 'throughput', model: 'a', engines: 2 })
  })

  it('gives the engine back where it does not, and does not ask for it again', async () => {
    const a = await toy(folder, 'a', 2, 2)
    await swap(stage, [targetOf(a, [1, 2])], undefined)
    for (let i = 0; i < 4; i++) await lookAfter(3)
    expect(coresOf('a')).toEqual([1])
    for (let i = 0; i < 3; i++) await lookAfter(3)
    expect(coresOf('a')).toEqual([])
    for (let i = 0; i < 6; i++) await lookAfter(3)
    expect(coresOf('a')).toEqual([])
    expect(told.map((each) => each.kind === 'throughput' && each.engines)).toContain(2)
    expect(told.at(-1)).toMatchObject({ engines: 1 })
  })

  it('gets no engine that the memory limit, the cores or a swap have no room for', async () => {
    const a = await toy(folder, 'a', 2, 2)
    await swap(stage, [targetOf(a, [1, 2])], undefined)
    limits = { memoryBytes: 5999 }
    for (let i = 0; i < 6; i++) await lookAfter(2)
    expect(coresOf('a')).toEqual([])
    limits = { cores: 1 }
    for (let i = 0; i < 6; i++) await lookAfter(2)
    expect(coresOf('a')).toEqual([])
    limits = { memoryBytes: 6000 }
    for (const answers of [2, 6, 6, 6, 6]) await lookAfter(answers)
    expect(coresOf('a')).toEqual([1])
    // What is swapped in needs what the further engine has.
    await swap(stage, [targetOf(a, [2, 2])], 6000)
    expect(coresOf('a')).toEqual([])
    await Promise.all(stage.retiring)
    expect(stage.residents.bytes).toBe(4000)
  })

  it('answers by the plan in force on every engine, also after a swap', async () => {
    const [a, b] = [await toy(folder, 'a', 2, 2), await toy(folder, 'b', 1, 2)]
    await swap(stage, [targetOf(a, [1, 2])], undefined)
    for (let i = 0; i < 4; i++) await lookAfter(2)
    expect(coresOf('a')).toEqual([1])
    // The same choice under another plan stays on both, a changed one starts on one.
    await swap(stage, [targetOf(a, [1, 2], { plan: 'next' }), targetOf(b, [1])], undefined)
    expect(coresOf('a')).toEqual([1])
    const after = await Promise.all(Array.from({ length: 8 }, () => request('a')))
    expect(after.every(({ deployed }) => deployed.target.plan === 'next')).toBe(true)
    expect(new Set(after.map(({ deployed }) => deployed.target.core)).size).toBe(2)
    await swap(stage, [targetOf(a, [2, 2], { plan: 'last' }), targetOf(b, [1])], undefined)
    expect(coresOf('a')).toEqual([])
    expect((await request('a')).deployed.target.plan).toBe('last')
  })

  it('is fused on every engine', async () => {
    const a = await toy(folder, 'a', 2, 2)
    await swap(stage, [targetOf(a, [1, 2])], undefined)
    for (let i = 0; i < 4; i++) await lookAfter(2)
    await shiftToFused(stage, 'a', await fusedOf(folder, a, [1, 2], 2500), undefined)
    await lookAfter(6)
    expect(stage.replicas.get('a')!.map(({ gear }) => gear)).toEqual(['fused'])
    expect((await Promise.all(Array.from({ length: 8 }, () => request('a')))).every(right)).toBe(true)
  })

  it('slower than wished for on two engines goes back to one', async () => {
    const a = await toy(folder, 'a', 2, 2)
    await swap(stage, [targetOf(a, [1, 2])], undefined)
    for (let i = 0; i < 4; i++) await lookAfter(2)
    expect(coresOf('a')).toEqual([1])
    maxLatencyMs = 5
    for (let i = 0; i < 16; i++) stage.live.get('a')!.latencies.record(6)
    await lookAfter(6)
    expect(coresOf('a')).toEqual([])
    expect(told.at(-1)).toMatchObject({ why: expect.stringContaining('slower than is wished for') })
  })

  it('is known by pictures that were given up too', async () => {
    const a = await toy(folder, 'a', 2, 2)
    await swap(stage, [targetOf(a, [1, 2])], undefined)
    for (let i = 0; i < 4; i++) {
      crowd = { ...crowd, missed: crowd.missed + 3 }
      ms += 100
      await throughput.look()
    }
    expect(coresOf('a')).toEqual([1])
    // Nobody needs it for long: its memory is given back.
    for (let i = 0; i < 70; i++) {
      ms += 500
      await throughput.look()
    }
    expect(coresOf('a')).toEqual([])
  })

  it('gives its frames to the engine in batches where they take less time that way', async () => {
    const many = await toy(folder, 'many', 1, 2, ['N', 4])
    await swap(stage, [targetOf(many, [2], { core: 1 })], undefined)
    limits = { cores: 1 }
    manifest = { inputs: [free('x')], outputs: [free('y')] } as unknown as Manifest
    for (let i = 0; i < 8; i++) await lookAfter(3)
    // An adder of four numbers costs its call and nothing else.
    expect(stage.live.get('many')!.batch).toBeGreaterThan(1)
    expect(told.at(-1)).toMatchObject({ kind: 'throughput', engines: 1, batch: stage.live.get('many')!.batch })
    const done = await Promise.all(Array.from({ length: 12 }, () => request('many')))
    expect(Math.max(...done.map(({ frames }) => frames))).toBeGreaterThan(1)
    expect(done.every(right)).toBe(true)
  })
})

describe('an engine', () => {
  it('that a model has to itself is lent only while it has nothing to do', async () => {
    const [a, b] = [await toy(folder, 'a', 1, 2), await toy(folder, 'b', 1, 2)]
    await swap(stage, [targetOf(a, [1]), targetOf(b, [1], { core: 1 })], undefined)
    const { residents, target } = stage.live.get('a')!
    const held = await stage.residents.acquire(1, residents[0]!.unit)
    stage.replicas.set('a', [new Deployed({ ...target, core: 1 }, 'chain', [held], stage.residents)])
    const order: string[] = []
    const track = (name: string, done: Promise<Done>) =>
      done.then(({ deployed }) => void order.push(`${name}${deployed.target.core}`))
    // All in one turn of the loop: b takes its own engine, and everything of a that does not fit on its own waits.
    await Promise.all([
      ...Array.from({ length: 3 }, () => track('b', request('b'))),
      ...Array.from({ length: 3 }, () => track('a', request('a'))),
    ])
    expect(order.filter((each) => each.startsWith('b'))).toEqual(['b1', 'b1', 'b1'])
    expect(order.indexOf('a1') === -1 || order.indexOf('a1') > order.lastIndexOf('b1')).toBe(true)
  })
})

describe('a batch', () => {
  beforeEach(async () => {
    const many = await toy(folder, 'many', 1, 2, ['N', 4])
    await swap(stage, [targetOf(many, [2])], undefined)
    stage.live.get('many')!.runInBatches(4, 300)
  })
  const add = (value: number, more: object = {}) =>
    stage.scheduler.submit({
      model: 'many',
      feeds: () => ({ x: { type: 'float32', dims: [1, 4], data: Float32Array.of(value, value, value, value) } }),
      outputs: ['y'],
      options: {},
      ...more,
    })

  it('gives each request its own answer, and counts its memory until it is given up', async () => {
    expect(stage.residents.bytes).toBe(2300)
    const done = await Promise.all([10, 20, 30, 40, 50, 60].map((value) => add(value)))
    expect(done.map(({ result }) => [...(result.outputs.y!.data as Float32Array)][3])).toEqual([12, 22, 32, 42, 52, 62])
    // Two go to the engine at once; the other four waited.
    expect(done.map(({ frames }) => frames)).toEqual([1, 1, 4, 4, 4, 4])
    expect(done.map(({ frame }) => frame)).toEqual([0, 0, 0, 1, 2, 3])
  })

  it('takes only what has the same form, and waits for nobody whose deadline it breaks', async () => {
    const wide = { x: { type: 'float32', dims: [2, 4], data: new Float32Array(8) } } as const
    const [, , plain, two, kept, other] = await Promise.all([
      add(0),
      add(0),
      add(1),
      add(0, { feeds: () => wide }),
      add(3, { keep: true }),
      add(4),
    ])
    expect([plain, two, kept].map((each) => each!.frames)).toEqual([1, 1, 1])
    expect(two!.result.outputs.y!.dims).toEqual([2, 4])
    expect(other!.result.outputs.y!.data[0]).toBe(6)
    kept!.release()
    for (let i = 0; i < 16; i++) stage.live.get('many')!.latencies.record(1000)
    const hurried = await Promise.all([add(0), add(0), add(1, { options: { deadlineMs: 1500 } }), add(2)])
    expect(hurried.map(({ frames }) => frames)).toEqual([1, 1, 1, 1])
  })

  it('answers the others when one of its requests was given up or has no feeds', async () => {
    const controller = new AbortController()
    const failing = () => {
      throw new Error('no picture')
    }
    const results = [
      add(0),
      add(0),
      add(1),
      add(2, { options: { signal: controller.signal } }),
      add(3, { feeds: failing }),
      add(4),
    ]
    controller.abort()
    const settled = await Promise.allSettled(results)
    expect(settled.map(({ status }) => status === 'fulfilled')).toEqual([true, true, true, false, false, true])
  })
})
