import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { modelId } from '../../src/base/index.ts'
import { openSession } from '../../src/engine/index.ts'
import { openRuntime } from '../../src/runtime/index.ts'
import { type Answer, answerPicture } from '../../src/tasks/index.ts'
import { decodePicture } from '../../src/tensor/index.ts'
import { openZoo } from '../../src/zoo/index.ts'
import { buildTinyZoo, CLASSIFIER, DETECTOR } from '../server/tiny-zoo.ts'
import { call, calling } from './calling.ts'
import { temporaryFolder, writePictures } from './tiny-model.ts'

const folder = await temporaryFolder()
let zoo: string
let pictures: string[]
let remove: () => Promise<void>

beforeAll(async () => {
  const built = await buildTinyZoo()
  zoo = built.dir
  remove = built.remove
  pictures = await writePictures(join(folder, 'pictures'), 12)
})
afterAll(() => remove())

describe('run', () => {
  test('answers for pictures, in the form of the service', async () => {
    const { code, json } = await call('run', CLASSIFIER, pictures[0]!, pictures[1]!, '--zoo', zoo, '--json')
    expect(code).toBe(0)
    const answers = json<Record<string, unknown>[]>()
    expect(answers.map(({ picture }) => picture)).toEqual(pictures.slice(0, 2))
    expect(answers[0]).toMatchObject({
      width: 32,
      height: 32,
      labels: expect.any(Array),
      latencyMs: expect.any(Number),
    })
  })

  test('one unreadable picture among good ones is told; the others are answered; the exit code is 1', async () => {
    const bad = join(folder, 'bad.jpg')
    await writeFile(bad, 'no picture')
    const { code, stderr, json } = await call(
      'run',
      DETECTOR,
      pictures[0]!,
      bad,
      join(folder, 'gone.jpg'),
      pictures[1]!,
      '--zoo',
      zoo,
      '--json',
    )
    expect(code).toBe(1)
    expect(json<object[]>()).toHaveLength(2)
    const codes = stderr
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { error: { code: string } }).error.code)
    expect(codes).toEqual(['PICTURE_UNREADABLE', 'NOT_FOUND'])
  })

  test('draws: one file, or a folder for several', async () => {
    const one = join(folder, 'drawn.png')
    expect((await call('run', DETECTOR, pictures[0]!, '--zoo', zoo, '--draw', one)).code).toBe(0)
    expect(await decodePicture(one)).toMatchObject({ width: 32, height: 32 })
    const several = join(folder, 'drawn')
    expect((await call('run', DETECTOR, join(folder, 'pictures'), '--zoo', zoo, '--draw', several)).code).toBe(0)
    expect(await readdir(several)).toHaveLength(12)
    const clash = await call('run', DETECTOR, pictures[0]!, pictures[1]!, '--zoo', zoo, '--draw', join(folder, 'x.png'))
    expect([clash.code, clash.stderr]).toEqual([2, expect.stringContaining('2 pictures')])
  })
})

test('eval --json prints exactly the fields of the contract', async () => {
  const images = join(folder, 'pictures')
  const original = await call('eval', CLASSIFIER, '--zoo', zoo, '--images', images, '--json')
  expect(original.code).toBe(0)
  const figures = original.json<Record<string, number>>()
  expect(Object.keys(figures)).toEqual(['model', 'metric', 'quality', 'fidelity', 'latencyMs', 'memoryBytes', 'images'])
  expect(figures).toMatchObject({ model: CLASSIFIER, metric: 'top1-agreement', quality: 1, fidelity: 1, images: 12 })
  expect(figures.latencyMs).toBeGreaterThan(0)
  const chosen = (
    await call('eval', CLASSIFIER, '--zoo', zoo, '--images', images, '--choose', 'b1=slim', '--json')
  ).json<typeof figures>()
  expect(chosen.fidelity).toBeLessThanOrEqual(1)
  const wrong = await call('eval', CLASSIFIER, '--zoo', zoo, '--images', images, '--choose', 'b1=tiny')
  expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('it has original, slim')])
})

test('with labels, eval prints the classes, the worst first, and leaves unreadable pictures out', async () => {
  const labelled = join(folder, 'labelled')
  for (const [i, label] of ['Red', 'green'].entries()) await writePictures(join(labelled, label), 4, i)
  await writeFile(join(labelled, 'Red', 'broken.png'), 'no picture')
  const { code, stdout, stderr } = await call('eval', CLASSIFIER, '--zoo', zoo, '--images', labelled)
  expect(code).toBe(0)
  expect(stdout).toMatch(/top1 .*\n[\s\S]*pictures +8\n[\s\S]*class +top1 +count/)
  expect(stderr).toContain('left out')
  const none = await call('eval', CLASSIFIER, '--zoo', zoo, '--images', join(zoo, CLASSIFIER, 'blocks'))
  expect([none.code, none.stderr]).toEqual([1, expect.stringContaining('holds no JPEG, PNG or WebP picture')])
})

test('an exported model answers like the runtime with the same choice', async () => {
  const manifest = await openZoo(zoo).manifest(modelId(CLASSIFIER))
  const file = join(folder, 'exported.onnx')
  const exported = await call('export', CLASSIFIER, '--zoo', zoo, '--choose', 'b1=slim,b2=slim', '-o', file, '--json')
  expect(exported.code).toBe(0)
  expect(exported.json()).toMatchObject({ file, choices: { b0: 'original', b1: 'slim', b2: 'slim' } })
  const session = await openSession(await readFile(file))
  const runtime = await openRuntime({ zoo, models: [CLASSIFIER], budget: { memoryBytes: 950_000 }, workers: 1 })
  try {
    const [live] = runtime.live().models
    const chosen = live!.blocks.map(({ id, descendant }) => `${id}=${descendant}`).join(',')
    await call('export', CLASSIFIER, '--zoo', zoo, '--choose', chosen, '-o', file)
    const same = await openSession(await readFile(file))
    const picture = await decodePicture(pictures[3]!)
    const answer = (await answerPicture(picture, manifest.card, (feeds) => same.run(feeds))) as Answer & {
      labels: { score: number }[]
    }
    const served = (await runtime.predict(CLASSIFIER, picture)).answer as typeof answer
    expect(answer.labels.map(({ score }) => score)).toEqual(served.labels.map(({ score }) => expect.closeTo(score, 6)))
    await same.release()
  } finally {
    await runtime.close()
    await session.release()
  }
})

describe('inspect', () => {
  test('rows as JSON, as CSV with all columns, as a table that reads well', async () => {
    const rows = (await call('inspect', 'descendants', '--zoo', zoo, '--json')).json<Record<string, unknown>[]>()
    expect(rows).toHaveLength(18)
    const csv = (await call('inspect', 'descendants', '--zoo', zoo, '--csv')).stdout.trim().split('\n')
    expect(csv).toHaveLength(19)
    expect(csv[0]).toBe(Object.keys(rows[0]!).join(','))
    const { stdout } = await call('inspect', 'descendants', '--zoo', zoo)
    expect(stdout).toMatch(/model +block +descendant/)
    expect(stdout).not.toContain('sha256')
  })

  test('takes a statement that reads, and no other', async () => {
    const query = 'SELECT count(*) AS blocks FROM blocks'
    expect((await call('inspect', '--sql', query, '--zoo', zoo, '--json')).json()).toEqual([{ blocks: 9 }])
    for (const wrong of ['DELETE FROM blocks', 'SELECT nonsense']) {
      expect((await call('inspect', '--sql', wrong, '--zoo', zoo)).code).toBe(2)
    }
    expect((await call('inspect', 'weather', '--zoo', zoo)).code).toBe(2)
    expect((await call('inspect', '--sql', query, '--zoo', zoo, '--json')).json()).toEqual([{ blocks: 9 }])
  })
})

test('frontier: more cost is never worse, and the drawing is a picture', async () => {
  const svg = join(folder, 'frontier.svg')
  const { code, json } = await call('frontier', CLASSIFIER, '--zoo', zoo, '--svg', svg, '--json')
  expect(code).toBe(0)
  const frontier = json<Record<'latency' | 'memory', { quality: number; latencyMs: number; memoryBytes: number }[]>>()
  for (const [axis, cost] of [
    ['latency', 'latencyMs'],
    ['memory', 'memoryBytes'],
  ] as const) {
    const points = frontier[axis]
    expect(points.length).toBeGreaterThan(1)
    for (let i = 1; i < points.length; i++) {
      expect(points[i]!.quality).toBeGreaterThan(points[i - 1]!.quality)
      expect(points[i]![cost]).toBeGreaterThan(points[i - 1]![cost])
    }
  }
  expect(await readFile(svg, 'utf8')).toMatch(/^<svg [\s\S]*<\/svg>\n$/)
})

test('what a point of the frontier takes is a budget that a plan fits in', async () => {
  const { json } = await call('frontier', CLASSIFIER, '--zoo', zoo, '--points', '3', '--json')
  for (const { memoryBytes } of json<{ memory: { memoryBytes: number }[] }>().memory) {
    const { code } = await call('plan', CLASSIFIER, '--zoo', zoo, '--memory', `${memoryBytes}`, '--json')
    expect([memoryBytes, code]).toEqual([memoryBytes, 0])
  }
})

test('frontier of two models: each point is a combination of both, and few points are asked for', async () => {
  const { code, json } = await call('frontier', CLASSIFIER, DETECTOR, '--zoo', zoo, '--points', '4', '--json')
  expect(code).toBe(0)
  const { models, memory, tolerance } = json<{
    models: string[]
    memory: {
      quality: number
      memoryBytes: number
      models: { model: string; quality: number; memoryBytes: number }[]
    }[]
    tolerance: number
  }>()
  expect(models).toEqual([CLASSIFIER, DETECTOR])
  expect(tolerance).toBe(0)
  expect(memory.length).toBeGreaterThan(1)
  expect(memory.length).toBeLessThanOrEqual(4)
  for (const point of memory) {
    expect(point.models.map(({ model }) => model)).toEqual(models)
    expect(point.memoryBytes).toBe(point.models[0]!.memoryBytes + point.models[1]!.memoryBytes)
    expect(point.quality).toBeCloseTo((point.models[0]!.quality + point.models[1]!.quality) / 2, 12)
  }
})

test('serve answers until it is interrupted, then ends with 0', async () => {
  const serving = calling(['serve', '--zoo', zoo, '--port', '0', '--workers', '1', '--log', 'error', '--json'])
  while (serving.texts.stdout === '') await new Promise((wait) => setTimeout(wait, 20))
  const { url, models } = JSON.parse(serving.texts.stdout) as { url: string; models: string[] }
  expect(models).toContain(CLASSIFIER)
  const body = await readFile(pictures[0]!)
  const answer = await fetch(`${url}/v1/models/${CLASSIFIER}/predict`, {
    method: 'POST',
    headers: { 'content-type': 'image/png' },
    body,
  })
  expect(answer.status).toBe(200)
  serving.interrupt()
  const { code, stderr } = await serving.done
  expect([code, stderr]).toEqual([0, 'finishing what was accepted\n'])
  await expect(fetch(url)).rejects.toThrow()
})
