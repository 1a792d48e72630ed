import { beforeAll, describe, expect, it } from 'vitest'
import { CLASSIFIER, DETECTOR, FACES, json, pictureOf, type Service, startService } from './serving.ts'
import { GRID } from './tiny-zoo.ts'

let service: Service
let jpeg: Uint8Array<ArrayBuffer>
beforeAll(async () => {
  service = await startService()
  jpeg = await pictureOf('jpeg', 640, 480)
})

interface Found {
  readonly confidence: number
  readonly label: string
  readonly x_min: number
  readonly y_min: number
  readonly x_max: number
  readonly y_max: number
}

function form(fields: Record<string, string> = {}, name = 'frame.jpg', first = true): FormData {
  const data = new FormData()
  if (first) data.append('image', new Blob([jpeg]), name)
  for (const [key, value] of Object.entries(fields)) data.append(key, value)
  if (!first) data.append('image', new Blob([jpeg]), name)
  return data
}
const post = (path: string, body: FormData | Uint8Array<ArrayBuffer> = form()) =>
  fetch(service.url + path, { method: 'POST', body })

describe('detection for recorders', () => {
  it('gives the best twenty, best first, in whole pixels of the picture, labels in lower case', async () => {
    const response = await post('/v1/vision/detection', form({ min_confidence: '0.1' }))
    expect(response.status).toBe(200)
    const answer = (await json(response)) as { success: boolean; predictions: Found[]; count: number; duration: number }
    expect(answer).toMatchObject({ success: true, count: 20, code: 200, command: 'detect', inferenceDevice: 'CPU' })
    expect(Number.isInteger(answer.duration)).toBe(true)
    expect(answer.predictions[0]).toEqual({
      confidence: expect.closeTo(0.95, 3),
      label: 'person',
      x_min: 0,
      y_min: 0,
      x_max: 64,
      y_max: 48,
    })
    expect(answer.predictions[2]!.label).toBe('traffic light')
    answer.predictions.forEach((each, i) => {
      expect(each.confidence).toBeCloseTo(GRID[i]!.score, 3)
      const [x1, y1, x2, y2] = GRID[i]!.box
      const pixels = [each.x_min, each.y_min, each.x_max, each.y_max]
      expect(pixels).toEqual([x1 * 640, y1 * 480, x2 * 640, y2 * 480].map(Math.round))
    })
  })

  it('leaves out what is less certain than 0.4, or than min_confidence', async () => {
    const count = async (fields: Record<string, string>) =>
      ((await json(await post('/v1/vision/detection', form(fields)))) as { count: number }).count
    expect(await count({})).toBe(GRID.filter((each) => each.score >= 0.4).length)
    expect(await count({ min_confidence: '' })).toBe(GRID.filter((each) => each.score >= 0.4).length)
    expect(await count({ min_confidence: '0.9' })).toBe(GRID.filter((each) => each.score >= 0.9).length)
    expect(await count({ min_confidence: '0.99' })).toBe(0)
    expect((await post('/v1/vision/detection', form({ min_confidence: 'high' }))).status).toBe(400)
  })

  it('takes fields in any order, odd file names, and the bare picture', async () => {
    for (const body of [
      form({ min_confidence: '0.5', api_key: '' }, '../../é "x".exe', false),
      form({}, 'image'),
      jpeg,
    ]) {
      expect(await json(await post('/v1/vision/detection', body))).toMatchObject({ success: true })
    }
  })

  it('says it in its own shape when there is no picture', async () => {
    const empty = new FormData()
    empty.append('min_confidence', '0.4')
    const text = new FormData()
    text.append('image', new Blob(['hello']), 'frame.jpg')
    for (const body of [empty, text]) {
      const response = await post('/v1/vision/detection', body)
      expect(response.status).toBe(400)
      expect(await json(response)).toMatchObject({ success: false, error: 'No valid image file found', duration: 0 })
    }
  })
})

describe('the other routes of recorders', () => {
  it('faces are found, without labels, clipped to the picture', async () => {
    const answer = await json(await post('/v1/vision/face'))
    const { predictions } = answer as unknown as { predictions: Found[] }
    expect(answer).toMatchObject({ count: 1, message: 'Found 1 face', command: 'face' })
    expect(predictions).toEqual([
      { confidence: expect.closeTo(0.9, 3), x_min: 160, y_min: 120, x_max: 480, y_max: 480 },
    ])
  })

  it('a scene has one label', async () => {
    const scene = (await json(await post('/v1/vision/scene'))) as { label: string; confidence: number }
    expect(scene).toMatchObject({ success: true, label: expect.stringMatching(/^(red|green|blue|grey)$/) })
    expect(scene.confidence).toBeGreaterThan(0.25)
  })

  it('custom models are listed and asked by name', async () => {
    const list = (await json(await post('/v1/vision/custom/list', new FormData()))) as { models: string[] }
    expect(list.models.sort()).toEqual([CLASSIFIER, DETECTOR, FACES])
    expect((await fetch(`${service.url}/v1/vision/custom/list`, { method: 'POST' })).status).toBe(200)
    expect(await json(await post(`/v1/vision/custom/${DETECTOR}`))).toMatchObject({ success: true, command: 'custom' })
    expect(await json(await post(`/v1/vision/custom/${CLASSIFIER}`, form({ min_confidence: '0' })))).toMatchObject({
      count: 4,
    })
    const unknown = await post('/v1/vision/custom/nobody')
    expect(unknown.status).toBe(404)
    expect(await json(unknown)).toMatchObject({ success: false, error: expect.any(String) })
  })

  it('pings', async () => {
    expect(await json(await fetch(`${service.url}/v1/server/status/ping`))).toMatchObject({ success: true })
  })

  it('says so when no model for it is loaded', async () => {
    await service.runtime.unload(FACES)
    const response = await post('/v1/vision/face')
    expect(response.status).toBe(404)
    expect(await json(response)).toMatchObject({ success: false })
    await service.runtime.load(FACES)
  })
})
