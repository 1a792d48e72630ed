import type { Dice } from './scene.ts'

type Point = readonly [number, number]

/** Digits as lines and quadratic curves in a box of 10 × 16: no font, so every machine draws the same. */
const shapes: Readonly<Record<string, readonly (readonly Point[])[]>> = {
  // a stroke is a start, then pairs of control point and end point
  '0': [
    [
      [5, 0],
      [0, 0],
      [0, 8],
      [0, 16],
      [5, 16],
      [10, 16],
      [10, 8],
      [10, 0],
      [5, 0],
    ],
  ],
  '1': [
    [
      [2, 3],
      [4, 2],
      [6, 0],
      [6, 8],
      [6, 16],
    ],
  ],
  '2': [
    [
      [0, 4],
      [0, 0],
      [5, 0],
      [10, 0],
      [10, 5],
      [10, 9],
      [0, 16],
      [5, 16],
      [10, 16],
    ],
  ],
  '3': [
    [
      [0, 3],
      [1, 0],
      [5, 0],
      [10, 0],
      [10, 4],
      [10, 8],
      [4, 8],
      [10, 8],
      [10, 12],
      [10, 16],
      [5, 16],
      [1, 16],
      [0, 13],
    ],
  ],
  '4': [
    [
      [7, 16],
      [7, 8],
      [7, 0],
      [3, 5],
      [0, 11],
      [5, 11],
      [10, 11],
    ],
  ],
  '5': [
    [
      [9, 0],
      [5, 0],
      [1, 0],
      [1, 4],
      [0, 8],
      [3, 6],
      [6, 6],
      [10, 6],
      [10, 11],
      [10, 16],
      [5, 16],
      [1, 16],
      [0, 14],
    ],
  ],
  '6': [
    [
      [9, 1],
      [0, 1],
      [0, 11],
      [0, 16],
      [5, 16],
      [10, 16],
      [10, 11],
      [10, 7],
      [5, 7],
      [0, 7],
      [0, 11],
    ],
  ],
  '7': [
    [
      [0, 0],
      [5, 0],
      [10, 0],
      [5, 8],
      [4, 16],
    ],
  ],
  '8': [
    [
      [5, 8],
      [0, 8],
      [0, 4],
      [0, 0],
      [5, 0],
      [10, 0],
      [10, 4],
      [10, 8],
      [5, 8],
      [0, 8],
      [0, 12],
      [0, 16],
      [5, 16],
      [10, 16],
      [10, 12],
      [10, 8],
      [5, 8],
    ],
  ],
  '9': [
    [
      [10, 5],
      [10, 9],
      [5, 9],
      [0, 9],
      [0, 5],
      [0, 0],
      [5, 0],
      [10, 0],
      [10, 5],
      [10, 15],
      [1, 15],
    ],
  ],
}

export interface GlyphStyle {
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
  readonly stroke: number
  readonly colour: string
  /** how far points wander, in units of the box */
  readonly wander?: number
}

/** The SVG path of one digit in a box with its top left corner at `x, y`. */
export function glyph(dice: Dice, digit: string, style: GlyphStyle): string {
  const wander = style.wander ?? 0
  const place = ([x, y]: Point) => {
    const px = style.x + ((x + dice.bell() * wander) / 10) * style.width
    const py = style.y + ((y + dice.bell() * wander) / 16) * style.height
    return `${px.toFixed(1)},${py.toFixed(1)}`
  }
  const d = (shapes[digit] ?? []).map((points) => {
    let path = `M${place(points[0]!)}`
    for (let i = 1; i + 1 < points.length; i += 2) path += ` Q${place(points[i]!)} ${place(points[i + 1]!)}`
    return path
  })
  return `<path d="${d.join(' ')}" fill="none" stroke="${style.colour}" stroke-width="${style.stroke.toFixed(1)}" stroke-linecap="round" stroke-linejoin="round"/>`
}
