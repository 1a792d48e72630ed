import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { readPictureHeader } from '../../src/tensor/picture-header.ts'

const canvas = (width: number, height: number) =>
  sharp({ create: { width, height, channels: 4, background: { r: 200, g: 30, b: 90, alpha: 0.5 } } })

const thumbnail = Buffer.concat([
  Buffer.from('Exif\0\0'),
  Buffer.from([0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0, 9, 0, 9, 1]),
])

describe('the header of a picture', () => {
  it.each([
    ['jpeg', () => canvas(317, 211).jpeg()],
    ['jpeg', () => canvas(317, 211).jpeg({ progressive: true })],
    ['jpeg', () => canvas(317, 211).toColourspace('cmyk').jpeg()],
    ['jpeg', () => canvas(317, 211).withMetadata({ orientation: 1 }).jpeg()],
    ['png', () => canvas(317, 211).png()],
    ['png', () => canvas(317, 211).png({ palette: true, progressive: true })],
    ['webp', () => canvas(317, 211).removeAlpha().webp()],
    ['webp', () => canvas(317, 211).webp()],
    ['webp', () => canvas(317, 211).webp({ lossless: true })],
    ['webp', () => canvas(317, 211).removeAlpha().webp({ lossless: true })],
  ])('says what the encoder of %s wrote', async (format, make) => {
    expect(readPictureHeader(await make().toBuffer())).toEqual({ format, width: 317, height: 211 })
  })

  it('steps over the thumbnail inside an EXIF segment', async () => {
    const jpeg = await canvas(64, 48).jpeg().toBuffer()
    const length = Buffer.alloc(2)
    length.writeUInt16BE(thumbnail.length + 2)
    const withThumbnail = Buffer.concat([
      jpeg.subarray(0, 2),
      Buffer.from([0xff, 0xe1]),
      length,
      thumbnail,
      jpeg.subarray(2),
    ])
    expect(readPictureHeader(withThumbnail)).toEqual({ format: 'jpeg', width: 64, height: 48 })
  })

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('not a picture at all, only some words')],
    ['SVG', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')],
    ['GIF', Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64')],
    ['a JPEG marker alone', Buffer.from([0xff, 0xd8, 0xff])],
    ['a PNG signature alone', Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])],
    ['RIFF that is no WebP', Buffer.from(`RIFF0000WAVE${'0'.repeat(30)}`)],
    ['a segment that goes nowhere', Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0])],
  ])('is nothing for %s', (_name, bytes) => {
    expect(readPictureHeader(bytes)).toBeUndefined()
  })

  it('never reads beyond the bytes, wherever a picture is cut off', async () => {
    for (const picture of [
      await canvas(30, 20).jpeg().toBuffer(),
      await canvas(30, 20).webp().toBuffer(),
      await canvas(30, 20).png().toBuffer(),
    ]) {
      for (let end = 0; end < Math.min(picture.length, 700); end++) {
        expect(() => readPictureHeader(Uint8Array.prototype.slice.call(picture, 0, end))).not.toThrow()
      }
    }
  })
})
