import sharp from 'sharp'
import { seededRandom } from '../../src/base/index.ts'

/** A source of random choices for one picture; equal seeds draw equal pictures. */
export class Dice {
  readonly next: () => number

  constructor(seed: number) {
    this.next = seededRandom(Math.imul(seed + 1, 0x9e3779b1))
  }
  between(low: number, high: number): number {
    return low + (high - low) * this.next()
  }
  /** bell-shaped, about −1 to 1 */
  bell(): number {
    return (this.next() + this.next() + this.next() - 1.5) / 1.5
  }
  chance(share: number): boolean {
    return this.next() < share
  }
  pick<T>(of: readonly T[]): T {
    return of[Math.floor(this.next() * of.length)]!
  }
}

export const hsl = (hue: number, saturation: number, light: number): string =>
  `hsl(${hue.toFixed(0)},${saturation.toFixed(0)}%,${light.toFixed(0)}%)`

const anyColour = (dice: Dice): string => {
  const natural = dice.chance(0.7)
  const hue = natural ? dice.pick([30, 35, 90, 110, 205, 215, 220]) + dice.bell() * 20 : dice.between(0, 360)
  return hsl(hue, dice.between(0, natural ? 45 : 80), dice.between(8, 90))
}

/** What may stand behind an object: sky or walls, foliage, poles, windows, other coloured things. */
export function background(dice: Dice, size: number): string {
  const parts = [
    `<defs><linearGradient id="g" x1="0" y1="0" x2="${dice.next().toFixed(2)}" y2="1">` +
      `<stop offset="0" stop-color="${anyColour(dice)}"/><stop offset="1" stop-color="${anyColour(dice)}"/>` +
      `</linearGradient></defs><rect width="${size}" height="${size}" fill="url(#g)"/>`,
  ]
  for (let i = Math.floor(dice.between(2, 14)); i > 0; i--) parts.push(clutter(dice, size))
  return parts.join('')
}

function clutter(dice: Dice, size: number): string {
  const [x, y] = [dice.between(-0.2, 1) * size, dice.between(-0.2, 1) * size]
  const [w, h] = [dice.between(0.05, 0.6) * size, dice.between(0.05, 0.6) * size]
  const opacity = dice.between(0.3, 1).toFixed(2)
  const colour = anyColour(dice)
  const point = () => `${(dice.between(-0.2, 1.2) * size).toFixed(1)},${(dice.between(-0.2, 1.2) * size).toFixed(1)}`
  switch (Math.floor(dice.next() * 5)) {
    case 0:
      return `<rect x="${x}" y="${y}" width="${w}" height="${h}" fill="${colour}" opacity="${opacity}"/>`
    case 1:
      return `<ellipse cx="${x}" cy="${y}" rx="${w / 2}" ry="${h / 2}" fill="${colour}" opacity="${opacity}"/>`
    case 2:
      return `<path d="M${point()} L${point()}" stroke="${colour}" stroke-width="${dice.between(0.01, 0.12) * size}" opacity="${opacity}"/>`
    case 3:
      return `<polygon points="${point()} ${point()} ${point()}" fill="${colour}" opacity="${opacity}"/>`
    default:
      return `<path d="M${point()} Q${point()} ${point()}" fill="none" stroke="${colour}" stroke-width="${dice.between(0.01, 0.06) * size}" opacity="${opacity}"/>`
  }
}

/** Light that falls unevenly: a shadow or a shine over a part of the picture. */
export function lighting(dice: Dice, size: number): string {
  if (dice.chance(0.4)) return ''
  const colour = dice.chance(0.6) ? 'black' : 'white'
  const [from, to] = [dice.between(0, 0.6).toFixed(2), dice.between(0, 0.3).toFixed(2)]
  const [x1, y1, x2, y2] = [dice.next(), dice.next(), dice.next(), dice.next()].map((v) => v.toFixed(2))
  return (
    `<defs><linearGradient id="l" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}">` +
    `<stop offset="0.3" stop-color="${colour}" stop-opacity="${from}"/>` +
    `<stop offset="0.7" stop-color="${colour}" stop-opacity="${to}"/></linearGradient></defs>` +
    `<rect width="${size}" height="${size}" fill="url(#l)"/>`
  )
}

/** A picture as bytes, `width · height · channels`. */
export interface Raster {
  readonly width: number
  readonly height: number
  readonly channels: number
  readonly data: Uint8Array
}

export async function rasterise(svg: string, width: number, height: number, gray = false): Promise<Raster> {
  const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${svg}</svg>`
  const image = sharp(Buffer.from(text)).flatten({ background: '#888' })
  const { data } = await (gray ? image.grayscale() : image).removeAlpha().raw().toBuffer({ resolveWithObject: true })
  return { width, height, channels: gray ? 1 : 3, data: new Uint8Array(data) }
}

/** What a cheap camera does to a picture: soft focus, wrong exposure, noise. `strength` 1 is usual, 0 is none. */
export async function photograph(dice: Dice, picture: Raster, strength = 1): Promise<Raster> {
  const { width, height, channels } = picture
  let image = sharp(picture.data, { raw: { width, height, channels: channels as 1 | 3 } })
  const blur = dice.chance(0.6) ? dice.between(0.3, 0.3 + 1.1 * strength) : 0
  if (blur > 0.3) image = image.blur(blur)
  const { data } = await image.raw().toBuffer({ resolveWithObject: true })
  const gain = 1 + dice.bell() * 0.5 * strength
  const offset = dice.bell() * 45 * strength
  const gamma = 1 + dice.bell() * 0.35 * strength
  const noise = dice.next() ** 2 * 34 * strength
  const tint = [1, 1, 1].map(() => 1 + (channels === 3 ? dice.bell() * 0.12 * strength : 0))
  const stride = data.length / (width * height)
  const result = new Uint8Array(width * height * channels)
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < channels; c++) {
      const light = 255 * (data[i * stride + c]! / 255) ** gamma
      const value = (light - 128) * gain * tint[c]! + 128 + offset + dice.bell() * noise
      result[i * channels + c] = Math.max(0, Math.min(255, value))
    }
  }
  return { width, height, channels, data: result }
}

/** As JPEG with full colour resolution: small signs are told apart by colour, which half of it blurs. */
export async function jpeg(picture: Raster, quality: number): Promise<Buffer> {
  const { width, height, channels } = picture
  return sharp(picture.data, { raw: { width, height, channels: channels as 1 | 3 } })
    .jpeg({ quality, chromaSubsampling: '4:4:4' })
    .toBuffer()
}
