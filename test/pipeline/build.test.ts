import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { modelId, type Progress } from '../../src/base/index.ts'
import { writeModel } from '../../src/onnx/index.ts'
import {
  build,
  evaluate,
  fuseToBytes,
  openEvaluationSet,
  originalChoices,
  prepareItems,
} from '../../src/pipeline/index.ts'
import { openProfiles } from '../../src/profiles/index.ts'
import { openDataset } from '../../src/tasks/index.ts'
import { encodePng } from '../../src/tensor/index.ts'
import { type FoundModel, openZoo } from '../../src/zoo/index.ts'
import { tinyClassifier, tinyPicture } from './tiny-model.ts'

let folder: string
let found: FoundModel
let images: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blockscale-build-'))
  images = join(folder, 'images')
  await mkdir(images)
  for (let i = 0; i < 60; i++) await writeFile(join(images, `${i}.png`), await encodePng(tinyPicture(i)))
  await writeFile(join(images, 'broken.jpg'), 'this is no picture')
  const file = join(folder, 'tiny.onnx')
  await writeFile(file, writeModel(tinyClassifier()))
  found = { id: modelId('tiny'), file, folder }
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** Counts what is said, and may stop the build by throwing at a certain note. */
const listening = (stopAt?: RegExp): Progress & { readonly notes: string[] } => {
  const notes: string[] = []
  return {
    notes,
    step() {},
    advance() {},
    note(text) {
      notes.push(text)
      if (stopAt?.test(text)) throw new Error('interrupted')
    },
  }
}

describe('a build of a bare file with unlabelled pictures', () => {
  test('gives a zoo whose profiles, predictions and files belong together', async () => {
    const zoo = openZoo(join(folder, 'zoo'))
    const progress = listening()
    const report = await build(zoo, found, { images, blocks: 3, jobs: 2, progress })
    expect(report.manifest.blocks).toHaveLength(3)
    expect(report.options).toBeGreaterThan(8)
    expect(report.metric).toBe('top1-agreement')
    expect(report.quality).toBe(1)
    expect(report.skipped.map(({ path }) => path)).toEqual([join(images, 'broken.jpg')])
    expect(progress.notes.join('\n')).toMatch(/guess|assum|taken/i)

    const manifest = await zoo.manifest(modelId('tiny'))
    const listed = manifest.blocks.flatMap((block) => block.descendants.map(({ file }) => file.path)).sort()
    const present = (await readdir(join(zoo.dir, 'tiny', 'blocks'), { recursive: true }))
      .filter((path) => path.endsWith('.onnx'))
      .map((path) => `blocks/${path}`)
    expect(present.sort()).toEqual(listed)

    const store = openProfiles(zoo.profilesPath, { readOnly: true })
    const rows = store.query('SELECT count(*) AS n FROM measurements')
    const combinations = store.combinations({ model: modelId('tiny'), split: 'report' })
    store.close()
    expect(rows[0]?.n).toBe(listed.length)
    for (const { predicted, measured, why } of combinations.filter(({ why }) => why === 'random')) {
      expect(why).toBe('random')
      expect(predicted.quality).toBeTypeOf('number')
      expect(measured.quality).toBeTypeOf('number')
      expect(measured.latencyMs).toBeGreaterThan(0)
    }

    // The uncut model and the originals put together again answer alike.
    const dataset = await openDataset(images, report.manifest.card)
    const items = await prepareItems(dataset.items, report.manifest.card, undefined, () => {})
    const set = await openEvaluationSet(await zoo.load(modelId('tiny'), manifest.original), items, manifest.card, false)
    const again = await evaluate(await fuseToBytes(zoo, manifest, originalChoices(manifest)), set, manifest.card)
    expect(again.quality.value).toBe(1)
    expect(again.divergence).toBeLessThan(1e-9)
  })

  test('that was interrupted goes on where it stopped', async () => {
    const zoo = openZoo(join(folder, 'zoo-resumed'))
    await expect(build(zoo, found, { images, blocks: 3, jobs: 1, progress: listening(/^b1 prune/) })).rejects.toThrow()
    expect(await zoo.models()).toEqual([])
    const report = await build(zoo, found, { images, blocks: 3, jobs: 1 })
    expect(report.resumed).toBeGreaterThan(0)
    expect(await zoo.models()).toEqual(['tiny'])
  })

  test('says that class folders which are none of its classes are no labels', async () => {
    const labelled = join(folder, 'labelled')
    for (const name of ['cats', 'dogs']) {
      await mkdir(join(labelled, name), { recursive: true })
      for (let i = 0; i < 12; i++) await writeFile(join(labelled, name, `${i}.png`), await encodePng(tinyPicture(i)))
    }
    const progress = listening(/no labels were found in .*labelled.*output\.labels/)
    const zoo = openZoo(join(folder, 'zoo-labelled'))
    await expect(build(zoo, found, { images, validation: labelled, progress })).rejects.toThrow('interrupted')
  })

  test('without enough pictures says so before anything is written', async () => {
    const few = join(folder, 'few')
    await mkdir(few, { recursive: true })
    await writeFile(join(few, 'one.png'), await encodePng(tinyPicture(1)))
    const zoo = openZoo(join(folder, 'zoo-few'))
    await expect(build(zoo, found, { images: few })).rejects.toMatchObject({ code: 'PICTURES_MISSING' })
    await expect(build(zoo, found, {})).rejects.toMatchObject({ code: 'USAGE' })
    await expect(readdir(zoo.dir)).rejects.toThrow()
  })

  test('with a time limit still gives a whole zoo, and says what was left out', async () => {
    const zoo = openZoo(join(folder, 'zoo-short'))
    const report = await build(zoo, found, { images, blocks: 3, jobs: 1, timeLimitMs: 1 })
    expect(report.manifest.blocks.every((block) => block.descendants[0]?.id === 'original')).toBe(true)
    expect(report.manifest.dropped.some(({ why }) => why.includes('no time'))).toBe(true)
  })
})
