/**
 * Where a network's input lies on the upright picture: a picture's point (x, y) in pixels is the network's point
 * (x · scaleX + offsetX, y · scaleY + offsetY). Pixel centres are at halves on both sides.
 */
export interface Placement {
  /** of the upright picture */
  readonly width: number
  readonly height: number
  /** of the network's input */
  readonly networkWidth: number
  readonly networkHeight: number
  readonly scaleX: number
  readonly scaleY: number
  readonly offsetX: number
  readonly offsetY: number
}

export type Point = readonly [x: number, y: number]

/** A point of the network's input as a point of the picture. */
export const toPicture = (at: Placement, x: number, y: number): Point => [
  (x - at.offsetX) / at.scaleX,
  (y - at.offsetY) / at.scaleY,
]

/** A point of the picture as a point of the network's input. */
export const toNetwork = (at: Placement, x: number, y: number): Point => [
  x * at.scaleX + at.offsetX,
  y * at.scaleY + at.offsetY,
]
