import { open } from 'node:fs/promises'
import type { SharpOptions } from 'sharp'
import { BlockscaleError } from '../base/index.ts'
import { readPictureHeader } from './picture-header.ts'

/** An upright sRGB picture: `data` holds 3 bytes for each pixel, row by row. */
export interface Picture {
  readonly width: number
  readonly height: number
  readonly data: Uint8Array
}

export interface PictureLimits {
  /** width × height; a 12-megapixel photograph fits the default */
  readonly maxPixels?: number
}

const MAX_PIXELS = 25_000_000

/** Loading libvips takes a tenth of a second: threads that only compute, and a service before its first picture, do without. */
const loadSharp = async () => (await import('sharp')).default

/**
 * Reads a JPEG, PNG or WebP picture, turned upright by its EXIF orientation, as 8-bit sRGB.
 *
 * Grey, CMYK and 16-bit pictures are converted. What is transparent becomes white, as on the page that such a
 * picture was drawn for: on black, dark lettering and line art would vanish.
 *
 * @param source the bytes of the file, or its path
 * @throws BlockscaleError PICTURE_UNREADABLE when it is another format or truncated, PICTURE_TOO_LARGE beyond the limit
 */
export async function decodePicture(source: Uint8Array | string, limits: PictureLimits = {}): Promise<Picture> {
  const maxPixels = limits.maxPixels ?? MAX_PIXELS
  const name = typeof source === 'string' ? source : 'the picture'
  const { width, height } = await readHeader(source, name)
  if (width * height > maxPixels) {
    throw new BlockscaleError(
      'PICTURE_TOO_LARGE',
      `${name} has ${width} × ${height} pixels; at most ${(maxPixels / 1e6).toFixed(1)} million are read`,
    )
  }
  try {
    const { data, info } = await (await loadSharp())(source, readingOf(maxPixels))
      .autoOrient()
      .flatten({ background: '#fff' })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true })
    return { width: info.width, height: info.height, data: info.channels === 3 ? bytesOf(data) : toRgb(data, info) }
  } catch (cause) {
    throw unreadable(name, cause)
  }
}

async function readHeader(source: Uint8Array | string, name: string): Promise<{ width: number; height: number }> {
  // Opening a picture twice costs half a millisecond, so libvips is only asked about a file, or a header that we cannot read.
  const known = typeof source === 'string' ? undefined : readPictureHeader(source)
  if (known) return known
  try {
    const start = typeof source === 'string' ? await readStart(source) : source.subarray(0, SIGNATURE_BYTES)
    if (isReadable(start)) return await (await loadSharp())(source, { limitInputPixels: false }).metadata()
  } catch (cause) {
    throw unreadable(name, cause)
  }
  throw new BlockscaleError('PICTURE_UNREADABLE', `${name} is neither a JPEG nor a PNG nor a WebP picture`)
}

const SIGNATURE_BYTES = 12

/** By content, not by name, and before libvips sees it: its readers of SVG, GIF, PDF and so on have more to attack. */
function isReadable(start: Uint8Array): boolean {
  const hex = Buffer.from(start).toString('hex')
  return /^(ffd8ff|89504e470d0a1a0a|52494646.{8}57454250)/.test(hex)
}

async function readStart(path: string): Promise<Uint8Array> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(SIGNATURE_BYTES), 0, SIGNATURE_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** `failOn: 'truncated'` also accepts pictures with harmless warnings, which cameras write. */
const readingOf = (maxPixels: number): SharpOptions => ({
  limitInputPixels: maxPixels,
  failOn: 'truncated',
  sequentialRead: true,
  pages: 1,
})

const bytesOf = (data: Buffer): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

/** Grey (1 or 2 channels) or RGBA bytes as RGB. */
function toRgb(data: Buffer, info: { width: number; height: number; channels: number }): Uint8Array {
  const pixels = info.width * info.height
  const colours = info.channels >= 3 ? 3 : 1
  const rgb = new Uint8Array(3 * pixels)
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) rgb[3 * i + c] = data[info.channels * i + (colours === 3 ? c : 0)]!
  }
  return rgb
}

function unreadable(name: string, cause: unknown): BlockscaleError {
  const why = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause)
  return new BlockscaleError('PICTURE_UNREADABLE', `${name} cannot be read: ${why}`, undefined, { cause })
}

/** A picture (RGB) or a mask (one byte for each pixel) as PNG bytes, without loss. */
export async function encodePng(picture: Picture): Promise<Uint8Array> {
  const { width, height, data } = picture
  const channels = data.length === width * height ? 1 : 3
  if (data.length !== channels * width * height) {
    throw new BlockscaleError('TENSOR_INVALID', `${data.length} bytes are no picture of ${width} × ${height} pixels`)
  }
  const sharp = await loadSharp()
  const image = sharp(data, { raw: { width, height, channels } })
  return bytesOf(await (channels === 1 ? image.toColourspace('b-w') : image).png({ compressionLevel: 6 }).toBuffer())
}

/** A picture with SVG (of the same width and height) drawn over it, as PNG bytes. */
export async function encodeOverlay(picture: Picture, svg: string): Promise<Uint8Array> {
  const sharp = await loadSharp()
  const raw = { width: picture.width, height: picture.height, channels: 3 } as const
  return bytesOf(
    await sharp(picture.data, { raw })
      .composite([{ input: Buffer.from(svg) }])
      .png()
      .toBuffer(),
  )
}
