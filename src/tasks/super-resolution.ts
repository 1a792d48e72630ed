import { BlockscaleError } from '../base/index.ts'
import { lumaOf, type Picture, resample, resizePicture, type Tensor } from '../tensor/index.ts'
import { channelsOf, firstInput, inputsOf, type ModelCard } from './card.ts'
import type { Decoder } from './decoders.ts'
import { MAX_DECIBELS, mean, meanNoise } from './numbers.ts'
import { outputOf, preparePicture } from './prepare.ts'
import type { Evaluated, Prepared, Task, Tensors } from './task.ts'

/**
 * A picture `scale` times as large.
 *
 * The network works on tiles of the card's size (one run is always the same work); `prepare` takes the middle tile, `tiles`
 * and `join` the whole picture. Where a network makes luma only, colour is scaled by bicubic: eyes see no difference.
 * Quality is PSNR on luma against the picture that was scaled down; fidelity PSNR against the original's output.
 */
export const superResolution: Task = {
  name: 'super-resolution',

  prepare: (picture, card, size) => preparePicture(picture, middleInput(card), size),

  answer(outputs, prepared, card) {
    const { scale } = decoderOf(card)
    const { width, height } = prepared.picture
    const large = resizePicture(prepared.picture, width * scale, height * scale, 'cubic')
    paste(large, outputs, prepared, card, 0)
    return { task: 'super-resolution', picture: large }
  },

  divergence: meanNoise,

  quality(samples, card) {
    const figures = samples.flatMap((sample) => compare(sample, card) ?? [])
    return {
      metric: 'psnr',
      value: mean(figures.map(({ psnr }) => psnr)),
      details: { ssim: mean(figures.map(({ ssim }) => ssim)) },
    }
  },

  fidelity(samples, card) {
    const { range } = decoderOf(card)
    const values = samples.map(({ outputs, original }) => {
      const a = picked(outputs, card).data
      const b = picked(original, card).data
      let sum = 0
      for (let i = 0; i < a.length; i++) sum += ((a[i]! - b[i]!) * range) ** 2
      return psnrOf(sum / a.length)
    })
    return { metric: 'psnr-to-original', value: mean(values) }
  },

  derive(picture, card) {
    const { scale } = decoderOf(card)
    const width = Math.floor(picture.width / scale)
    const height = Math.floor(picture.height / scale)
    const region = { x: 0, y: 0, width: width * scale, height: height * scale }
    const truth = resample(picture, region, region.width, region.height, 'nearest')
    // plain cubic, with which the published figures of such networks are made
    return { picture: resizePicture(truth, width, height, 'plain-cubic'), truth: { kind: 'picture', picture: truth } }
  },

  tiles(picture, card, size = firstInput(card).size) {
    const { overlap } = decoderOf(card)
    const [height, width] = size
    return starts(picture.height, height, overlap).flatMap((y) =>
      starts(picture.width, width, overlap).map((x): Prepared => {
        const region = { x, y, width, height }
        const tile = preparePicture(resample(picture, region, width, height, 'nearest'), middleInput(card), size)
        const placement = { ...tile.placement, width: picture.width, height: picture.height, offsetX: -x, offsetY: -y }
        return { feeds: tile.feeds, picture, placement }
      }),
    )
  },

  join(runs, card) {
    const { scale, overlap } = decoderOf(card)
    const { picture } = runs[0]!.prepared
    const large = resizePicture(picture, picture.width * scale, picture.height * scale, 'cubic')
    for (const { prepared, outputs } of runs) paste(large, outputs, prepared, card, Math.floor(overlap / 2))
    return { task: 'super-resolution', picture: large }
  },
}

function decoderOf(card: ModelCard): Decoder<'upscale'> {
  if (card.output.decoder === 'upscale') return card.output
  throw new BlockscaleError('MODEL_CARD_INVALID', `the decoder "${card.output.decoder}" makes no picture`)
}

/** Pixels are taken as they are, whatever the card says about resizing: resized pixels would be answered at a wrong size. */
const middleInput = (card: ModelCard): ModelCard => ({
  ...card,
  input: inputsOf(card).map((input) => ({ ...input, resize: 'none' as const })),
})

/** Where tiles begin so that neighbours share `overlap` pixels and the last one ends with the picture. */
function starts(length: number, tile: number, overlap: number): number[] {
  if (length <= tile) return [0]
  const step = Math.max(1, tile - overlap)
  const count = Math.ceil((length - tile) / step)
  return [...Array.from({ length: count }, (_, i) => i * step), length - tile]
}

function picked(outputs: Tensors, card: ModelCard): Tensor<'float32'> {
  const output = outputOf(outputs, decoderOf(card).output)
  const channels = channelsOf(firstInput(card))
  const [count = 1, height = 1, width = 1] = output.dims.slice(-3)
  if (count !== channels || width * height * count !== output.data.length) {
    throw new BlockscaleError(
      'TENSOR_INVALID',
      `the output [${output.dims.join(', ')}] is no picture of ${channels} channels`,
      'Give the output in the card as [1, channels, height, width].',
    )
  }
  return output
}

/** The part of a large picture that a run made, in its pixels, without the tile's inner borders. */
function reach(prepared: Prepared, scale: number, border: number) {
  const { placement } = prepared
  const along = (offset: number, tile: number, length: number) => {
    const from = Math.max(0, -offset)
    const to = Math.min(length, tile - offset)
    // a border is kept where the picture itself ends
    return { from: (from === 0 ? 0 : from + border) * scale, to: (to === length ? to : to - border) * scale }
  }
  return {
    x: along(placement.offsetX, placement.networkWidth, placement.width),
    y: along(placement.offsetY, placement.networkHeight, placement.height),
    left: placement.offsetX * scale,
    top: placement.offsetY * scale,
  }
}

/** Writes what a run made over the bicubic picture: all colours, or luma with the difference added to all three. */
function paste(large: Picture, outputs: Tensors, prepared: Prepared, card: ModelCard, border: number): void {
  const { scale, range } = decoderOf(card)
  const { data, dims } = picked(outputs, card)
  const width = dims.at(-1)!
  const plane = width * dims.at(-2)!
  const { x, y, left, top } = reach(prepared, scale, border)
  const pixels = new Uint8ClampedArray(large.data.buffer, large.data.byteOffset, large.data.byteLength)
  const order = firstInput(card).color === 'bgr' ? [2, 1, 0] : [0, 1, 2]
  const mono = channelsOf(firstInput(card)) === 1
  for (let row = y.from; row < y.to; row++) {
    for (let column = x.from; column < x.to; column++) {
      const from = (row + top) * width + column + left
      const to = 3 * (row * large.width + column)
      if (mono) {
        // the same chroma with another luma is the same amount added to red, green and blue (BT.601)
        const luma = 0.299 * pixels[to]! + 0.587 * pixels[to + 1]! + 0.114 * pixels[to + 2]!
        const more = data[from]! * range - luma
        for (let c = 0; c < 3; c++) pixels[to + c] = pixels[to + c]! + more
      } else {
        for (let c = 0; c < 3; c++) pixels[to + c] = data[order[c]! * plane + from]! * range
      }
    }
  }
}

/** Luma of BT.601 takes 16…235; published figures are of that, against a peak of 255, which adds 1.3 dB to those of 0…255. */
const videoLuma = (luma: number): number => 16 + (luma * 219) / 255

/** PSNR and SSIM on luma over what the run made, without a rim of `scale` pixels, as is customary. */
function compare(sample: Evaluated, card: ModelCard): { psnr: number; ssim: number } | undefined {
  const { truth, prepared, outputs } = sample
  if (truth?.kind !== 'picture') return undefined
  const { scale } = decoderOf(card)
  const { x, y } = reach(prepared, scale, 0)
  const made = madeLuma(outputs, prepared, card)
  const there = lumaOf(truth.picture)
  const width = x.to - x.from - 2 * scale
  const height = y.to - y.from - 2 * scale
  const a = new Float32Array(width * height)
  const b = new Float32Array(width * height)
  let sum = 0
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const i = row * width + column
      a[i] = videoLuma(made[(row + scale) * (x.to - x.from) + column + scale]!)
      b[i] = videoLuma(there[(y.from + row + scale) * truth.picture.width + x.from + column + scale]!)
      sum += (a[i]! - b[i]!) ** 2
    }
  }
  return { psnr: psnrOf(sum / (width * height)), ssim: ssimOf(a, b, width, height) }
}

/** Luma of what a run made, 0…255, rounded and clamped as it would be on a screen. */
function madeLuma(outputs: Tensors, prepared: Prepared, card: ModelCard): Float32Array {
  const { scale, range } = decoderOf(card)
  const { data, dims } = picked(outputs, card)
  const stride = dims.at(-1)!
  const plane = stride * dims.at(-2)!
  const { x, y, left, top } = reach(prepared, scale, 0)
  const shares = channelsOf(firstInput(card)) === 1 ? [1] : [0.299, 0.587, 0.114]
  if (firstInput(card).color === 'bgr') shares.reverse()
  const luma = new Float32Array((x.to - x.from) * (y.to - y.from))
  let i = 0
  for (let row = y.from; row < y.to; row++) {
    for (let column = x.from; column < x.to; column++) {
      const from = (row + top) * stride + column + left
      const value = shares.reduce((sum, share, c) => sum + share * data[c * plane + from]!, 0) * range
      luma[i++] = Math.round(Math.min(255, Math.max(0, value)))
    }
  }
  return luma
}

const psnrOf = (meanSquare: number): number =>
  meanSquare === 0 ? MAX_DECIBELS : Math.min(MAX_DECIBELS, 10 * Math.log10(255 ** 2 / meanSquare))

/** Structural similarity with the customary Gaussian window of 11 pixels (σ = 1.5), mean over the places where it fits. */
function ssimOf(a: Float32Array, b: Float32Array, width: number, height: number): number {
  const product = (p: Float32Array, q: Float32Array): Float32Array => {
    const result = new Float32Array(p.length)
    for (let i = 0; i < p.length; i++) result[i] = p[i]! * q[i]!
    return result
  }
  const blur = (values: Float32Array): Float32Array => gaussian(values, width, height)
  const [ma, mb] = [blur(a), blur(b)]
  const [aa, bb, ab] = [blur(product(a, a)), blur(product(b, b)), blur(product(a, b))]
  const c1 = (0.01 * 255) ** 2
  const c2 = (0.03 * 255) ** 2
  let sum = 0
  for (let i = 0; i < ma.length; i++) {
    const x = ma[i]!
    const y = mb[i]!
    const structure = (2 * (ab[i]! - x * y) + c2) / (aa[i]! - x * x + bb[i]! - y * y + c2)
    sum += ((2 * x * y + c1) / (x * x + y * y + c1)) * structure
  }
  return ma.length === 0 ? 1 : sum / ma.length
}

const WINDOW = 11
const BELL = Float64Array.from({ length: WINDOW }, (_, i) => Math.exp(-((i - 5) ** 2) / (2 * 1.5 ** 2)))
const GAUSSIAN = BELL.map((weight) => weight / BELL.reduce((x, y) => x + y, 0))

function gaussian(values: Float32Array, width: number, height: number): Float32Array {
  const innerWidth = Math.max(0, width - WINDOW + 1)
  const innerHeight = Math.max(0, height - WINDOW + 1)
  const rows = new Float32Array(innerWidth * height)
  for (let y = 0; y < height; y++) windowed(rows, y * innerWidth, innerWidth, values, y * width, 1)
  const result = new Float32Array(innerWidth * innerHeight)
  for (let y = 0; y < innerHeight; y++) windowed(result, y * innerWidth, innerWidth, rows, y * innerWidth, innerWidth)
  return result
}

/** Weighs `WINDOW` values that lie `step` apart, for each of `count` neighbours. */
function windowed(to: Float32Array, at: number, count: number, from: Float32Array, start: number, step: number): void {
  for (let x = 0; x < count; x++) {
    let sum = 0
    let place = start + x
    for (let k = 0; k < WINDOW; k++) {
      sum += GAUSSIAN[k]! * from[place]!
      place += step
    }
    to[at + x] = sum
  }
}
