import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { Engine, type EngineResult, sharedNow } from '../../src/engine/index.ts'
import { Deployed } from '../../src/runtime/deployed.ts'
import type { Stage } from '../../src/runtime/stage.ts'
import { swap } from '../../src/runtime/swap.ts'
import type { RequestOptions } from '../../src/runtime/types.ts'
import type { Target, Unit } from '../../src/runtime/unit.ts'
import { floats } from '../../src/tensor/index.ts'
import { burner } from '../engine/tiny.ts'
import { ask, compile, openStage, targetOf, toy } from './blocks.ts'

const folder = mkdtempSync(join(tmpdir(), 'scheduler-'))
afterAll(() => rmSync(folder, { recursive: true }))

const engine = new Engine()
afterAll(() => engine.close())

let stage: Stage
let slow: Unit
beforeAll(async () => {
  const path = await compile(join(folder, 'slow.ort'), burner('x', 'y', 20))
  const border = (name: string) => [{ name, type: 'float32' as const, dims: [256, 256] }]
  const names = { key: 'slow', block: 'b0', descendant: 'd', kind: 'original' }
  slow = { ...names, path, fileBytes: 1, memoryBytes: 1, inputs: border('x'), outputs: border('y') }
})
afterEach(async () => {
  await stage.scheduler.close()
  await swap(stage, [], undefined)
  await Promise.all(stage.retiring)
})

const slowTarget = (model: string): Target => {
  const predicted = { quality: 1, latencyMs: 1, memoryBytes: 1 }
  return {
    model,
    plan: 'p',
    inputSize: [256, 256],
    core: 0,
    predicted,
    inputs: slow.inputs,
    outputs: slow.outputs,
    chain: [slow],
  }
}
const askSlow = (model: string, options: RequestOptions = {}) => {
  const feeds = () => ({ x: floats([256, 256], new Float32Array(65536)) })
  return stage.scheduler.submit({ model, feeds, outputs: ['y'], options })
}

it('refuses a model that is not loaded', async () => {
  stage = openStage([engine])
  await expect(ask(stage, 'nobody')).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' })
})

it('refuses at once when too many wait, and answers all that it accepted', async () => {
  stage = openStage([engine], { queueLimit: 3 })
  await swap(stage, [slowTarget('s')], undefined)
  const results = await Promise.allSettled(Array.from({ length: 9 }, () => askSlow('s')))
  const codes = results.map((result) => (result.status === 'rejected' ? result.reason.code : 'answered'))
  // Two are with the engine, three wait, the rest is refused.
  expect(codes).toEqual([...Array(5).fill('answered'), ...Array(4).fill('OVERLOADED')])
})

it('gives up requests whose deadline passes while they wait, and those that were cancelled', async () => {
  stage = openStage([engine])
  await swap(stage, [slowTarget('s')], undefined)
  const first = [askSlow('s'), askSlow('s')]
  const controller = new AbortController()
  const others = Promise.allSettled([askSlow('s', { deadlineMs: 1 }), askSlow('s', { signal: controller.signal })])
  controller.abort()
  const codes = (await others).map((result) => (result.status === 'rejected' ? result.reason.code : 'answered'))
  expect(codes).toEqual(['DEADLINE_EXCEEDED', 'CANCELLED'])
  await Promise.all(first)
  expect(stage.scheduler.queueLength('s')).toBe(0)
})

it('shares an engine by weight, however much one model asks', async () => {
  // Shares are of time: with a clock and an engine that nothing else disturbs, they show in the order of the answers.
  let time = 0
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => time)
  let last: Promise<unknown> = Promise.resolve()
  const run = (): Promise<EngineResult> => {
    const turn = last.then(() => {
      time += 20
      return { outputs: {}, startedAt: sharedNow() - 20, ms: 20, stepMs: [20] }
    })
    last = turn
    return turn
  }
  try {
    stage = openStage([{ run } as unknown as Engine], {
      queueLimit: 100,
      weight: (model) => (model === 'heavy' ? 3 : 1),
    })
    for (const model of ['light', 'heavy']) {
      stage.live.set(model, new Deployed(slowTarget(model), 'chain', [], stage.residents))
    }
    const order: string[] = []
    const camera = (model: string, count: number) =>
      Array.from({ length: count }, () => askSlow(model).then(() => order.push(model)))
    await Promise.all([...camera('light', 60), ...camera('heavy', 30)])
    // While both wait, heavy gets three of four turns.
    const during = order.slice(4, 36)
    expect(during.filter((model) => model === 'heavy').length / during.length).toBeCloseTo(3 / 4, 1)
  } finally {
    clock.mockRestore()
  }
})

it('holds back a paused model and only that one', async () => {
  stage = openStage([engine])
  const a = await toy(folder, 'a', 1, 1)
  await swap(stage, [slowTarget('s'), targetOf(a, [1])], undefined)
  await stage.scheduler.pause('a')
  const held = ask(stage, 'a')
  await askSlow('s')
  expect(stage.scheduler.queueLength('a')).toBe(1)
  stage.scheduler.resume('a')
  expect((await held).answer).toBe(1)
})

it('a request that cannot be prepared fails alone', async () => {
  stage = openStage([engine])
  const a = await toy(folder, 'a', 1, 1)
  await swap(stage, [targetOf(a, [1])], undefined)
  const feeds = () => {
    throw new Error('no such picture')
  }
  const failing = stage.scheduler.submit({ model: 'a', feeds, outputs: ['y'], options: {} })
  await expect(failing).rejects.toMatchObject({ code: 'INTERNAL', message: 'no such picture' })
  expect((await ask(stage, 'a')).answer).toBe(1)
})
