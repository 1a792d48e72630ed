import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { blockId, descendantId, modelId } from '../../src/base/index.ts'
import { readModel } from '../../src/onnx/index.ts'
import {
  evaluate,
  fusePolished,
  fuseToBytes,
  openEvaluationSet,
  originalChoices,
  polishPlan,
  prepareItems,
} from '../../src/pipeline/index.ts'
import { type Item, openDataset } from '../../src/tasks/index.ts'
import { encodePng } from '../../src/tensor/index.ts'
import { type Choices, type Manifest, openZoo, readPolish, type Zoo } from '../../src/zoo/index.ts'
import { buildTinyZoo, CLASSIFIER } from '../server/tiny-zoo.ts'
import { tinyPicture } from './tiny-model.ts'

let folder: string
let remove: () => Promise<void>
let zoo: Zoo
let manifest: Manifest
let items: readonly Item[]
let unseen: readonly Item[]
let choices: Choices

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blockscale-polish-'))
  const write = async (name: string, from: number, count: number) => {
    await mkdir(join(folder, name))
    for (let i = from; i < from + count; i++) {
      await writeFile(join(folder, name, `${i}.png`), await encodePng(tinyPicture(i)))
    }
  }
  await write('images', 0, 80)
  await write('unseen', 1000, 40)
  const built = await buildTinyZoo()
  remove = built.remove
  zoo = openZoo(built.dir)
  manifest = await zoo.manifest(modelId(CLASSIFIER))
  items = (await openDataset(join(folder, 'images'), manifest.card)).items
  unseen = (await openDataset(join(folder, 'unseen'), manifest.card)).items
  choices = { ...originalChoices(manifest), [blockId('b1')]: descendantId('slim') }
})
afterAll(async () => {
  await remove()
  await rm(folder, { recursive: true, force: true })
})

const polishing = (more: Partial<Parameters<typeof polishPlan>[0]> = {}) =>
  polishPlan({ zoo, manifest, choices, size: manifest.sizes[0]!, items, what: 'sequence', threads: 1, ...more })

async function divergence(model: Uint8Array): Promise<number> {
  const set = await openEvaluationSet(
    await zoo.load(manifest.model, manifest.original),
    await prepareItems(unseen, manifest.card, undefined, () => {}),
    manifest.card,
    false,
  )
  return (await evaluate(model, set, manifest.card)).divergence
}

describe('the polish of a plan', () => {
  test('is nearer to the original on pictures that it has not seen, and kept for exactly that plan', async () => {
    const report = await polishing()
    expect(report.kept).toBe(true)
    expect(report.after.divergence).toBeLessThan(report.before.divergence)
    expect(report.after.agreement).toBeGreaterThanOrEqual(report.before.agreement)
    const kept = (await readPolish(zoo, manifest, choices, manifest.sizes[0]!))!
    expect(kept).toEqual(report.polish)
    const polished = await fusePolished(zoo, manifest, kept)
    const plain = await fuseToBytes(zoo, manifest, choices)
    expect(await divergence(polished)).toBeLessThan(await divergence(plain))
    // The same graph with other numbers: neither slower nor larger.
    const ops = (bytes: Uint8Array) => readModel(bytes).graph.nodes.map(({ op }) => op)
    expect(ops(polished).sort()).toEqual(ops(plain).sort())
    expect(await readPolish(zoo, manifest, originalChoices(manifest), manifest.sizes[0]!)).toBeUndefined()
    expect(await readPolish(zoo, manifest, choices, [64, 64])).toBeUndefined()
  })

  test('goes on by learning, and what it keeps is never worse than its start', async () => {
    const report = await polishing({ distilMs: 2500 })
    expect(report.polish?.how[0]).toBe('sequence')
    expect(report.after.divergence).toBeLessThan(report.before.divergence)
    expect(await divergence(await fusePolished(zoo, manifest, report.polish!))).toBeLessThan(
      await divergence(await fuseToBytes(zoo, manifest, choices)),
    )
    const left = await readdir(join(zoo.dir, CLASSIFIER, 'polished'))
    expect(left.filter((name) => !/\.(onnx|json)$/.test(name))).toEqual([])
    expect(left.filter((name) => name.endsWith('.onnx'))).toHaveLength(report.polish!.blocks.length)
  })

  test('of the original is nothing', async () => {
    const report = await polishing({ choices: originalChoices(manifest) })
    expect(report.kept).toBe(false)
    expect(report.polish).toBeUndefined()
    expect(report.before).toEqual({ divergence: 0, agreement: 1 })
  })

  test('of the head begins from what is in force, and is refused where it does not agree better', async () => {
    const before = await readPolish(zoo, manifest, choices, manifest.sizes[0]!)
    const report = await polishing({ what: 'head' })
    if (report.kept) {
      expect(report.polish?.how).toEqual([...before!.how, 'head'])
      expect(report.after.agreement).toBeGreaterThanOrEqual(report.before.agreement)
      expect(report.after.divergence).toBeLessThan(report.before.divergence)
    } else expect(report.polish).toEqual(before)
  })

  test('that is damaged on disk is none', async () => {
    const kept = (await readPolish(zoo, manifest, choices, manifest.sizes[0]!))!
    await truncate(join(zoo.dir, CLASSIFIER, ...kept.blocks[0]!.file.path.split('/')), 100)
    expect(await readPolish(zoo, manifest, choices, manifest.sizes[0]!)).toBeUndefined()
  })

  test('needs pictures', async () => {
    await expect(polishing({ items: items.slice(0, 5) })).rejects.toMatchObject({ code: 'PICTURES_MISSING' })
  })
})
