import type { Picture } from './picture.ts'

/**
 * linear, cubic (a = −0.5) and lanczos widen with the scale when they make a picture smaller, as PIL and libvips do;
 * plain-linear and plain-cubic (a = −0.75) look at 2 or 4 neighbours at any scale, as OpenCV does.
 */
export type Kernel = 'linear' | 'cubic' | 'lanczos' | 'nearest' | 'plain-linear' | 'plain-cubic'

/** A part of a picture, in its pixels; may begin and end within a pixel. */
export interface Region {
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
}

const cubic =
  (a: number) =>
  (x: number): number =>
    x < 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0

const triangle = (x: number): number => (x < 1 ? 1 - x : 0)
const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x))

interface Shape {
  readonly support: number
  readonly widens: boolean
  /** weight at a distance ≥ 0 */
  readonly at: (distance: number) => number
}

const shapes: Readonly<Record<Exclude<Kernel, 'nearest'>, Shape>> = {
  linear: { support: 1, widens: true, at: triangle },
  cubic: { support: 2, widens: true, at: cubic(-0.5) },
  lanczos: { support: 3, widens: true, at: (x) => (x < 3 ? sinc(x) * sinc(x / 3) : 0) },
  'plain-linear': { support: 1, widens: false, at: triangle },
  'plain-cubic': { support: 2, widens: false, at: cubic(-0.75) },
}

/**
 * A region of a picture (or of a plane with one byte for each pixel) at another size.
 *
 * Runs in the calling thread, so that preparing a picture needs no second queue; a photograph is first averaged by whole
 * pixels down to about twice the target, which costs one addition for each byte.
 */
export function resample(picture: Picture, region: Region, width: number, height: number, kernel: Kernel): Picture {
  if (isWhole(region, width, height)) return crop(picture, region)
  if (kernel === 'nearest') return nearest(picture, region, width, height)
  const factor = shapes[kernel].widens ? Math.floor(Math.min(region.width / width, region.height / height) / 2) : 1
  if (factor < 2) return convolve(picture, region, width, height, shapes[kernel])
  const part = wholeBounds(picture, region)
  const smaller = {
    x: (region.x - part.x) / factor,
    y: (region.y - part.y) / factor,
    width: region.width / factor,
    height: region.height / factor,
  }
  return convolve(average(picture, part, factor), smaller, width, height, shapes[kernel])
}

/** The pixels that a region touches. */
function wholeBounds(picture: Picture, { x, y, width, height }: Region): Region {
  const left = Math.max(0, Math.floor(x))
  const top = Math.max(0, Math.floor(y))
  return {
    x: left,
    y: top,
    width: Math.min(picture.width, Math.ceil(x + width)) - left,
    height: Math.min(picture.height, Math.ceil(y + height)) - top,
  }
}

/** The whole picture at another size. */
export const resizePicture = (picture: Picture, width: number, height: number, kernel: Kernel = 'linear'): Picture =>
  resample(picture, { x: 0, y: 0, width: picture.width, height: picture.height }, width, height, kernel)

const isWhole = (region: Region, width: number, height: number): boolean =>
  region.width === width && region.height === height && Number.isInteger(region.x) && Number.isInteger(region.y)

/** Pixels without change; beyond the picture its edge goes on. */
function crop(picture: Picture, region: Region): Picture {
  const { x, y, width, height } = region
  const channels = picture.data.length / (picture.width * picture.height)
  if (x === 0 && y === 0 && width === picture.width && height === picture.height) return picture
  const data = new Uint8Array(width * height * channels)
  for (let row = 0; row < height; row++) {
    const from = Math.min(Math.max(y + row, 0), picture.height - 1) * picture.width
    if (x >= 0 && x + width <= picture.width) {
      data.set(picture.data.subarray((from + x) * channels, (from + x + width) * channels), row * width * channels)
      continue
    }
    for (let column = 0; column < width; column++) {
      const source = (from + Math.min(Math.max(x + column, 0), picture.width - 1)) * channels
      for (let c = 0; c < channels; c++) data[(row * width + column) * channels + c] = picture.data[source + c]!
    }
  }
  return { width, height, data }
}

function nearest(picture: Picture, region: Region, width: number, height: number): Picture {
  const channels = picture.data.length / (picture.width * picture.height)
  const data = new Uint8Array(width * height * channels)
  const at = (i: number, start: number, size: number, target: number, limit: number): number =>
    Math.min(Math.max(Math.floor(start + ((i + 0.5) * size) / target), 0), limit - 1)
  const columns = Int32Array.from({ length: width }, (_, i) => at(i, region.x, region.width, width, picture.width))
  for (let row = 0; row < height; row++) {
    const from = at(row, region.y, region.height, height, picture.height) * picture.width
    for (let column = 0; column < width; column++) {
      const source = (from + columns[column]!) * channels
      for (let c = 0; c < channels; c++) data[(row * width + column) * channels + c] = picture.data[source + c]!
    }
  }
  return { width, height, data }
}

/** The mean of each `factor` × `factor` pixels of a part with whole bounds; at its right and bottom of those that there are. */
function average(picture: Picture, part: Region, factor: number): Picture {
  const channels = picture.data.length / (picture.width * picture.height)
  const width = Math.ceil(part.width / factor)
  const height = Math.ceil(part.height / factor)
  const data = new Uint8Array(width * height * channels)
  const sums = new Float64Array(width * channels)
  const addLine = channels === 3 ? addColours : addValues
  for (let row = 0; row < height; row++) {
    const rows = Math.min(factor, part.height - row * factor)
    sums.fill(0)
    for (let r = 0; r < rows; r++) {
      const from = ((part.y + row * factor + r) * picture.width + part.x) * channels
      addLine(picture.data.subarray(from, from + part.width * channels), sums, factor, channels)
    }
    const share = 1 / (rows * factor)
    const last = 1 / (rows * (part.width - (width - 1) * factor))
    const to = row * width * channels
    for (let i = 0; i < sums.length - channels; i++) data[to + i] = sums[i]! * share + 0.5
    for (let i = sums.length - channels; i < sums.length; i++) data[to + i] = sums[i]! * last + 0.5
  }
  return { width, height, data }
}

function addColours(line: Uint8Array, sums: Float64Array, factor: number): void {
  for (let source = 0, target = 0; source < line.length; target += 3) {
    const end = Math.min(source + 3 * factor, line.length)
    let r = 0
    let g = 0
    let b = 0
    for (; source < end; source += 3) {
      r += line[source]!
      g += line[source + 1]!
      b += line[source + 2]!
    }
    sums[target]! += r
    sums[target + 1]! += g
    sums[target + 2]! += b
  }
}

function addValues(line: Uint8Array, sums: Float64Array, factor: number, channels: number): void {
  for (let i = 0; i < line.length; i++) sums[Math.floor(i / channels / factor) * channels + (i % channels)]! += line[i]!
}

/** For each target pixel, `taps` source pixels from `starts[i]` on with their weights. */
interface Weights {
  readonly taps: number
  readonly starts: Int32Array
  readonly values: Float32Array
}

function weigh(start: number, size: number, target: number, limit: number, shape: Shape): Weights {
  const step = size / target
  const widening = shape.widens ? Math.max(1, step) : 1
  const reach = shape.support * widening
  const taps = Math.min(limit, Math.ceil(2 * reach) + 1)
  const starts = new Int32Array(target)
  const values = new Float32Array(target * taps)
  for (let i = 0; i < target; i++) {
    const centre = start + (i + 0.5) * step - 0.5
    const first = Math.ceil(centre - reach)
    const from = Math.min(Math.max(first, 0), limit - taps)
    starts[i] = from
    let sum = 0
    for (let tap = 0; tap <= Math.ceil(2 * reach); tap++) {
      const value = shape.at(Math.abs(first + tap - centre) / widening)
      const inside = Math.min(Math.max(first + tap, 0), limit - 1)
      // beyond the edge the plain kernels repeat it and the others leave it out
      if (value === 0 || (shape.widens && inside !== first + tap)) continue
      values[i * taps + inside - from]! += value
      sum += value
    }
    for (let tap = 0; tap < taps; tap++) values[i * taps + tap]! /= sum || 1
  }
  return trimmed({ taps, starts, values })
}

/** The same weights without the columns of zeros at the ends: a kernel seldom touches as many pixels as it can reach. */
function trimmed({ taps, starts, values }: Weights): Weights {
  const firsts = starts.map((_, i) => {
    let first = 0
    while (first < taps - 1 && values[i * taps + first] === 0) first++
    return first
  })
  let most = 1
  for (let i = 0; i < starts.length; i++) {
    for (let tap = taps - 1; tap >= firsts[i]! + most; tap--) {
      if (values[i * taps + tap] !== 0) most = tap - firsts[i]! + 1
    }
  }
  const kept = new Float32Array(starts.length * most)
  for (let i = 0; i < starts.length; i++) {
    // near the right edge the last column stays the last one
    firsts[i] = Math.min(firsts[i]!, taps - most)
    for (let tap = 0; tap < most; tap++) kept[i * most + tap] = values[i * taps + firsts[i]! + tap]!
  }
  return { taps: most, starts: starts.map((start, i) => start + firsts[i]!), values: kept }
}

/** Floats of the rows between the two passes that are kept for the next picture: their pages alone cost as much as a pass. */
const MOST_KEPT = 2 ** 21
let scratch = new Float32Array(0)

/** Room for the rows, with anything in it. What a whole photograph needs is not kept. */
function rowsOf(length: number): Float32Array {
  if (length > MOST_KEPT) return new Float32Array(length)
  if (scratch.length < length) scratch = new Float32Array(length)
  return scratch
}

function convolve(picture: Picture, region: Region, width: number, height: number, shape: Shape): Picture {
  const channels = picture.data.length / (picture.width * picture.height)
  const across = weigh(region.x, region.width, width, picture.width, shape)
  const down = weigh(region.y, region.height, height, picture.height, shape)
  const top = down.starts.reduce((least, start) => Math.min(least, start), picture.height)
  const bottom = down.starts.reduce((most, start) => Math.max(most, start), 0) + down.taps
  const rowLength = width * channels
  const rows = rowsOf((bottom - top) * rowLength)
  for (let y = top; y < bottom; y++) {
    const line = picture.data.subarray(y * picture.width * channels, (y + 1) * picture.width * channels)
    const into = rows.subarray((y - top) * rowLength, (y - top + 1) * rowLength)
    if (channels === 3 && across.taps <= 4) blend3(line, into, across, width)
    else if (channels === 3) blendWide(line, into, across, width)
    else blend(line, into, across, width, channels)
  }
  const data = new Uint8ClampedArray(width * height * channels)
  const sums = new Float32Array(rowLength)
  for (let y = 0; y < height; y++) {
    const first = (down.starts[y]! - top) * rowLength
    const weights = down.values.subarray(y * down.taps, (y + 1) * down.taps)
    addRows(rows, first, weights, sums, data.subarray(y * rowLength, (y + 1) * rowLength))
  }
  return { width, height, data: new Uint8Array(data.buffer) }
}

/**
 * into = Σ weight · row over the rows from `first` on. Four rows at a time: what is between them is seldom read and written, and for the
 * common kernels not at all.
 */
function addRows(
  rows: Float32Array,
  first: number,
  weights: Float32Array,
  sums: Float32Array,
  into: Uint8ClampedArray,
): void {
  const { length } = into
  for (let tap = 0; tap < weights.length; tap += 4) {
    const target = tap + 4 < weights.length ? sums : into
    const before = tap === 0 ? 0 : 1
    // Rows beyond the last one have no weight; any row will do in their place.
    const at = (i: number) => first + Math.min(tap + i, weights.length - 1) * length
    const [w0, w1, w2, w3] = [weights[tap]!, weights[tap + 1] ?? 0, weights[tap + 2] ?? 0, weights[tap + 3] ?? 0]
    const [a, b, c, d] = [at(0), at(1), at(2), at(3)]
    for (let x = 0; x < length; x++) {
      target[x] = before * sums[x]! + w0 * rows[a + x]! + w1 * rows[b + x]! + w2 * rows[c + x]! + w3 * rows[d + x]!
    }
  }
}

/** One line of an RGB picture; kernels of up to four pixels (all that make a picture at most twice as small) without a loop. */
function blend3(line: Uint8Array, into: Float32Array, weights: Weights, width: number): void {
  const { taps, starts, values } = weights
  for (let x = 0, to = 0, at = 0; x < width; x++, to += 3, at += taps) {
    const s = 3 * starts[x]!
    let w = values[at]!
    let r = w * line[s]!
    let g = w * line[s + 1]!
    let b = w * line[s + 2]!
    if (taps > 1) {
      w = values[at + 1]!
      r += w * line[s + 3]!
      g += w * line[s + 4]!
      b += w * line[s + 5]!
    }
    if (taps > 2) {
      w = values[at + 2]!
      r += w * line[s + 6]!
      g += w * line[s + 7]!
      b += w * line[s + 8]!
    }
    if (taps > 3) {
      w = values[at + 3]!
      r += w * line[s + 9]!
      g += w * line[s + 10]!
      b += w * line[s + 11]!
    }
    into[to] = r
    into[to + 1] = g
    into[to + 2] = b
  }
}

function blendWide(line: Uint8Array, into: Float32Array, weights: Weights, width: number): void {
  const { taps, starts, values } = weights
  for (let x = 0; x < width; x++) {
    let r = 0
    let g = 0
    let b = 0
    let source = 3 * starts[x]!
    for (let tap = x * taps; tap < (x + 1) * taps; tap++, source += 3) {
      const weight = values[tap]!
      r += weight * line[source]!
      g += weight * line[source + 1]!
      b += weight * line[source + 2]!
    }
    into[3 * x] = r
    into[3 * x + 1] = g
    into[3 * x + 2] = b
  }
}

function blend(line: Uint8Array, into: Float32Array, weights: Weights, width: number, channels: number): void {
  const { taps, starts, values } = weights
  for (let x = 0; x < width; x++) {
    for (let c = 0; c < channels; c++) {
      let sum = 0
      for (let tap = 0; tap < taps; tap++) sum += values[x * taps + tap]! * line[(starts[x]! + tap) * channels + c]!
      into[x * channels + c] = sum
    }
  }
}
