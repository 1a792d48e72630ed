import { glyph } from './glyphs.ts'
import { background, Dice, hsl, lighting, photograph, type Raster, rasterise } from './scene.ts'

export const SIGN_SIZE = 48

interface Paint {
  readonly red: string
  readonly blue: string
  readonly white: string
  readonly black: string
  readonly yellow: string
}

/** Paint fades and differs from country to country. */
export const paintOf = (dice: Dice): Paint => ({
  red: hsl(356 + dice.bell() * 10, dice.between(55, 95), dice.between(32, 50)),
  blue: hsl(213 + dice.bell() * 14, dice.between(50, 95), dice.between(25, 48)),
  white: hsl(dice.between(0, 60), dice.between(0, 12), dice.between(84, 98)),
  black: hsl(220, dice.between(0, 12), dice.between(3, 20)),
  yellow: hsl(47 + dice.bell() * 7, dice.between(75, 100), dice.between(46, 58)),
})

const disc = (radius: number, fill: string) => `<circle cx="50" cy="50" r="${radius}" fill="${fill}"/>`
const shape = (points: string, fill: string) => `<polygon points="${points}" fill="${fill}"/>`
const line = (d: string, colour: string, width: number) =>
  `<path d="${d}" fill="none" stroke="${colour}" stroke-width="${width}"/>`

const ringed = (p: Paint, inside: string) => disc(48, p.red) + disc(37, p.white) + inside
const blueDisc = (p: Paint, inside: string) => disc(49, p.white) + disc(46.5, p.blue) + inside
const warning = (p: Paint, inside: string) =>
  shape('50,4 98,90 2,90', p.red) + shape('50,22 82,81 18,81', p.white) + inside
const blueSquare = (p: Paint, inside: string) =>
  `<rect x="4" y="4" width="92" height="92" rx="6" fill="${p.white}"/><rect x="7" y="7" width="86" height="86" rx="4" fill="${p.blue}"/>${inside}`

function speed(number: string) {
  return (p: Paint, dice: Dice): string => {
    const width = number.length === 3 ? 12 : 17
    const gap = number.length === 3 ? 7 : 9
    const left = 50 - (number.length * width + (number.length - 1) * gap) / 2
    const digits = [...number].map((digit, i) =>
      glyph(dice, digit, { x: left + i * (width + gap), y: 33, width, height: 34, stroke: 6.5, colour: p.black }),
    )
    return ringed(p, digits.join(''))
  }
}

/** An arrow along a path, with its head at the end. */
const arrow = (d: string, head: string, colour: string) => line(d, colour, 11) + shape(head, colour)

const person = (p: Paint, x: number, y: number, size: number) =>
  `<g transform="translate(${x} ${y}) scale(${size})" stroke="${p.black}" stroke-width="4" stroke-linecap="round" fill="none">` +
  `<circle cx="0" cy="-14" r="3.5" fill="${p.black}" stroke="none"/><path d="M0,-9 L-1,3 L-7,14 M-1,3 L6,13 M-8,0 L0,-7 L8,-1"/></g>`

/** Every class with the drawing of its sign in a box of 100 × 100. `none` is street furniture without a sign. */
const drawings: Readonly<Record<string, (p: Paint, dice: Dice) => string>> = {
  'bend-left': (p) =>
    warning(p, line('M58,76 L58,62 Q58,54 48,50 Q42,47 42,38', p.black, 7) + shape('33,42 51,42 42,29', p.black)),
  'bend-right': (p) =>
    warning(p, line('M42,76 L42,62 Q42,54 52,50 Q58,47 58,38', p.black, 7) + shape('49,42 67,42 58,29', p.black)),
  children: (p) => warning(p, person(p, 40, 64, 0.95) + person(p, 60, 67, 0.75)),
  danger: (p) =>
    warning(p, `${shape('45,38 55,38 52.5,62 47.5,62', p.black)}<circle cx="50" cy="71" r="4.5" fill="${p.black}"/>`),
  'keep-right': (p) => blueDisc(p, arrow('M28,28 L62,62', '76,76 76,50 50,76', p.white)),
  'no-entry': (p) =>
    `${disc(49, p.white) + disc(47, p.red)}<rect x="16" y="41" width="68" height="18" fill="${p.white}"/>`,
  'no-parking': (p) => disc(48, p.red) + disc(38, p.blue) + line('M24,24 L76,76', p.red, 10),
  'no-stopping': (p) => disc(48, p.red) + disc(38, p.blue) + line('M24,24 L76,76 M24,76 L76,24', p.red, 10),
  none: () => '',
  'one-way-only-left': (p) => blueDisc(p, arrow('M80,50 L40,50', '16,50 42,30 42,70', p.white)),
  'one-way-only-right': (p) => blueDisc(p, arrow('M20,50 L60,50', '84,50 58,30 58,70', p.white)),
  parking: (p) => blueSquare(p, line('M38,82 L38,22 L54,22 A15,15 0 0 1 54,54 L38,54', p.white, 11)),
  'pedestrian-crossing': (p) => blueSquare(p, shape('50,16 86,80 14,80', p.white) + person(p, 50, 62, 1.15)),
  priority: (p) => shape('50,2 98,50 50,98 2,50', p.white) + shape('50,18 82,50 50,82 18,50', p.yellow),
  roundabout: (p) =>
    blueDisc(
      p,
      [0, 120, 240]
        .map(
          (turn) =>
            `<g transform="rotate(${turn} 50 50)">${line('M27,58 A24,24 0 0 1 45,27', p.white, 9)}${shape('42,16 60,27 43,38', p.white)}</g>`,
        )
        .join(''),
    ),
  'speed-30': speed('30'),
  'speed-50': speed('50'),
  'speed-60': speed('60'),
  'speed-80': speed('80'),
  'speed-100': speed('100'),
  stop: (p, dice) =>
    shape('30,2 70,2 98,30 98,70 70,98 30,98 2,70 2,30', p.white) +
    shape('31,5 69,5 95,31 95,69 69,95 31,95 5,69 5,31', p.red) +
    `<g fill="none" stroke="${p.white}" stroke-width="${dice.between(4.5, 6)}"><path d="M27,42 Q26,38 21,38 Q15,38 15,44 Q15,49 21,50 Q27,51 27,57 Q27,63 21,63 Q15,63 14,58 M31,39 L47,39 M39,39 L39,64"/><ellipse cx="58" cy="51" rx="8" ry="12"/><path d="M73,65 L73,39 L79,39 A7,7 0 0 1 79,53 L73,53"/></g>`,
  yield: (p) => shape('2,10 98,10 50,96', p.red) + shape('19,20 81,20 50,76', p.white),
}

/** The classes in the order of the network's outputs. */
export const signClasses: readonly string[] = Object.keys(drawings).sort()

/**
 * A picture of one sign in front of a street-like background: turned, tilted, of different size, half hidden, in bad light.
 *
 * @param seed decides everything; training, calibration and validation use seeds from ranges that do not meet
 */
export async function drawSign(label: string, seed: number): Promise<Raster> {
  const dice = new Dice(seed)
  const size = SIGN_SIZE
  const paint = paintOf(dice)
  const scale = (dice.between(0.25, 0.8) * size) / 100
  const [x, y] = [size / 2 + dice.bell() * size * 0.2, size / 2 + dice.bell() * size * 0.2]
  const sign = placeSign(dice, label, paint, x, y, scale).svg
  const neighbour = dice.chance(0.2) ? fragment(dice, paint, size) : ''
  const leaf = dice.chance(0.4) ? occlusion(dice, x, y, size) : ''
  const svg = background(dice, size) + neighbour + sign + leaf + lighting(dice, size)
  return photograph(dice, await rasterise(svg, size, size), 1.4)
}

/** Corners in pixels. */
export interface Box {
  readonly xMin: number
  readonly yMin: number
  readonly xMax: number
  readonly yMax: number
}

/**
 * A sign with its post, tilted and seen from the side, and the box around the sign itself.
 *
 * @param x, y its middle; @param scale pixels for each of the 100 units of its drawing
 */
export function placeSign(
  dice: Dice,
  label: string,
  paint: Paint,
  x: number,
  y: number,
  scale: number,
): { readonly svg: string; readonly box: Box } {
  const tilt = dice.bell() * 20
  const skew = dice.bell() * 16
  const [sx, sy] = [scale * dice.between(0.72, 1.05), scale * dice.between(0.85, 1.05)]
  const place =
    `translate(${x.toFixed(2)} ${y.toFixed(2)}) rotate(${tilt.toFixed(1)}) skewX(${skew.toFixed(1)}) ` +
    `scale(${sx.toFixed(3)} ${sy.toFixed(3)}) translate(-50 -50)`
  const post = dice.chance(0.7)
    ? `<rect x="46" y="60" width="8" height="300" fill="${hsl(210, 8, dice.between(25, 70))}"/>`
    : ''
  const svg = `<g transform="${place}">${post}${drawings[label]!(paint, dice)}</g>`
  const radians = (degrees: number) => (degrees * Math.PI) / 180
  const points = outlineOf(label).map(([px, py]) => {
    const [u, v] = [(px - 50) * sx + Math.tan(radians(skew)) * (py - 50) * sy, (py - 50) * sy]
    const [cos, sin] = [Math.cos(radians(tilt)), Math.sin(radians(tilt))]
    return [x + u * cos - v * sin, y + u * sin + v * cos] as const
  })
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])]
  return { svg, box: { xMin: Math.min(...xs), yMin: Math.min(...ys), xMax: Math.max(...xs), yMax: Math.max(...ys) } }
}

/** The outer edge of a sign, in its box of 100 × 100. */
function outlineOf(label: string): readonly (readonly [number, number])[] {
  if (['bend-left', 'bend-right', 'children', 'danger'].includes(label))
    return [
      [50, 4],
      [98, 90],
      [2, 90],
    ]
  if (label === 'yield')
    return [
      [2, 10],
      [98, 10],
      [50, 96],
    ]
  if (label === 'priority')
    return [
      [50, 2],
      [98, 50],
      [50, 98],
      [2, 50],
    ]
  if (label === 'parking' || label === 'pedestrian-crossing')
    return [
      [4, 4],
      [96, 4],
      [96, 96],
      [4, 96],
    ]
  return Array.from({ length: 24 }, (_, i) => {
    const angle = (i * Math.PI) / 12
    return [50 + 48.5 * Math.cos(angle), 50 + 48.5 * Math.sin(angle)] as const
  })
}

/** A part of another sign at the border, as real pictures have. */
function fragment(dice: Dice, paint: Paint, size: number): string {
  const label = dice.pick(signClasses)
  const left = dice.chance(0.5) ? -0.36 : 0.86
  const scale = (size / 100) * 0.5
  return `<g transform="translate(${left * size} ${dice.between(-0.1, 0.6) * size}) scale(${scale})">${drawings[label]!(paint, dice)}</g>`
}

/** Something in front of a part of the sign. */
function occlusion(dice: Dice, x: number, y: number, size: number): string {
  const angle = dice.between(0, 2 * Math.PI)
  const [cx, cy] = [x + Math.cos(angle) * size * 0.3, y + Math.sin(angle) * size * 0.3]
  const colour = hsl(dice.pick([30, 100, 110, 210]), dice.between(5, 50), dice.between(10, 60))
  return `<ellipse cx="${cx}" cy="${cy}" rx="${dice.between(0.05, 0.2) * size}" ry="${dice.between(0.05, 0.2) * size}" fill="${colour}"/>`
}
