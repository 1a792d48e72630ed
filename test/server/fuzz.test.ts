import { beforeAll, expect, it } from 'vitest'
import { brokenPictures } from './broken-pictures.ts'
import { fuzz } from './fuzzing.ts'
import { CLASSIFIER, json, type Service, startService } from './serving.ts'

let service: Service
beforeAll(async () => {
  service = await startService()
})

it('random requests to every route: never a 5xx but 503', async () => {
  const { requests, statuses } = await fuzz(service, 400, 20211)
  expect(requests).toBeGreaterThanOrEqual(400)
  // Both what is right and what is wrong gets through to the routes.
  for (const status of [200, 400, 404]) expect(statuses.get(status), `${status}`).toBeGreaterThan(0)
})

it('HEAD of the events is answered, where it waited for the end of a stream', async () => {
  const response = await fetch(`${service.url}/v1/events`, { method: 'HEAD' })
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8'])
})

it('a hundred kinds of broken pictures: read, or refused as what they are', async () => {
  await service.runtime.load(CLASSIFIER)
  const pictures = await brokenPictures()
  expect(pictures.length).toBeGreaterThanOrEqual(100)
  for (const { how, bytes } of pictures) {
    const body = new Uint8Array(bytes)
    const response = await fetch(`${service.url}/v1/models/${CLASSIFIER}/predict`, { method: 'POST', body })
    expect([200, 400, 413], how).toContain(response.status)
    const answer = await json(response)
    if (response.status === 200) continue
    expect(answer, how).toMatchObject({ error: { code: expect.stringMatching(/^PICTURE_|^USAGE$/) } })
  }
})
