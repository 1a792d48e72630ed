/** One channel of a picture, values 0…1, row by row. */
export interface Plane {
  readonly width: number
  readonly height: number
  readonly data: Float32Array
}

/** Keys' cubic kernel with a = −3/4, as OpenCV has it. */
function cubic(x: number): number {
  const t = Math.abs(x)
  const a = -0.75
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1
  return t < 2 ? a * (((t - 5) * t + 8) * t - 4) : 0
}

/** Half the size by cubic interpolation, as blockscale measures upscalers. */
export const half = (plane: Plane): Plane => scaled(plane, plane.width / 2, plane.height / 2)

/** Twice the size by cubic interpolation: what an upscaler has to beat. */
export const double = (plane: Plane): Plane => scaled(plane, plane.width * 2, plane.height * 2)

function scaled(plane: Plane, width: number, height: number): Plane {
  const columns = weights(plane.width, width)
  const rows = weights(plane.height, height)
  const narrow = new Float32Array(width * plane.height)
  for (let y = 0; y < plane.height; y++) {
    columns.forEach(({ from, share }, x) => {
      let sum = 0
      for (let k = 0; k < share.length; k++)
        sum += share[k]! * plane.data[y * plane.width + clamp(from + k, plane.width)]!
      narrow[y * width + x] = sum
    })
  }
  const data = new Float32Array(width * height)
  rows.forEach(({ from, share }, y) => {
    for (let k = 0; k < share.length; k++) {
      const row = clamp(from + k, plane.height) * width
      for (let x = 0; x < width; x++) data[y * width + x]! += share[k]! * narrow[row + x]!
    }
  })
  return { width, height, data: data.map((value) => Math.max(0, Math.min(1, value))) }
}

function weights(size: number, output: number): { from: number; share: number[] }[] {
  return Array.from({ length: output }, (_, i) => {
    const centre = ((i + 0.5) * size) / output - 0.5
    const from = Math.floor(centre) - 1
    const share = Array.from({ length: 4 }, (_, k) => cubic(from + k - centre))
    const sum = share.reduce((a, b) => a + b)
    return { from, share: share.map((value) => value / sum) }
  })
}

const clamp = (index: number, size: number): number => Math.max(0, Math.min(size - 1, index))

/** Peak signal to noise in dB, leaving out `border` pixels on each side. */
export function psnr(a: Plane, b: Plane, border = 4): number {
  let sum = 0
  for (let y = border; y < a.height - border; y++) {
    for (let x = border; x < a.width - border; x++) {
      const i = y * a.width + x
      sum += (Math.min(1, Math.max(0, a.data[i]!)) - b.data[i]!) ** 2
    }
  }
  return -10 * Math.log10(sum / ((a.width - 2 * border) * (a.height - 2 * border)))
}
