import { readFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { sha256OfFile } from '../../src/base/index.ts'
import { openSession } from '../../src/engine/index.ts'
import { readModel } from '../../src/onnx/index.ts'
import { type Evaluated, loadCard, loadItems, openDataset, taskFor } from '../../src/tasks/index.ts'

/** What each bundled network reaches at least on the pictures in its package, in its task's own metric. */
const bundled = { 'road-signs': 0.9, 'sign-detector': 0.85, 'upscaler-x2': 34 } as const

describe.each(Object.entries(bundled))('the bundled package %s', (id, least) => {
  const folder = fileURLToPath(new URL(`../../model-zoo/${id}`, import.meta.url))

  test('is whole, small, plain ONNX with a free batch', async () => {
    const card = await loadCard(folder)
    expect(card.id).toBe(id)
    expect(await sha256OfFile(`${folder}/model.onnx`)).toBe(card.sha256)
    expect((await stat(`${folder}/model.onnx`)).size).toBeLessThan(2e6)
    const { graph, opsets } = readModel(await readFile(`${folder}/model.onnx`))
    expect([...opsets]).toEqual([['', 13]])
    expect(graph.inputs[0]!.fact?.dims?.[0]).toBe('N')
    expect(graph.nodes.filter((each) => each.op === 'BatchNormalization')).toEqual([])
  })

  test(`reaches ${least} on the validation pictures that come with it`, async () => {
    const card = await loadCard(folder)
    const task = taskFor(card)
    const pictures = await openDataset(`${folder}/${card.data!.validation}`, card)
    expect(pictures).toMatchObject({ labelled: true, skipped: [] })
    const session = await openSession(`${folder}/model.onnx`)
    const evaluated: Evaluated[] = []
    for await (const item of loadItems(pictures.items)) {
      const derived = task.derive?.(item.picture, card)
      const prepared = task.prepare(derived?.picture ?? item.picture, card)
      const outputs = await session.run(prepared.feeds)
      evaluated.push({ prepared, outputs, original: outputs, truth: derived?.truth ?? item.truth })
    }
    await session.release()
    expect(task.quality(evaluated, card).value).toBeGreaterThan(least)
  })
})
