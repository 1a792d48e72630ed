import { deflateSync } from 'node:zlib'
import sharp, { type Sharp } from 'sharp'
import { seededRandom } from '../../src/base/index.ts'

export interface BrokenPicture {
  readonly how: string
  readonly bytes: Uint8Array
}

const canvas = (width = 48, height = 36) =>
  sharp({ create: { width, height, channels: 4, background: { r: 200, g: 30, b: 90, alpha: 0.5 } } })

const formats: Readonly<Record<string, () => Sharp>> = {
  jpeg: () => canvas().jpeg(),
  'progressive jpeg': () => canvas().jpeg({ progressive: true }),
  'cmyk jpeg': () => canvas().toColourspace('cmyk').jpeg(),
  'jpeg with exif': () => canvas().withMetadata({ orientation: 6 }).jpeg(),
  png: () => canvas().png(),
  'interlaced palette png': () => canvas().png({ palette: true, progressive: true }),
  '16-bit png': () => canvas().toColourspace('rgb16').png(),
  webp: () => canvas().removeAlpha().webp(),
  'lossless webp with alpha': () => canvas().webp({ lossless: true }),
}

/** One of each format, undamaged. */
export const wholePictures = (): Promise<Uint8Array[]> =>
  Promise.all(Object.values(formats).map(async (make) => new Uint8Array(await make().toBuffer())))

type Damage = (bytes: Buffer, random: () => number) => Buffer
const place = (bytes: Buffer, random: () => number) => Math.floor(random() * bytes.length)

const damages: Readonly<Record<string, Damage>> = {
  'cut in the header': (bytes) => bytes.subarray(0, 20),
  'cut in the middle': (bytes) => bytes.subarray(0, bytes.length >> 1),
  'without its last byte': (bytes) => bytes.subarray(0, -1),
  'one bit flipped': (bytes, random) => {
    bytes[place(bytes, random)]! ^= 4
    return bytes
  },
  'noise behind the header': (bytes, random) => {
    for (let i = 30; i < bytes.length; i += 3) bytes[i] = Math.floor(random() * 256)
    return bytes
  },
  'zeros behind the header': (bytes) => bytes.fill(0, 40),
  'ones behind the header': (bytes) => bytes.fill(255, 40),
  'its beginning gone': (bytes) => bytes.subarray(3),
  'its beginning twice': (bytes) => Buffer.concat([bytes.subarray(0, 40), bytes]),
  'a part gone': (bytes) => Buffer.concat([bytes.subarray(0, 60), bytes.subarray(75)]),
  'much behind its end': (bytes) => Buffer.concat([bytes, Buffer.alloc(100_000, 7)]),
}

/** A PNG whose header promises `width` × `height`; its pixels are `rows` compressed zeros. */
function png(width: number, height: number, rows: number, bits = 8, color = 2): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), data])
    const frame = Buffer.alloc(8 + body.length)
    frame.writeUInt32BE(data.length, 0)
    body.copy(frame, 4)
    frame.writeUInt32BE(crc(body), 4 + body.length)
    return frame
  }
  const head = Buffer.alloc(13)
  head.writeUInt32BE(width, 0)
  head.writeUInt32BE(height, 4)
  head[8] = bits
  head[9] = color
  const magic = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10])
  const end = chunk('IEND', Buffer.alloc(0))
  return Buffer.concat([magic, chunk('IHDR', head), chunk('IDAT', deflateSync(Buffer.alloc(rows))), end])
}

function crc(bytes: Buffer): number {
  let value = 0xffffffff
  for (const byte of bytes) {
    value ^= byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1
  }
  return (value ^ 0xffffffff) >>> 0
}

const svg =
  '<svg xmlns="http://www.w3.org/2000/svg" width="9999" height="9999"><image href="file:///etc/passwd"/></svg>'
const entity = `<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>`

/** More than a hundred kinds: real files of each format, damaged in each way, and files that are traps. */
export async function brokenPictures(): Promise<BrokenPicture[]> {
  const pictures: BrokenPicture[] = []
  for (const [format, make] of Object.entries(formats)) {
    const whole = await make().toBuffer()
    for (const [how, damage] of Object.entries(damages)) {
      const bytes = damage(Buffer.from(whole), seededRandom(pictures.length))
      pictures.push({ how: `${format}, ${how}`, bytes: new Uint8Array(bytes) })
    }
  }
  const traps: Readonly<Record<string, Buffer>> = {
    nothing: Buffer.alloc(0),
    'one byte': Buffer.from([0xff]),
    'a png of 60000 × 60000 pixels': png(60_000, 60_000, 1000),
    'a png of 2^31 × 1 pixels': png(2 ** 31, 1, 10),
    'a png of 0 × 0 pixels': png(0, 0, 0),
    'a png of depth 3': png(8, 8, 200, 3),
    'a png of colour type 9': png(8, 8, 200, 8, 9),
    'a png whose pixels go on for 20 MB': png(16, 16, 20_000_000),
    'a png with one row of pixels': png(4000, 4000, 12_001),
    'a picture of 40000 × 1 pixels': await canvas(16_000, 1).png().toBuffer(),
    'a jpeg that begins again and again': Buffer.concat(Array.from({ length: 4000 }, () => Buffer.from([0xff, 0xd8]))),
    'a jpeg of segments alone': Buffer.concat([Buffer.from([0xff, 0xd8]), Buffer.alloc(200_000, 0xff)]),
    'a gif': await canvas().gif().toBuffer(),
    'a tiff': await canvas().tiff().toBuffer(),
    'an svg with a file in it': Buffer.from(svg),
    'an svg with an entity': Buffer.from(entity),
    'a pdf': Buffer.from('%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>'),
    'a page': Buffer.from('<!doctype html><script>alert(1)</script>'),
    'a webp without chunks': Buffer.from('RIFF\x04\0\0\0WEBP', 'latin1'),
    'a webp that lies about its length': Buffer.from('RIFF\xff\xff\xff\x7fWEBPVP8 \xff\xff\xff\x7f', 'latin1'),
  }
  for (const [how, bytes] of Object.entries(traps)) pictures.push({ how, bytes: new Uint8Array(bytes) })
  return pictures
}
