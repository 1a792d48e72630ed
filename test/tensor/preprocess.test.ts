import fc from 'fast-check'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import {
  type Kernel,
  lumaOf,
  type Picture,
  type Preprocessing,
  preprocess,
  resample,
  resizePicture,
  toNetwork,
  toPicture,
} from '../../src/tensor/index.ts'

const plain: Preprocessing = {
  resize: 'stretch',
  pad: 0,
  align: 'centre',
  kernel: 'linear',
  color: 'rgb',
  scale: 1,
  mean: 0,
  std: 1,
  layout: 'nchw',
  type: 'float32',
}

/** Smooth, so that good kernels agree about it; different in each channel and direction. */
function waves(width: number, height: number): Picture {
  const data = new Uint8Array(width * height * 3)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = 3 * (y * width + x)
      data[at] = 128 + 100 * Math.sin((9 * x) / width)
      data[at + 1] = 128 + 100 * Math.cos((7 * y) / height)
      data[at + 2] = (255 * (x + y)) / (width + height)
    }
  }
  return { width, height, data }
}

const greatestDifference = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0)

describe('resizing', () => {
  test('agrees with libvips about the same kernels', async () => {
    const picture = waves(500, 375)
    const kernels = [
      ['linear', 'linear'],
      ['cubic', 'cubic'],
      ['lanczos', 'lanczos3'],
    ] as const
    for (const [ours, theirs] of kernels) {
      for (const [width, height] of [
        [224, 168],
        [341, 256],
        [900, 800],
      ] as const) {
        const { width: w, height: h, data } = picture
        const expected = await sharp(data, { raw: { width: w, height: h, channels: 3 } })
          .resize(width, height, { fit: 'fill', kernel: theirs })
          .raw()
          .toBuffer()
        const actual = resizePicture(picture, width, height, ours)
        expect([actual.width, actual.height]).toEqual([width, height])
        expect(greatestDifference(actual.data, expected)).toBeLessThanOrEqual(3)
      }
    }
  })

  test('far down it is the mean of what was there, by every kernel that widens', () => {
    const picture = waves(1600, 1200)
    const small = resizePicture(picture, 8, 6, 'linear')
    const mean = (data: Uint8Array, c: number): number => {
      let sum = 0
      for (let i = c; i < data.length; i += 3) sum += data[i]!
      return (3 * sum) / data.length
    }
    for (let c = 0; c < 3; c++) expect(Math.abs(mean(small.data, c) - mean(picture.data, c))).toBeLessThan(2)
  })

  test('a constant picture stays constant, at any size, region and kernel', () => {
    const side = fc.integer({ min: 1, max: 70 })
    const kernel = fc.constantFrom<Kernel>('linear', 'cubic', 'lanczos', 'nearest', 'plain-linear', 'plain-cubic')
    fc.assert(
      fc.property(side, side, side, side, fc.nat(255), kernel, (w, h, width, height, grey, kind) => {
        const picture = { width: w, height: h, data: new Uint8Array(w * h * 3).fill(grey) }
        const region = { x: w / 7, y: h / 5, width: w / 2, height: h / 2 }
        expect(new Set(resample(picture, region, width, height, kind).data)).toEqual(new Set([grey]))
      }),
    )
  })

  test('the same size is the same picture; whole regions are cut out', () => {
    const picture = waves(40, 30)
    expect(resizePicture(picture, 40, 30)).toBe(picture)
    const cut = resample(picture, { x: 3, y: 5, width: 4, height: 2 }, 4, 2, 'lanczos')
    expect([...cut.data.subarray(0, 3)]).toEqual([...picture.data.subarray(3 * (5 * 40 + 3), 3 * (5 * 40 + 3) + 3)])
  })
})

describe('a tensor holds (pixel · scale − mean) / std', () => {
  const picture: Picture = { width: 2, height: 1, data: Uint8Array.from([10, 20, 30, 40, 50, 60]) }
  const valuesOf = (change: Partial<Preprocessing>): number[] =>
    Array.from(preprocess(picture, { ...plain, ...change }, [1, 2]).tensor.data as Float32Array)

  test('in planes, in the order of the colours', () => {
    expect(valuesOf({})).toEqual([10, 40, 20, 50, 30, 60])
    expect(valuesOf({ color: 'bgr' })).toEqual([30, 60, 20, 50, 10, 40])
    expect(valuesOf({ color: 'bgr', mean: [1, 2, 3] })).toEqual([29, 59, 18, 48, 7, 37])
    expect(valuesOf({ scale: 0.5, mean: [1, 2, 3], std: [2, 4, 8] })).toEqual([2, 9.5, 2, 5.75, 1.5, 3.375])
  })

  test('channels last, where the card says so', () => {
    expect(valuesOf({ layout: 'nhwc' })).toEqual([10, 20, 30, 40, 50, 60])
    expect(preprocess(picture, { ...plain, layout: 'nhwc' }, [1, 2]).tensor.dims).toEqual([1, 1, 2, 3])
  })

  test('grey is luma in 8 bits, luma keeps its fraction', () => {
    const luma = 0.299 * 10 + 0.587 * 20 + 0.114 * 30
    expect(valuesOf({ color: 'luma' })[0]).toBeCloseTo(luma, 4)
    expect(valuesOf({ color: 'gray' })[0]).toBe(Math.round(luma))
    expect(lumaOf(picture)[0]).toBeCloseTo(luma, 4)
  })

  test('as bytes for quantised networks', () => {
    const { tensor } = preprocess(picture, { ...plain, type: 'uint8', color: 'bgr' }, [1, 2])
    expect(tensor.type).toBe('uint8')
    expect([...(tensor.data as Uint8Array)]).toEqual([30, 60, 20, 50, 10, 40])
  })

  test('a letterbox pads with its grey level, after the same normalisation', () => {
    const tall = preprocess(picture, { ...plain, resize: 'letterbox', pad: 114, scale: 2 }, [2, 2])
    expect(Array.from(tall.tensor.data as Float32Array).slice(0, 4)).toEqual([20, 80, 228, 228])
    const low = preprocess(picture, { ...plain, resize: 'letterbox', pad: [1, 2, 3] }, [4, 2])
    expect(Array.from(low.tensor.data as Float32Array).slice(0, 8)).toEqual([1, 1, 10, 40, 1, 1, 1, 1])
  })

  test('at its own size the edge of a small picture goes on, and a large one loses its rim', () => {
    const own = preprocess(picture, { ...plain, resize: 'none' }, [1, 4])
    expect(Array.from(own.tensor.data as Float32Array).slice(0, 4)).toEqual([10, 10, 40, 40])
    const middle = preprocess(waves(40, 30), { ...plain, resize: 'none' }, [10, 20])
    expect([middle.placement.offsetX, middle.placement.offsetY]).toEqual([-10, -10])
  })
})

describe('placements lead from the network to the picture and back', () => {
  const how = fc.record({
    resize: fc.constantFrom('stretch' as const, 'letterbox' as const, 'cover' as const, 'none' as const),
    align: fc.constantFrom('centre' as const, 'top-left' as const),
  })
  const side = fc.integer({ min: 2, max: 60 })

  test('there and back is where one was', () => {
    fc.assert(
      fc.property(how, side, side, side, side, (change, w, h, height, width) => {
        const { placement } = preprocess(waves(w, h), { ...plain, ...change }, [height, width])
        const [x, y] = toPicture(placement, ...toNetwork(placement, w / 3, h / 4))
        expect(x).toBeCloseTo(w / 3, 6)
        expect(y).toBeCloseTo(h / 4, 6)
      }),
    )
  })

  test('a bright spot is found where it is, in every way of resizing', () => {
    fc.assert(
      fc.property(how, fc.integer({ min: 8, max: 32 }), fc.integer({ min: 8, max: 32 }), (change, px, py) => {
        const picture = { width: 40, height: 40, data: new Uint8Array(4800) }
        for (let dy = 0; dy < 2; dy++)
          picture.data.fill(255, 3 * ((py + dy - 1) * 40 + px - 1), 3 * ((py + dy - 1) * 40 + px + 1))
        const { tensor, placement } = preprocess(picture, { ...plain, ...change, kernel: 'cubic' }, [50, 60])
        const data = tensor.data as Float32Array
        const [sx, sy] = toNetwork(placement, px, py)
        // the spot's centre of mass, where it is inside the input
        let [sum, mx, my] = [0, 0, 0]
        for (let i = 0; i < 3000; i++) {
          sum += data[i]!
          mx += data[i]! * ((i % 60) + 0.5)
          my += data[i]! * (Math.floor(i / 60) + 0.5)
        }
        const inside = sx > 4 && sx < 56 && sy > 4 && sy < 46
        if (!inside) return
        expect(Math.abs(mx / sum - sx)).toBeLessThan(0.2)
        expect(Math.abs(my / sum - sy)).toBeLessThan(0.2)
      }),
    )
  })

  test('letterbox at the top left starts at the origin; centred it leaves equal bars', () => {
    const at = (align: 'centre' | 'top-left') =>
      preprocess(waves(40, 20), { ...plain, resize: 'letterbox', align }, [40, 40]).placement
    expect([at('top-left').offsetX, at('top-left').offsetY]).toEqual([0, 0])
    expect([at('centre').offsetX, at('centre').offsetY]).toEqual([0, 10])
  })
})
