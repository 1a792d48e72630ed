/** What the first bytes of a picture say, before any decoder sees it. */
export interface PictureHeader {
  readonly format: 'jpeg' | 'png' | 'webp'
  readonly width: number
  readonly height: number
}

/**
 * Format and size of a JPEG, PNG or WebP picture by its content; undefined for everything else, also for broken headers.
 *
 * Decoders are code that reads what strangers send. This keeps every other format (SVG, TIFF, PDF …) away from them,
 * and lets the service count pixels before memory is taken for them.
 */
export function readPictureHeader(bytes: Uint8Array): PictureHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const header = png(view) ?? webp(view) ?? jpeg(view)
  return header && header.width > 0 && header.height > 0 ? header : undefined
}

function png(view: DataView): PictureHeader | undefined {
  if (view.byteLength < 24 || view.getUint32(0) !== 0x89504e47 || view.getUint32(4) !== 0x0d0a1a0a) return undefined
  return { format: 'png', width: view.getUint32(16), height: view.getUint32(20) }
}

function webp(view: DataView): PictureHeader | undefined {
  if (view.byteLength < 30 || view.getUint32(0) !== fourCc('RIFF') || view.getUint32(8) !== fourCc('WEBP')) {
    return undefined
  }
  const chunk = view.getUint32(12)
  if (chunk === fourCc('VP8X')) return { format: 'webp', width: 1 + uint24(view, 24), height: 1 + uint24(view, 27) }
  if (chunk === fourCc('VP8L')) {
    const bits = view.getUint32(21, true)
    return { format: 'webp', width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) }
  }
  if (chunk === fourCc('VP8 ')) {
    return { format: 'webp', width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff }
  }
  return undefined
}

/** Goes from marker to marker to the start of frame; a thumbnail inside an EXIF segment is stepped over. */
function jpeg(view: DataView): PictureHeader | undefined {
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8 || view.getUint8(2) !== 0xff) return undefined
  let at = 2
  while (at + 9 <= view.byteLength) {
    if (view.getUint8(at) !== 0xff) return undefined
    const marker = view.getUint8(at + 1)
    if (marker === 0xff) {
      at += 1
      continue
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc
    if (isFrame) return { format: 'jpeg', width: view.getUint16(at + 7), height: view.getUint16(at + 5) }
    const standsAlone = marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)
    const length = standsAlone ? 0 : view.getUint16(at + 2)
    if (!standsAlone && length < 2) return undefined
    at += 2 + length
  }
  return undefined
}

const uint24 = (view: DataView, at: number): number =>
  view.getUint8(at) | (view.getUint8(at + 1) << 8) | (view.getUint8(at + 2) << 16)

const fourCc = (text: string): number =>
  text.split('').reduce((word, letter) => ((word << 8) | letter.charCodeAt(0)) >>> 0, 0)
