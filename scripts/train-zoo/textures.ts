import sharp from 'sharp'
import { glyph } from './glyphs.ts'
import { background, Dice, hsl, type Raster, rasterise } from './scene.ts'

/**
 * A picture with the detail that enlarging has to restore: edges at all angles, thin lines, writing, stripes, leaves, and
 * rough surfaces at several scales.
 *
 * Drawn twice as large and scaled down, because no lens gives edges as hard as those of drawn shapes.
 */
export async function drawTexture(seed: number, size: number, gray: boolean): Promise<Raster> {
  const dice = new Dice(seed)
  const large = 2 * size
  const parts = [background(dice, large), background(dice, large).replace(/<rect width.*?\/>/, '')]
  for (let i = Math.floor(dice.between(1, 5)); i > 0; i--) parts.push(detail(dice, large))
  const drawn = await rasterise(parts.join(''), large, large, gray)
  const data = await sharp(drawn.data, { raw: { width: large, height: large, channels: drawn.channels as 1 | 3 } })
    .resize(size, size, { kernel: 'cubic' })
    .raw()
    .toBuffer({ resolveWithObject: true })
  return roughen(dice, { width: size, height: size, channels: drawn.channels, data: everyNth(data, drawn.channels) })
}

/** sharp gives three channels back for one; they are equal. */
function everyNth({ data, info }: { data: Buffer; info: { channels: number } }, channels: number): Uint8Array {
  if (info.channels === channels) return new Uint8Array(data)
  return Uint8Array.from({ length: data.length / info.channels }, (_, i) => data[i * info.channels]!)
}

function detail(dice: Dice, size: number): string {
  const at = () => dice.between(0, 0.8) * size
  const colour = hsl(dice.between(0, 360), dice.between(0, 60), dice.between(5, 95))
  const turn = `transform="rotate(${dice.between(0, 180).toFixed(0)} ${size / 2} ${size / 2})"`
  switch (Math.floor(dice.next() * 4)) {
    case 0: {
      const [x, y, height] = [at(), at(), dice.between(14, 60)]
      const digits = Array.from({ length: 6 }, (_, i) =>
        glyph(dice, String(Math.floor(dice.next() * 10)), {
          x: x + i * height * 0.75,
          y,
          width: height * 0.5,
          height,
          stroke: height * dice.between(0.06, 0.2),
          colour,
          wander: 0.6,
        }),
      )
      return `<g ${turn}>${digits.join('')}</g>`
    }
    case 1: {
      const step = dice.between(9, 34)
      const lines = Array.from({ length: Math.floor(size / step) }, (_, i) => `M0,${(i * step).toFixed(1)} h${size}`)
      return `<path ${turn} d="${lines.join(' ')}" stroke="${colour}" stroke-width="${dice.between(2, step * 0.6).toFixed(1)}" opacity="${dice.between(0.3, 1).toFixed(2)}"/>`
    }
    case 2: {
      const leaves = Array.from({ length: 25 }, () => {
        const [x, y, r] = [at(), at(), dice.between(3, 18)]
        return `<ellipse cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" rx="${r.toFixed(1)}" ry="${(r * 0.4).toFixed(1)}" fill="${hsl(dice.between(60, 140), 40, dice.between(10, 70))}" transform="rotate(${dice.between(0, 180).toFixed(0)} ${x.toFixed(0)} ${y.toFixed(0)})"/>`
      })
      return leaves.join('')
    }
    default: {
      const circles = Array.from(
        { length: 5 },
        (_, i) => `<circle cx="${size / 2}" cy="${size / 2}" r="${12 + i * 14}"/>`,
      )
      return `<g transform="translate(${at() - size / 2} ${at() - size / 2})" fill="none" stroke="${colour}" stroke-width="${dice.between(2, 8).toFixed(1)}">${circles.join('')}</g>`
    }
  }
}

/** Adds value noise of several scales, as plaster, cloth and skin have. */
function roughen(dice: Dice, picture: Raster): Raster {
  const { width, height, channels, data } = picture
  const strength = dice.next() ** 2 * 40
  const noise = new Float32Array(width * height)
  for (let cell = 16, weight = 1; cell >= 2; cell /= 2, weight *= 0.7) {
    const columns = Math.ceil(width / cell) + 2
    const grid = Float32Array.from({ length: columns * (Math.ceil(height / cell) + 2) }, () => dice.bell() * weight)
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const [gx, gy] = [x / cell, y / cell]
        const [x0, y0] = [Math.floor(gx), Math.floor(gy)]
        const [fx, fy] = [gx - x0, gy - y0]
        const at = (i: number, j: number) => grid[(y0 + j) * columns + x0 + i]!
        const top = at(0, 0) * (1 - fx) + at(1, 0) * fx
        const bottom = at(0, 1) * (1 - fx) + at(1, 1) * fx
        noise[y * width + x]! += top * (1 - fy) + bottom * fy
      }
    }
  }
  const rough = data.map((value, i) => value + strength * noise[Math.floor(i / channels)]!)
  for (let i = 0; i < rough.length; i++) {
    rough[i] = Math.max(0, Math.min(255, data[i]! + strength * noise[Math.floor(i / channels)]!))
  }
  return { width, height, channels, data: rough }
}
