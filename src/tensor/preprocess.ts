import type { Picture } from './picture.ts'
import type { Placement } from './placement.ts'
import { type Kernel, resample } from './resample.ts'
import type { Tensor } from './tensor.ts'

/** How a network takes a picture; the same words as `input` in model.json. */
export interface Preprocessing {
  /** none: the middle of the picture at its own size, its edge going on where it is smaller */
  readonly resize: 'cover' | 'stretch' | 'letterbox' | 'none'
  readonly resizeTo?: number | undefined
  readonly pad: number | readonly number[]
  readonly align: 'centre' | 'top-left'
  readonly kernel: Kernel
  readonly color: 'rgb' | 'bgr' | 'gray' | 'luma'
  readonly scale: number
  readonly mean: number | readonly number[]
  readonly std: number | readonly number[]
  readonly layout: 'nchw' | 'nhwc'
  readonly type: 'float32' | 'uint8'
}

/**
 * A picture as a network's input, `[1, C, height, width]` (or `[1, height, width, C]`), and where it lies on the picture.
 *
 *     preprocess(photo, card.input, [224, 224]).tensor.dims // → [1, 3, 224, 224]
 *
 * @param size `[height, width]` of the input; where it is not the size that `resizeTo` was meant for, see `coverScale`
 */
export function preprocess(
  picture: Picture,
  how: Preprocessing,
  size: readonly [number, number],
  resizeTo: number | undefined = how.resizeTo,
): { readonly tensor: Tensor; readonly placement: Placement } {
  const [height, width] = size
  const placement = place(picture, how, width, height, resizeTo)
  const left = Math.max(0, Math.round(placement.offsetX))
  const top = Math.max(0, Math.round(placement.offsetY))
  const boxed = how.resize === 'letterbox'
  const inner = boxed
    ? {
        width: Math.round(picture.width * placement.scaleX),
        height: Math.round(picture.height * placement.scaleY),
      }
    : { width, height }
  const region = boxed
    ? { x: 0, y: 0, width: picture.width, height: picture.height }
    : {
        x: -placement.offsetX / placement.scaleX,
        y: -placement.offsetY / placement.scaleY,
        width: width / placement.scaleX,
        height: height / placement.scaleY,
      }
  const pixels = resample(picture, region, inner.width, inner.height, how.kernel)
  return { tensor: toTensor(pixels, how, size, boxed ? left : 0, boxed ? top : 0), placement }
}

function place(picture: Picture, how: Preprocessing, width: number, height: number, resizeTo?: number): Placement {
  const whole = { width: picture.width, height: picture.height, networkWidth: width, networkHeight: height }
  switch (how.resize) {
    case 'stretch':
      return { ...whole, scaleX: width / picture.width, scaleY: height / picture.height, offsetX: 0, offsetY: 0 }
    case 'none': {
      const offsetX = Math.floor((width - picture.width) / 2)
      const offsetY = Math.floor((height - picture.height) / 2)
      const topLeft = how.align === 'top-left'
      return { ...whole, scaleX: 1, scaleY: 1, offsetX: topLeft ? 0 : offsetX, offsetY: topLeft ? 0 : offsetY }
    }
    case 'cover': {
      const fill = Math.max(width / picture.width, height / picture.height)
      const scale = resizeTo ? Math.max(fill, resizeTo / Math.min(picture.width, picture.height)) : fill
      const offset = (target: number, source: number): number => (target - source * scale) / 2
      return {
        ...whole,
        scaleX: scale,
        scaleY: scale,
        offsetX: offset(width, picture.width),
        offsetY: offset(height, picture.height),
      }
    }
    case 'letterbox': {
      const scale = Math.min(width / picture.width, height / picture.height)
      const innerWidth = Math.min(width, Math.max(1, Math.round(picture.width * scale)))
      const innerHeight = Math.min(height, Math.max(1, Math.round(picture.height * scale)))
      const centred = how.align === 'centre'
      return {
        ...whole,
        scaleX: innerWidth / picture.width,
        scaleY: innerHeight / picture.height,
        offsetX: centred ? Math.floor((width - innerWidth) / 2) : 0,
        offsetY: centred ? Math.floor((height - innerHeight) / 2) : 0,
      }
    }
  }
}

/** (pixel · scale − mean) / std for every pixel value, so that a picture costs one look-up for each value. */
function tables(how: Preprocessing, channels: number): Float32Array[] {
  const of = (value: number | readonly number[], c: number): number =>
    typeof value === 'number' ? value : (value[c] ?? value[0]!)
  return Array.from({ length: channels }, (_, c) =>
    Float32Array.from({ length: 256 }, (_, pixel) => (pixel * how.scale - of(how.mean, c)) / of(how.std, c)),
  )
}

const BT601 = [0.299, 0.587, 0.114] as const

/** BT.601 luma of every pixel, 0…255, not rounded. */
export function lumaOf(picture: Picture): Float32Array {
  const luma = new Float32Array(picture.width * picture.height)
  for (let i = 0, p = 0; i < luma.length; i++, p += 3) {
    luma[i] = BT601[0] * picture.data[p]! + BT601[1] * picture.data[p + 1]! + BT601[2] * picture.data[p + 2]!
  }
  return luma
}

function toTensor(
  pixels: Picture,
  how: Preprocessing,
  size: readonly [number, number],
  left: number,
  top: number,
): Tensor {
  const [height, width] = size
  const mono = how.color === 'gray' || how.color === 'luma'
  const channels = mono ? 1 : 3
  const planar = how.layout === 'nchw'
  const dims = planar ? [1, channels, height, width] : [1, height, width, channels]
  const lookup = tables(how, channels)
  const data = new Float32Array(channels * height * width)
  const full = pixels.width === width && pixels.height === height
  const [pixelStep, channelStep] = planar ? [1, height * width] : [channels, 1]
  if (!full) fillPad(data, how, lookup, pixelStep, channelStep)
  const luma = mono ? lumaOf(pixels) : undefined
  for (let c = 0; c < channels; c++) {
    const table = lookup[c]!
    const source = how.color === 'bgr' ? 2 - c : c
    for (let y = 0; y < pixels.height; y++) {
      let to = c * channelStep + ((y + top) * width + left) * pixelStep
      const row = y * pixels.width
      if (luma) {
        // gray is luma in 8 bits, as image libraries make it; luma keeps its fraction
        for (let x = 0; x < pixels.width; x++, to += pixelStep) {
          const value = luma[row + x]!
          data[to] = how.color === 'gray' ? table[Math.round(value)]! : between(table, value)
        }
      } else {
        for (let x = 0, from = 3 * row + source; x < pixels.width; x++, from += 3, to += pixelStep) {
          data[to] = table[pixels.data[from]!]!
        }
      }
    }
  }
  return how.type === 'uint8' ? { type: 'uint8', dims, data: toBytes8(data) } : { type: 'float32', dims, data }
}

function fillPad(
  data: Float32Array,
  how: Preprocessing,
  lookup: readonly Float32Array[],
  pixelStep: number,
  channelStep: number,
): void {
  const pixels = data.length / lookup.length
  for (const [c, table] of lookup.entries()) {
    const level = typeof how.pad === 'number' ? how.pad : (how.pad[c] ?? how.pad[0]!)
    const value = between(table, level)
    for (let i = 0; i < pixels; i++) data[c * channelStep + i * pixelStep] = value
  }
}

/** The table is a straight line, so its ends give every value between. */
const between = (table: Float32Array, value: number): number => table[0]! + ((table[255]! - table[0]!) * value) / 255

const toBytes8 = (data: Float32Array): Uint8Array =>
  Uint8Array.from(data, (value) => Math.min(255, Math.max(0, Math.round(value))))
