import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Dataset, loadItems, openDataset, type Skipped, split, type Truth } from '../../src/tasks/index.ts'
import { encodePng } from '../../src/tensor/index.ts'
import { describeWithAssets } from '../assets.ts'
import { card } from './cards.ts'

const picture = await encodePng({ width: 4, height: 2, data: new Uint8Array(24).fill(90) })

async function folderOf(files: Record<string, string | Uint8Array>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'dataset-'))
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), bytes)
  }
  return folder
}

const names = (dataset: Dataset): string[] => dataset.items.map(({ path }) => basename(path))
const truthsOf = (dataset: Dataset): Promise<(Truth | undefined)[]> =>
  Promise.all(dataset.items.map(({ truth }) => truth?.()))
const indicesOf = async (dataset: Dataset): Promise<number[]> =>
  (await truthsOf(dataset)).map((truth) => (truth?.kind === 'class' ? truth.index : -1))

describe('pictures in folders', () => {
  test('flat: in the order of their names, unlabelled; other files are no pictures', async () => {
    const folder = await folderOf({ 'b.png': picture, 'a.JPG': picture, 'notes.txt': 'x', '.hidden.png': picture })
    const dataset = await openDataset(folder, card())
    expect(names(dataset)).toEqual(['a.JPG', 'b.png'])
    expect(dataset.labelled).toBe(false)
    expect(names(await openDataset(`${folder}/*.png`, card()))).toEqual(['b.png'])
  })

  test('by label, in any case; folders of unknown classes are told', async () => {
    const folder = await folderOf({
      'Dog/1.png': picture,
      'cat/1.png': picture,
      'cat/2.png': picture,
      'ufo/1.png': picture,
    })
    const dataset = await openDataset(folder, card())
    expect(await indicesOf(dataset)).toEqual([1, 0, 0])
    expect(dataset.labelled).toBe(true)
    expect(dataset.skipped).toEqual([{ path: join(folder, 'ufo'), why: expect.stringContaining('ufo') }])
  })

  test("by the card's folder names, and by the first of several words of a label", async () => {
    const output = {
      decoder: 'softmax',
      labels: ['tench, Tinca tinca', 'great white shark, man-eater'],
      classes: ['n01', 'n02'],
    }
    const folder = await folderOf({ 'n02/1.png': picture, 'n01/1.png': picture })
    expect(await indicesOf(await openDataset(folder, card({ output })))).toEqual([0, 1])
    const spoken = await folderOf({ 'tench/1.png': picture, 'great_white_shark/1.png': picture })
    expect(await indicesOf(await openDataset(spoken, card({ output })))).toEqual([1, 0])
  })

  test('in alphabetical order where names say nothing but their number fits', async () => {
    const folder = await folderOf({ 'z/1.png': picture, 'x/1.png': picture, 'y/1.png': picture })
    expect(await indicesOf(await openDataset(folder, card()))).toEqual([0, 1, 2])
  })

  test('nothing to read is an error, and so is no folder', async () => {
    const folder = await folderOf({ 'notes.txt': 'x' })
    await expect(openDataset(folder, card())).rejects.toMatchObject({ code: 'PICTURES_MISSING' })
    await expect(openDataset(join(folder, 'nowhere'), card())).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('reading', () => {
  test('an unreadable picture among good ones is skipped and told', async () => {
    const folder = await folderOf({
      'a.png': picture,
      'b.png': 'broken',
      'c.png': picture.subarray(0, 40),
      'd.png': picture,
    })
    const skipped: Skipped[] = []
    const read: string[] = []
    const dataset = await openDataset(folder, card())
    for await (const item of loadItems(dataset.items, (each) => skipped.push(each))) read.push(basename(item.path))
    expect(read).toEqual(['a.png', 'd.png'])
    expect(skipped.map(({ path }) => basename(path))).toEqual(['b.png', 'c.png'])
  })

  test('not one readable picture is an error', async () => {
    const { items } = await openDataset(await folderOf({ 'b.png': 'broken' }), card())
    const all = async () => {
      for await (const _ of loadItems(items)) expect.unreachable()
    }
    await expect(all()).rejects.toMatchObject({ code: 'PICTURES_MISSING' })
  })
})

describe('annotations', () => {
  const detector = card({ task: 'detection', output: { decoder: 'yolox', labels: ['person', 'dog'] } })
  const coco = (
    segmentation: unknown,
    categories: unknown = [
      { id: 18, name: 'dog' },
      { id: 44, name: 'boat' },
    ],
  ) =>
    JSON.stringify({
      images: [
        { id: 7, file_name: 'deep/a.png', width: 4, height: 2 },
        { id: 8, file_name: 'b.png', width: 4, height: 2 },
      ],
      annotations: [
        { image_id: 7, category_id: 18, bbox: [1, 0, 2, 1], segmentation },
        { image_id: 7, category_id: 44, bbox: [0, 0, 1, 1] },
        { image_id: 7, category_id: 18, bbox: [0, 0, 4, 2], iscrowd: 1, segmentation },
      ],
      categories,
    })

  test('COCO boxes by name of category; unknown ones and crowds are left out; unnamed pictures are told', async () => {
    const folder = await folderOf({ 'a.png': picture, 'b.png': picture, 'c.png': picture, 'instances.json': coco([]) })
    const dataset = await openDataset(folder, detector)
    expect(await truthsOf(dataset)).toEqual([
      { kind: 'boxes', boxes: [{ label: 'dog', index: 1, xMin: 1, yMin: 0, xMax: 3, yMax: 1 }] },
      { kind: 'boxes', boxes: [] },
    ])
    expect(dataset.skipped.map(({ path }) => basename(path))).toEqual(['c.png'])
  })

  const segmenter = card({ task: 'segmentation', output: { decoder: 'argmax', labels: ['background', 'dog'] } })
  const maskOf = async (segmentation: unknown): Promise<number[]> => {
    const text = coco(segmentation).replace('"iscrowd":1', '"iscrowd":0').replace('[0,0,4,2]', '[1,0,2,1]')
    const folder = await folderOf({ 'a.png': picture, 'instances.json': text })
    const [truth] = await truthsOf(await openDataset(folder, segmenter))
    return truth?.kind === 'mask' ? [...truth.mask] : []
  }

  test('COCO outlines as polygons, runs, packed runs, and boxes where there is nothing better', async () => {
    const expected = [0, 1, 1, 0, 0, 0, 0, 0]
    expect(await maskOf([[1, 0, 3, 0, 3, 1, 1, 1]])).toEqual(expected)
    // column by column: 2 of nothing, 1, 1 of nothing, 1, 3 of nothing
    expect(await maskOf({ size: [2, 4], counts: [2, 1, 1, 1, 3] })).toEqual(expected)
    // the same packed: 2 1 1, then differences 1−1 = 0 and 3−1 = 2
    expect(await maskOf({ size: [2, 4], counts: '21102' })).toEqual(expected)
    expect(await maskOf(undefined)).toEqual(expected)
  })

  test('a mask beside each picture', async () => {
    const mask = await encodePng({ width: 4, height: 2, data: Uint8Array.from([0, 1, 1, 0, 255, 0, 0, 1]) })
    const folder = await folderOf({ 'a.jpg': picture, 'a.png': mask, 'b.jpg': picture })
    const dataset = await openDataset(folder, segmenter)
    expect(names(dataset)).toEqual(['a.jpg'])
    expect(dataset.skipped).toHaveLength(1)
    expect(await truthsOf(dataset)).toEqual([
      { kind: 'mask', width: 4, height: 2, mask: Uint8Array.from([0, 1, 1, 0, 255, 0, 0, 1]) },
    ])
  })
})

describe('parts', () => {
  const items = Array.from({ length: 30 }, (_, i) => ({ path: `/data/${'abc'[i % 3]}/${i}.png` }))
  const dataset: Dataset = { items, labelled: false, skipped: [] }

  test('share no picture, are as large as asked, hold all classes, and are the same each time', () => {
    const parts = split(dataset, { profile: 0.3, report: 0.5 }, 7)
    expect([parts.profile.length, parts.report.length]).toEqual([9, 15])
    expect(new Set([...parts.profile, ...parts.report]).size).toBe(24)
    for (const part of [parts.profile, parts.report]) {
      const counts = ['a', 'b', 'c'].map((name) => part.filter(({ path }) => path.includes(`/${name}/`)).length)
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
    }
    expect(split(dataset, { profile: 0.3, report: 0.5 }, 7)).toEqual(parts)
    expect(split(dataset, { profile: 0.3, report: 0.5 }, 8)).not.toEqual(parts)
  })

  test('more than all is refused', () => {
    expect(() => split(dataset, { a: 0.7, b: 0.4 }, 1)).toThrow(/exceed 1/)
  })
})

describeWithAssets('real folders', (assets) => {
  test('wnid folders, COCO annotations and CIFAR classes are understood', async () => {
    const { loadCard } = await import('../../src/tasks/index.ts')
    const catalog = new URL('../../model-zoo/catalog/', import.meta.url).pathname
    const open = async (model: string, folder: string) =>
      openDataset(`${assets}/images/${folder}`, await loadCard(`${catalog}${model}.json`))
    const sizes = await Promise.all([
      open('mobilenetv2', 'imagenet-validation'),
      open('cifar10-resnet20', 'cifar10-validation'),
      open('nanodet-m-320', 'coco128'),
      open('yunet-n-320', 'faces'),
      open('mobilenetv2', 'imagenet-calibration'),
    ])
    expect(sizes.map(({ items, labelled, skipped }) => [items.length, labelled, skipped.length])).toEqual([
      [350, true, 0],
      [3000, true, 0],
      [128, true, 0],
      [9, true, 0],
      [300, false, 0],
    ])
  })
})
