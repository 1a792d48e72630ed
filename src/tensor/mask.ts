import { readFile } from 'node:fs/promises'
import { inflateSync } from 'node:zlib'
import { BlockscaleError } from '../base/index.ts'
import { decodePicture, type PictureLimits } from './picture.ts'

/** One number for each pixel, row by row: class indices. */
export interface Mask {
  readonly width: number
  readonly height: number
  readonly data: Uint8Array
}

/**
 * Reads a PNG with one number for each pixel: of palette pictures (as Pascal VOC has them) the indices, of others the grey
 * level. Image libraries give the palette's colours in place of its indices, so those are read here.
 *
 * @throws BlockscaleError PICTURE_UNREADABLE when it is damaged or an interlaced palette picture, PICTURE_TOO_LARGE
 */
export async function decodeMask(path: string, limits: PictureLimits = {}): Promise<Mask> {
  // decoding checks format, limits and damage for both kinds
  const picture = await decodePicture(path, limits)
  const indices = paletteIndices(await readFile(path), path)
  if (indices) return indices
  const data = new Uint8Array(picture.width * picture.height)
  for (let i = 0; i < data.length; i++) data[i] = picture.data[3 * i]!
  return { width: picture.width, height: picture.height, data }
}

const PALETTE = 3

/** The indices of a PNG with a palette; undefined for every other picture. */
function paletteIndices(bytes: Buffer, path: string): Mask | undefined {
  if (bytes.readUInt32BE(0) !== 0x89504e47 || bytes.toString('latin1', 12, 16) !== 'IHDR') return undefined
  const [width, height, bits, kind, interlaced] = [
    bytes.readUInt32BE(16),
    bytes.readUInt32BE(20),
    bytes[24]!,
    bytes[25]!,
    bytes[28]!,
  ]
  if (kind !== PALETTE) return undefined
  if (interlaced) {
    throw new BlockscaleError(
      'PICTURE_UNREADABLE',
      `${path} is an interlaced palette PNG`,
      'Save the mask without interlacing.',
    )
  }
  const stride = Math.ceil((width * bits) / 8)
  const lines = inflateSync(Buffer.concat(compressedParts(bytes)), { maxOutputLength: (stride + 1) * height + 64 })
  const data = new Uint8Array(width * height)
  let above = new Uint8Array(stride)
  for (let y = 0; y < height; y++) {
    const line = unfilter(lines.subarray(y * (stride + 1), (y + 1) * (stride + 1)), above)
    for (let x = 0; x < width; x++) {
      const bit = x * bits
      data[y * width + x] = (line[bit >> 3]! >> (8 - bits - (bit & 7))) & ((1 << bits) - 1)
    }
    above = line
  }
  return { width, height, data }
}

function compressedParts(bytes: Buffer): Buffer[] {
  const parts: Buffer[] = []
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at)
    if (bytes.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(bytes.subarray(at + 8, at + 8 + length))
    at += 12 + length
  }
  return parts
}

/** Undoes PNG's prediction of a line from its left neighbour and the line above (one byte for a pixel, or less). */
function unfilter(filtered: Uint8Array, above: Uint8Array): Uint8Array<ArrayBuffer> {
  const kind = filtered[0]
  const line = new Uint8Array(filtered.length - 1)
  for (let i = 0; i < line.length; i++) {
    const left = line[i - 1] ?? 0
    const up = above[i] ?? 0
    const corner = above[i - 1] ?? 0
    const guess =
      kind === 1 ? left : kind === 2 ? up : kind === 3 ? (left + up) >> 1 : kind === 4 ? paeth(left, up, corner) : 0
    line[i] = filtered[i + 1]! + guess
  }
  return line
}

function paeth(left: number, up: number, corner: number): number {
  const guess = left + up - corner
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)]
  return a <= b && a <= c ? left : b <= c ? up : corner
}
