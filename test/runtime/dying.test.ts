import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openRuntime, type Runtime, type RuntimeEvent } from '../../src/runtime/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { answersRightly, removeBusy } from './damaging.ts'
import { buildMini, DIMS } from './mini-zoo.ts'

let folder: string
let runtime: Runtime
/** The threads of this process in the order in which they were started: engines come first. */
const threads: Worker[] = []
const events: RuntimeEvent[] = []
const note = (thread: Worker) => threads.push(thread)
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blockscale-dying-'))
  await buildMini(folder, 'one')
  await buildMini(folder, 'two')
  process.on('worker', note)
  runtime = await openRuntime({ zoo: folder, workers: 2, models: ['one', 'two'] })
  runtime.events((event) => events.push(event))
})
afterAll(async () => {
  process.off('worker', note)
  await runtime.close()
  await rm(folder, { recursive: true, force: true })
})

/** As long as a busy machine needs to start a thread and to compile. */
const until = async (happened: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + 240_000
  while (!(await happened()) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20))
}

const coreOf = (model: string) => runtime.live().models.find((each) => each.model === model)!.core

it('a thread that dies under load costs no picture its answer, and the other model never notices', async () => {
  expect(coreOf('one')).not.toBe(coreOf('two'))
  let goesOn = true
  const counts = { one: 0, two: 0, tensors: 0, lost: 0 }
  const faults: string[] = []
  const camera = async (model: 'one' | 'two') => {
    while (goesOn) {
      const isRight = await answersRightly(runtime, model).catch((error: Error) => error.message)
      if (isRight === true) counts[model]++
      else faults.push(`${model}: ${isRight}`)
    }
  }
  // Tensors went with the thread: those who sent them are told to send them again.
  const sender = async () => {
    while (goesOn) {
      const x = floats(DIMS, new Float32Array(192))
      const code = await runtime.infer('one', { x }).then(
        () => 'answered',
        (error: { code: string }) => error.code,
      )
      if (code === 'answered') counts.tensors++
      else if (code === 'ENGINE_LOST') counts.lost++
      else faults.push(code)
    }
  }
  const load = Promise.all([camera('one'), camera('one'), camera('two'), sender(), sender()])
  for (let deaths = 1; deaths <= 3; deaths++) {
    await new Promise((resolve) => setTimeout(resolve, 300))
    // What no engine knows is an error that nobody catches there.
    const replaced = () => events.filter(({ kind }) => kind === 'engine-replaced').length
    engineThread(coreOf('one')).postMessage({ kind: 'nonsense' })
    await until(() => replaced() >= deaths)
    expect(replaced()).toBe(deaths)
    const answered = counts.one
    await until(() => counts.one >= answered + 5)
    expect(counts.one).toBeGreaterThanOrEqual(answered + 5)
  }
  const least = () => Math.min(counts.one, counts.two, counts.tensors)
  await until(() => least() > 10)
  goesOn = false
  await load
  expect(faults).toEqual([])
  expect(least()).toBeGreaterThan(10)
  expect(runtime.statistics().engines.map(({ replaced }) => replaced)[coreOf('two')]).toBe(0)
  const told = events.filter((event) => event.kind === 'engine-replaced')
  expect(told).toMatchObject(Array(3).fill({ core: coreOf('one'), why: expect.stringContaining('nonsense') }))
  expect(told.reduce((sum, { requests }) => sum + requests, 0)).toBeGreaterThanOrEqual(counts.lost)
  expect(runtime.live().models.every(({ state }) => state === 'ready')).toBe(true)
})

it('a thread that dies when its files are gone gets them compiled anew', async () => {
  expect(await answersRightly(runtime, 'one')).toBe(true)
  await removeBusy(join(folder, '.device'))
  engineThread(coreOf('one')).postMessage({ kind: 'nonsense' })
  let isRight = false
  await until(async () => {
    isRight = await answersRightly(runtime, 'one').catch(() => false)
    return isRight
  })
  expect(isRight).toBe(true)
  expect(await answersRightly(runtime, 'two')).toBe(true)
})

/** The newest thread of an engine: the first threads are those of the engines, those that took their place came after the solver's. */
function engineThread(core: number): Worker {
  const alive = threads.filter(({ threadId }) => threadId !== -1)
  const replaced = runtime.statistics().engines[core]!.replaced
  return replaced === 0 ? threads[core]! : alive.at(-1)!
}
