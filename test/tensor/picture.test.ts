import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { BlockscaleError } from '../../src/base/index.ts'
import { decodeMask, decodePicture, encodePng, type Picture } from '../../src/tensor/index.ts'

/** 8 × 4: left half red, right half blue, and one green pixel at the top left. */
function sample(): Picture {
  const data = new Uint8Array(8 * 4 * 3)
  for (let i = 0; i < 32; i++) data.set(i % 8 < 4 ? [255, 0, 0] : [0, 0, 255], 3 * i)
  data.set([0, 255, 0], 0)
  return { width: 8, height: 4, data }
}

const raw = ({ width, height, data }: Picture) => sharp(data, { raw: { width, height, channels: 3 } })
const pixel = (picture: Picture, x: number, y: number): number[] => [
  ...picture.data.subarray(3 * (y * picture.width + x), 3 * (y * picture.width + x) + 3),
]
const near = (actual: number[], expected: number[], tolerance: number): void => {
  for (const [i, value] of expected.entries()) expect(Math.abs(actual[i]! - value)).toBeLessThanOrEqual(tolerance)
}
const codeOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work
  } catch (error) {
    return error instanceof BlockscaleError ? error.code : `not ours: ${error}`
  }
  return 'no error'
}

describe('pictures are decoded as they are seen', () => {
  test('PNG without loss, there and back', async () => {
    expect(await decodePicture(await encodePng(sample()))).toEqual(sample())
  })

  test('all eight EXIF orientations come out upright', async () => {
    const { width, height } = sample()
    for (let orientation = 1; orientation <= 8; orientation++) {
      const bytes = await raw(sample()).withMetadata({ orientation }).png().toBuffer()
      const picture = await decodePicture(bytes)
      const turned = orientation >= 5
      expect([picture.width, picture.height]).toEqual(turned ? [height, width] : [width, height])
      // the corner at which the stored top left pixel is seen, by the EXIF standard
      const right = [2, 3, 6, 7].includes(orientation)
      const bottom = [3, 4, 7, 8].includes(orientation)
      expect(pixel(picture, right ? picture.width - 1 : 0, bottom ? picture.height - 1 : 0)).toEqual([0, 255, 0])
    }
  })

  test('transparent is white, half transparent is half white', async () => {
    const rgba = Buffer.from([255, 0, 0, 0, 255, 0, 0, 255, 0, 0, 0, 128, 0, 0, 0, 255])
    const bytes = await sharp(rgba, { raw: { width: 4, height: 1, channels: 4 } })
      .png()
      .toBuffer()
    const picture = await decodePicture(bytes)
    expect(picture.data.length).toBe(12)
    expect(pixel(picture, 0, 0)).toEqual([255, 255, 255])
    expect(pixel(picture, 1, 0)).toEqual([255, 0, 0])
    near(pixel(picture, 2, 0), [127, 127, 127], 1)
  })

  test('grey, with and without alpha, becomes RGB', async () => {
    const grey = Buffer.from([0, 100, 200, 255])
    const bytes = await sharp(grey, { raw: { width: 4, height: 1, channels: 1 } })
      .toColourspace('b-w')
      .png()
      .toBuffer()
    expect([...(await decodePicture(bytes)).data]).toEqual([0, 0, 0, 100, 100, 100, 200, 200, 200, 255, 255, 255])
    const veiled = await sharp(Buffer.from([100, 255, 100, 0]), { raw: { width: 2, height: 1, channels: 2 } })
      .png()
      .toBuffer()
    expect([...(await decodePicture(veiled)).data]).toEqual([100, 100, 100, 255, 255, 255])
  })

  test('16 bits become 8', async () => {
    const wide = new Uint16Array([0, 0x8080, 0xffff])
    const bytes = await sharp(wide, { raw: { width: 1, height: 1, channels: 3 } })
      .toColourspace('rgb16')
      .png()
      .toBuffer()
    expect((await sharp(bytes).metadata()).depth).toBe('ushort')
    expect([...(await decodePicture(bytes)).data]).toEqual([0, 128, 255])
  })

  test('CMYK JPEG becomes sRGB', async () => {
    const bytes = await raw({ width: 16, height: 16, data: new Uint8Array(768).map((_, i) => [220, 60, 40][i % 3]!) })
      .toColourspace('cmyk')
      .jpeg({ quality: 100 })
      .toBuffer()
    expect((await sharp(bytes).metadata()).channels).toBe(4)
    // paper has fewer colours than a screen: near is all that can be asked
    near(pixel(await decodePicture(bytes), 8, 8), [220, 60, 40], 45)
  })

  test('WebP, also by path and with a wrong ending', async () => {
    const bytes = await raw(sample()).webp({ lossless: true }).toBuffer()
    const path = join(await mkdtemp(join(tmpdir(), 'picture-')), 'photo.jpg')
    await writeFile(path, bytes)
    expect(await decodePicture(path)).toEqual(sample())
  })

  test('a photograph of 12 megapixels is within the limit', async () => {
    const bytes = await sharp({ create: { width: 4000, height: 3000, channels: 3, background: '#468' } })
      .jpeg()
      .toBuffer()
    const picture = await decodePicture(bytes)
    expect(picture.data.length).toBe(36_000_000)
    near(pixel(picture, 2000, 1500), [0x44, 0x66, 0x88], 2)
  })
})

describe('what is no picture is refused', () => {
  test('other formats, by their content', async () => {
    const svg = Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
    )
    expect(await codeOf(decodePicture(svg))).toBe('PICTURE_UNREADABLE')
    expect(await codeOf(decodePicture(await raw(sample()).gif().toBuffer()))).toBe('PICTURE_UNREADABLE')
    expect(await codeOf(decodePicture(await raw(sample()).tiff().toBuffer()))).toBe('PICTURE_UNREADABLE')
  })

  test('noise, nothing, a missing file', async () => {
    expect(await codeOf(decodePicture(Buffer.from('no picture at all, just text')))).toBe('PICTURE_UNREADABLE')
    expect(await codeOf(decodePicture(new Uint8Array()))).toBe('PICTURE_UNREADABLE')
    expect(await codeOf(decodePicture('/nowhere/at-all.jpg'))).toBe('PICTURE_UNREADABLE')
  })

  test('truncated JPEG, PNG and WebP', async () => {
    const noise = {
      width: 256,
      height: 256,
      data: Uint8Array.from({ length: 256 * 256 * 3 }, (_, i) => (i * 7919) % 251),
    }
    for (const bytes of [
      await raw(noise).jpeg().toBuffer(),
      await raw(noise).png().toBuffer(),
      await raw(noise).webp().toBuffer(),
    ]) {
      expect(await codeOf(decodePicture(bytes))).toBe('no error')
      expect(await codeOf(decodePicture(bytes.subarray(0, bytes.length >> 1)))).toBe('PICTURE_UNREADABLE')
    }
  })

  test('too many pixels, known before they are decoded', async () => {
    const bytes = await sharp({ create: { width: 6000, height: 5000, channels: 3, background: '#000' } })
      .png()
      .toBuffer()
    expect(await codeOf(decodePicture(bytes))).toBe('PICTURE_TOO_LARGE')
    expect(await codeOf(decodePicture(await encodePng(sample()), { maxPixels: 31 }))).toBe('PICTURE_TOO_LARGE')
    expect(await codeOf(decodePicture(await encodePng(sample()), { maxPixels: 32 }))).toBe('no error')
  })
})

describe('masks keep their numbers', () => {
  const indices = Uint8Array.from({ length: 60 }, (_, i) => [0, 1, 15, 20, 255, 7][(i * i) % 6]!)

  test('as grey PNG', async () => {
    const path = join(await mkdtemp(join(tmpdir(), 'mask-')), 'mask.png')
    await writeFile(path, await encodePng({ width: 10, height: 6, data: indices }))
    expect(await decodeMask(path)).toEqual({ width: 10, height: 6, data: indices })
  })

  test('as PNG with a palette, whatever its bits: indices, not colours', async () => {
    for (const colours of [2, 4, 16, 200]) {
      const picture = { width: 37, height: 29, data: new Uint8Array(37 * 29 * 3) }
      for (let i = 0; i < 37 * 29; i++) {
        const c = (i * 31 + (i >> 3)) % colours
        picture.data.set([c, 255 - c, (c * 97) % 256], 3 * i)
      }
      const bytes = await raw(picture)
        .png({ palette: true, colours: Math.max(2, colours), dither: 0 })
        .toBuffer()
      expect(bytes[25]).toBe(3)
      const path = join(await mkdtemp(join(tmpdir(), 'mask-')), 'mask.png')
      await writeFile(path, bytes)
      const mask = await decodeMask(path)
      // equal colours have equal indices and different ones different indices
      const seen = new Map<number, string>()
      const shown = await decodePicture(path)
      for (let i = 0; i < mask.data.length; i++) {
        const colour = [...shown.data.subarray(3 * i, 3 * i + 3)].join()
        expect(seen.get(mask.data[i]!) ?? colour).toBe(colour)
        seen.set(mask.data[i]!, colour)
      }
      expect(new Set(seen.values()).size).toBe(seen.size)
      expect(Math.max(...mask.data)).toBeLessThan(Math.max(2, colours))
    }
  })
})
