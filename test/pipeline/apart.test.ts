import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lookApart, prepareApart, prepareModel } from '../../src/pipeline/index.ts'
import { findModel } from '../../src/zoo/index.ts'
import { tinyModel } from '../cli/tiny-model.ts'
import { DESERVED, type Guarded, guardedFolder, openMutants } from './hostile.ts'
import { kindsOfMutants, mutantOf } from './mutants.ts'

let guarded: Guarded
beforeAll(async () => {
  guarded = await guardedFolder()
})
afterAll(() => guarded.remove())

const given = async (name: string, bytes: Uint8Array) => {
  const file = join(guarded.folder, `${name}.onnx`)
  await writeFile(file, bytes)
  return findModel(file)
}
/** The first mutant of the tiny model that is changed in this way. */
function changed(how: string, from = 0): Uint8Array {
  for (let seed = from; ; seed++) {
    const mutant = mutantOf(tinyModel(), seed)
    if (mutant.how === how) return mutant.bytes
  }
}

describe('a model that is opened in a process of its own', () => {
  test('is the same as one that is opened here', async () => {
    const found = await given('tiny', tinyModel())
    const [apart, here] = [await prepareApart(found), await prepareModel(found)]
    expect(apart).toEqual(here)
    expect((await lookApart(found)).guessed.length).toBeGreaterThan(0)
  })

  test('gives its own reason when it is refused', async () => {
    const found = await given('text', Buffer.from('Once upon a time'))
    await expect(prepareApart(found)).rejects.toMatchObject({ code: 'MODEL_NOT_ONNX' })
    await expect(lookApart(found)).rejects.toMatchObject({ code: 'MODEL_NOT_ONNX' })
  })

  test('that fills the memory is stopped, and this process is not', async () => {
    const found = await given('bomb', changed('a value that grows without measure'))
    const refused = { code: 'MODEL_UNSUPPORTED', message: expect.stringMatching(/took more than 400\.00 MB of memory/) }
    await expect(lookApart(found, { memoryBytes: 400e6, timeMs: 60_000 })).rejects.toMatchObject(refused)
  })

  test('that never ends is stopped', async () => {
    const found = await given('loop', changed('a loop without end'))
    const refused = { code: 'MODEL_UNSUPPORTED', message: expect.stringMatching(/took longer than 4\.0 s/) }
    await expect(lookApart(found, { memoryBytes: 2e9, timeMs: 4000 })).rejects.toMatchObject(refused)
  })

  test.each([
    'weights in another file',
    'a constant in another file',
    'a list of tensors in another file',
    'a sparse tensor in another file',
    'another file inside a function',
  ])('that names another file is refused: %s', async (how) => {
    const found = await given('thief', changed(how))
    const refused = { code: 'MODEL_UNSUPPORTED', message: expect.stringMatching(/keeps its data in another file/) }
    await expect(prepareModel(found)).rejects.toMatchObject(refused)
    expect(await guarded.wasRead()).not.toBe(true)
  })
})

test('a model that gives text is refused, because nothing bounds how much of it there is', async () => {
  const found = await given('text', changed('text without measure'))
  const limits = { memoryBytes: 900e6, timeMs: 20_000 }
  await expect(prepareApart(found, undefined, limits)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' })
})

test('one mutant of every kind, of the networks that ship with the package', async () => {
  const originals = await Promise.all(
    ['road-signs', 'sign-detector', 'upscaler-x2'].map(
      async (name) =>
        new Uint8Array(await readFile(fileURLToPath(new URL(`../../model-zoo/${name}/model.onnx`, import.meta.url)))),
    ),
  )
  const seeds = Array.from({ length: kindsOfMutants() }, (_, seed) => seed)
  // What never ends is waited for several times as long as an undamaged network takes here and now, two at a time.
  const started = performance.now()
  await prepareApart(await given('undamaged', originals[0]!))
  const timeMs = 4000 + 5 * (performance.now() - started)
  const outcomes = await openMutants(guarded.folder, originals, seeds, { memoryBytes: 900e6, timeMs })
  expect(outcomes.filter(({ code }) => !DESERVED.has(code))).toEqual([])
  expect(outcomes.some(({ code }) => code === undefined)).toBe(true)
  expect(await guarded.wasRead()).not.toBe(true)
}, 600_000)
