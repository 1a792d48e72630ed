import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { openRuntime, type Runtime, type RuntimeOptions } from '../../src/runtime/index.ts'
import { answersRightly, copyBusy, removeBusy } from './damaging.ts'
import { buildMini } from './mini-zoo.ts'

let root: string
let kept: string
let dir: string
let runtime: Runtime | undefined
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'blockscale-standing-'))
  kept = join(root, 'kept')
  for (const model of ['one', 'two']) await buildMini(kept, model)
  // Compiled once for all tests.
  const first = await openRuntime({ zoo: kept, workers: 1, models: ['one', 'two'] })
  await first.close()
  await rm(join(kept, 'workloads.json'))
})
afterAll(() => rm(root, { recursive: true, force: true }))
beforeEach(async () => {
  dir = await mkdtemp(join(root, 'zoo-'))
  await cp(kept, dir, { recursive: true })
})
afterEach(async () => {
  await runtime?.close()
  runtime = undefined
})

async function open(options: Partial<RuntimeOptions> = {}): Promise<Runtime> {
  await runtime?.close()
  runtime = undefined
  runtime = await openRuntime({ zoo: dir, workers: 1, ...options })
  return runtime
}

async function damageBlock(): Promise<void> {
  for (const descendant of ['original', 'd2', 'd3', 'd4']) {
    await writeFile(join(dir, 'one', 'blocks', 'b2', `${descendant}.onnx`), 'not a network')
  }
  await removeBusy(join(dir, '.device'))
}
async function mend(): Promise<void> {
  for (const name of ['one', '.device']) await copyBusy(join(kept, name), join(dir, name))
}
const served = () =>
  runtime!
    .live()
    .models.map(({ model }) => model)
    .sort()
const stored = async () =>
  JSON.parse(await readFile(join(dir, 'workloads.json'), 'utf8')) as { budget: object; workloads: object }

it('all that is built is served where nothing was ever asked for, and what was asked for last time elsewhere', async () => {
  await open({ models: 'all' })
  expect(served()).toEqual(['one', 'two'])
  await runtime!.unload('one')
  await open({ models: 'all' })
  expect(served()).toEqual(['two'])
})

it('a start leaves out the model that is damaged and serves the others, until it is mended', async () => {
  await damageBlock()
  await open({ models: ['one', 'two'] })
  expect(served()).toEqual(['two'])
  const unserved = [{ id: 'default:one', model: 'one', why: expect.stringMatching(/block b2 of one is damaged/) }]
  expect(runtime!.live().unserved).toEqual(unserved)
  expect(runtime!.models().find(({ model }) => model === 'one')).toMatchObject({ loaded: false, reason: /b2 of one/ })
  expect(await answersRightly(runtime!, 'two')).toBe(true)

  await expect(runtime!.load('one')).rejects.toMatchObject({ code: 'ZOO_DAMAGED' })
  await runtime!.setBudget({ memoryBytes: 500e6 })
  expect(runtime!.live().unserved).toEqual(unserved)
  await open()
  expect([served(), runtime!.live().unserved]).toEqual([['two'], unserved])

  await mend()
  await runtime!.setBudget({})
  expect([served(), runtime!.live().unserved]).toEqual([['one', 'two'], []])
  expect(await answersRightly(runtime!, 'one')).toBe(true)
})

it('also a model whose manifest cannot be read, or that is gone; what applications asked for is not forgotten', async () => {
  await open({ models: 'all' })
  await runtime!.putWorkload('door', { model: 'one', rate: 2 })
  await runtime!.close()
  await writeFile(join(dir, 'one', 'manifest.json'), '{"format":1')
  await open()
  expect(served()).toEqual(['two'])
  expect(runtime!.live().unserved[0]).toMatchObject({ id: 'default:one', why: expect.stringMatching(/manifest\.json/) })

  await runtime!.close()
  await rm(join(dir, 'one'), { recursive: true })
  await open()
  expect(runtime!.live().unserved).toMatchObject(
    ['default:one', 'door'].map((id) => ({ id, why: expect.stringMatching(/^one is not built; .*build one/) })),
  )
  expect([...runtime!.workloads().keys()].sort()).toEqual(['default:one', 'default:two', 'door'])
  await runtime!.deleteWorkload('default:one')
  expect((await stored()).workloads).toMatchObject({ door: { model: 'one', rate: 2 } })
  expect(Object.keys((await stored()).workloads).sort()).toEqual(['default:two', 'door'])

  await mend()
  await runtime!.putWorkload('yard', { model: 'two' })
  expect(served()).toEqual(['one', 'two'])
})

it('a start that can serve nothing of what was asked for says why', async () => {
  await damageBlock()
  await expect(open({ models: ['one'] })).rejects.toMatchObject({ code: 'ZOO_DAMAGED' })
  await expect(open({ models: ['one', 'nobody'] })).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' })
  await expect(open({ models: ['one', 'two'], budget: { memoryBytes: 10 } })).rejects.toMatchObject({
    code: 'PLAN_INFEASIBLE',
  })
})

it('a stored budget into which nothing fits any more is kept, and said', async () => {
  await open({ models: 'all' })
  await runtime!.close()
  const { workloads } = await stored()
  await writeFile(join(dir, 'workloads.json'), JSON.stringify({ format: 1, budget: { memoryBytes: 10 }, workloads }))
  await open()
  expect([served(), runtime!.budget().memoryBytes, runtime!.live().unserved.length]).toEqual([[], 10, 2])
  expect(await stored()).toMatchObject({ budget: { memoryBytes: 10 }, workloads })
  await runtime!.setBudget({})
  expect([served(), runtime!.live().unserved]).toEqual([['one', 'two'], []])
})
