import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openRuntime } from '../../src/runtime/index.ts'
import { type Serving, serve } from '../../src/server/index.ts'
import { CLASSIFIER, json, pictureOf, startService } from './serving.ts'
import { buildTinyZoo } from './tiny-zoo.ts'

let zoo: Awaited<ReturnType<typeof buildTinyZoo>>
let serving: Serving | undefined
beforeAll(async () => {
  zoo = await buildTinyZoo()
})
afterAll(async () => {
  await serving?.close()
  await zoo.remove()
})

const ask = async (path: string, init?: RequestInit) => {
  const response = await fetch(serving!.url + path, init)
  return { status: response.status, ...(await json(response)) }
}

it('a service whose stored workloads do not fit any more says so, until they do', async () => {
  const first = await openRuntime({ zoo: zoo.dir, models: [CLASSIFIER], workers: 1 })
  await first.close()
  const path = join(zoo.dir, 'workloads.json')
  const stored = JSON.parse(await readFile(path, 'utf8')) as object
  await writeFile(path, JSON.stringify({ ...stored, budget: { memoryBytes: 10 } }))

  serving = await serve(await openRuntime({ zoo: zoo.dir, workers: 1 }), { port: 0 })
  for (const at of ['/health/ready', '/v2/health/ready']) {
    expect(await ask(at)).toMatchObject({ status: 503, ready: false, reason: expect.stringContaining(CLASSIFIER) })
  }
  expect(await ask('/health/live')).toMatchObject({ status: 200, live: true })
  expect(await ask('/v1/plan')).toMatchObject({ models: [], unserved: [{ model: CLASSIFIER }] })
  expect(await ask(`/v1/models/${CLASSIFIER}`)).toMatchObject({
    loaded: false,
    reason: expect.stringMatching(/memory/),
  })
  expect(await ask(`/v2/models/${CLASSIFIER}/ready`)).toMatchObject({ status: 503, ready: false })

  await ask('/v1/budget', { method: 'PUT', body: '{}' })
  await ask('/v1/workloads/door', { method: 'PUT', body: JSON.stringify({ model: CLASSIFIER }) })
  expect(await ask('/health/ready')).toEqual({ status: 200, ready: true })
  expect(await ask(`/v2/models/${CLASSIFIER}/ready`)).toMatchObject({ status: 200, ready: true })
})

it('a service with a model that has lost its engine is not ready, and goes on answering', async () => {
  const service = await startService({}, (runtime) => ({
    ...runtime,
    live() {
      const live = runtime.live()
      return { ...live, models: live.models.map((each) => ({ ...each, state: 'failed' as const })) }
    },
  }))
  const ready = await fetch(`${service.url}/health/ready`)
  expect([ready.status, ready.headers.get('retry-after')]).toEqual([503, '1'])
  expect((await json(ready)).reason).toMatch(/engine/)
  const body = await pictureOf('jpeg')
  expect((await fetch(`${service.url}/v1/models/${CLASSIFIER}/predict`, { method: 'POST', body })).status).toBe(200)
})
