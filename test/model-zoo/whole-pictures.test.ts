import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openSession, type Session } from '../../src/engine/index.ts'
import { answerPicture, type Box, loadCard, type ModelCard } from '../../src/tasks/index.ts'
import { decodePicture } from '../../src/tensor/index.ts'

const packages = fileURLToPath(new URL('../../model-zoo', import.meta.url))
/** Two signs, far from the edges of the picture. */
const scene = join(packages, 'sign-detector/validation/001.jpg')
const SIDE = 128

let folder: string
let session: Session
let card: ModelCard
let known: readonly Box[]
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'whole-pictures-'))
  card = await loadCard(join(packages, 'sign-detector'))
  session = await openSession(join(packages, 'sign-detector/model.onnx'))
  known = await boxesOf(scene)
  expect(known.map(({ label }) => label).sort()).toEqual(['information', 'prohibition'])
})
afterAll(async () => {
  await session?.release()
  await rm(folder, { recursive: true, force: true })
})

async function boxesOf(path: string): Promise<readonly Box[]> {
  const answer = await answerPicture(await decodePicture(path), card, (feeds) => session.run(feeds))
  return answer.task === 'detection' ? answer.boxes : []
}

/** The same signs at the same places of a picture that is `width` × `height` as it is seen, within 3 of 128 pixels. */
async function expectSame(bytes: Buffer, ending: string, width: number, height: number): Promise<void> {
  const path = join(folder, `scene.${ending}`)
  await writeFile(path, bytes)
  const found = await boxesOf(path)
  expect(found.map(({ label }) => label).sort()).toEqual(known.map(({ label }) => label).sort())
  for (const box of known) {
    const same = found.find(({ label }) => label === box.label)!
    for (const [side, length] of [
      ['xMin', width],
      ['xMax', width],
      ['yMin', height],
      ['yMax', height],
    ] as const) {
      expect(Math.abs((same[side] / length) * SIDE - box[side])).toBeLessThan(3)
    }
  }
}

describe('a detector answers in pixels of the picture as it is seen', () => {
  test.each([
    [6, 3464],
    [1, 500],
    [3, 500],
    [8, 500],
  ])('a photograph with EXIF orientation %i, %i pixels to a side', async (orientation, side) => {
    const turned: Readonly<Record<number, number>> = { 1: 0, 3: 180, 6: 270, 8: 90 }
    const large = await sharp(scene).resize(side, side, { kernel: 'cubic' }).toBuffer()
    const bytes = await sharp(large).rotate(turned[orientation]!).withMetadata({ orientation }).jpeg().toBuffer()
    expect((await sharp(bytes).metadata()).orientation).toBe(orientation)
    await expectSame(bytes, 'jpg', side, side)
  })

  test('a wide one: the network sees it letterboxed, the boxes are in the whole', async () => {
    const wide = await sharp(scene)
      .extend({ left: 64, right: 64, background: '#808080' })
      .jpeg({ quality: 95 })
      .toBuffer()
    const path = join(folder, 'wide.jpg')
    await writeFile(path, wide)
    const found = await boxesOf(path)
    // the signs are half as large for the network: the larger one has to be found, where it is now
    const [large] = [...known].sort(
      (a, b) => (b.xMax - b.xMin) * (b.yMax - b.yMin) - (a.xMax - a.xMin) * (a.yMax - a.yMin),
    )
    const there = found.find(({ label }) => label === large!.label)
    expect(Math.abs(there!.xMin - (large!.xMin + 64))).toBeLessThan(6)
    expect(Math.abs(there!.yMax - large!.yMax)).toBeLessThan(6)
  })

  const forms: readonly (readonly [string, string, () => Promise<Buffer>])[] = [
    ['WebP', 'webp', () => sharp(scene).webp({ quality: 90 }).toBuffer()],
    ['PNG of 16 bits', 'png', () => sharp(scene).toColourspace('rgb16').png().toBuffer()],
    ['PNG with alpha', 'png', () => sharp(scene).ensureAlpha(1).png().toBuffer()],
    ['CMYK JPEG', 'jpg', () => sharp(scene).toColourspace('cmyk').jpeg({ quality: 95 }).toBuffer()],
  ]
  test.each(forms)('%s', async (_, ending, make) => expectSame(await make(), ending, SIDE, SIDE))

  test('a grey one is seen in grey, and nothing fails', async () => {
    const path = join(folder, 'grey.jpg')
    await writeFile(path, await sharp(scene).toColourspace('b-w').jpeg().toBuffer())
    expect((await sharp(path).metadata()).channels).toBe(1)
    for (const { xMin, yMin, xMax, yMax } of await boxesOf(path)) {
      expect(Math.min(xMin, yMin)).toBeGreaterThanOrEqual(0)
      expect(Math.max(xMax, yMax)).toBeLessThanOrEqual(SIDE)
    }
  })
})

test('super-resolution answers a picture of any size in colour, in tiles', async () => {
  const upscaler = await loadCard(join(packages, 'upscaler-x2'))
  const network = await openSession(join(packages, 'upscaler-x2/model.onnx'))
  try {
    const odd = await sharp(scene).resize(171, 93, { fit: 'fill' }).png().toBuffer()
    const answer = await answerPicture(await decodePicture(odd), upscaler, (feeds) => network.run(feeds))
    if (answer.task !== 'super-resolution') throw new Error(answer.task)
    expect([answer.picture.width, answer.picture.height]).toEqual([342, 186])
    // colours are those of the plain enlargement, and no tile shows its border
    const plain = await sharp(odd).resize(342, 186, { kernel: 'cubic' }).removeAlpha().raw().toBuffer()
    let error = 0
    for (const [i, value] of plain.entries()) error += (value - answer.picture.data[i]!) ** 2
    expect(10 * Math.log10(255 ** 2 / (error / plain.length))).toBeGreaterThan(28)
  } finally {
    await network.release()
  }
})
