import { readdir, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { modelId } from '../../src/base/index.ts'
import { polisherOf } from '../../src/cli/live-polish.ts'
import { keepRecentFrames, startPolisher } from '../../src/pipeline/index.ts'
import { openRuntime, type RuntimeEvent } from '../../src/runtime/index.ts'
import { serve } from '../../src/server/index.ts'
import { type Choices, openZoo, type Polish, readPolish } from '../../src/zoo/index.ts'
import { buildTinyZoo, CLASSIFIER } from '../server/tiny-zoo.ts'
import { temporaryFolder, writePictures } from './tiny-model.ts'

test('a plan that stays follows what its model sees: its head is solved again on recent frames, without labels', async () => {
  const { dir, remove } = await buildTinyZoo()
  const pictures = await Promise.all(
    (await writePictures(join(await temporaryFolder(), 'seen'), 90)).map((path) => readFile(path)),
  )
  const frames = keepRecentFrames({ everyMs: 0 })
  const background = startPolisher()
  const polisher = polisherOf(dir, background, { polishes: false, frames })
  const budget = { memoryBytes: 600_000 }
  const runtime = await openRuntime({ zoo: dir, workers: 1, models: [CLASSIFIER], budget, polisher })
  const events: RuntimeEvent[] = []
  runtime.events((event) => events.push(event))
  const serving = await serve(runtime, { port: 0, onPicture: frames.see })
  const folder = frames.folder(CLASSIFIER)
  try {
    const zoo = openZoo(dir)
    const manifest = await zoo.manifest(modelId(CLASSIFIER))
    const polished = async (): Promise<Polish | undefined> => {
      const { blocks, inputSize } = runtime.live().models[0]!
      const choices = Object.fromEntries(blocks.map(({ id, descendant }) => [id, descendant]))
      return readPolish(zoo, manifest, choices as Choices, inputSize)
    }
    const deadline = Date.now() + 240_000
    for (let i = 0; !(await polished()); i++) {
      const { status } = await fetch(`${serving.url}/v1/models/${CLASSIFIER}/predict`, {
        method: 'POST',
        body: new Uint8Array(pictures[i % pictures.length]!),
      })
      expect(status).toBe(200)
      if (Date.now() > deadline) throw new Error('nothing was adapted')
    }
    const { how, before, after } = (await polished())!
    expect(how).toEqual(['head'])
    expect(after.divergence).toBeLessThan(before.divergence)
    expect(after.agreement).toBeGreaterThanOrEqual(before.agreement)
    while (!events.some((event) => event.kind === 'gear' && /weights that were made/.test(event.why))) {
      if (Date.now() > deadline) throw new Error('the new weights are not in force')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  } finally {
    background.close()
    await serving.close()
    await frames.close()
    await remove()
  }
  await expect(stat(dirname(folder))).rejects.toThrow('ENOENT')
})

test('of recent frames so many are kept, the newest, for nobody else to read; what is no picture is not', async () => {
  const pictures = await Promise.all(
    (await writePictures(join(await temporaryFolder(), 'seen'), 5, 3)).map((path) => readFile(path)),
  )
  const frames = keepRecentFrames({ most: 3, everyMs: 0 })
  const seldom = keepRecentFrames({ everyMs: 60_000 })
  try {
    for (const picture of pictures) {
      frames.see(['one', 'a/../b'], picture)
      seldom.see(['one'], picture)
    }
    frames.see(['one'], Buffer.from('<svg/>'))
    while (
      frames.fresh('one') < pictures.length ||
      frames.fresh('a/../b') < pictures.length ||
      seldom.fresh('one') < 1
    ) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    for (const model of ['one', 'a/../b']) {
      const folder = frames.folder(model)
      const kept = await Promise.all((await readdir(folder)).map((name) => readFile(join(folder, name))))
      expect(kept.map((bytes) => pictures.findIndex((picture) => picture.equals(bytes))).sort()).toEqual([2, 3, 4])
      expect(dirname(folder)).toBe(dirname(frames.folder('one')))
      expect((await stat(dirname(folder))).mode & 0o077).toBe(0)
    }
    expect(await readdir(seldom.folder('one'))).toHaveLength(1)
    frames.used('one')
    expect(frames.fresh('one')).toBe(0)
  } finally {
    await frames.close()
    await seldom.close()
  }
  await expect(stat(dirname(frames.folder('one')))).rejects.toThrow('ENOENT')
})
