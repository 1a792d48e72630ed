import { seededRandom } from '../../base/index.ts'
import { allocate, elementCount, type NumericType, type Tensor, type TensorType } from '../../tensor/index.ts'

/**
 * A smooth random tensor for a probe run: a few waves and a little noise, about −1…1 for floats.
 *
 * Pure noise would drive deep networks into their dead ends, where wrong and right look alike.
 */
export function sample(type: TensorType, dims: readonly number[], seed: number): Tensor {
  const count = elementCount(dims)
  if (type === 'string') return { type, dims, data: Array.from({ length: count }, () => '') }
  const random = seededRandom(seed)
  const data = allocate(type as NumericType, count)
  const width = dims[dims.length - 1] ?? 1
  const height = dims[dims.length - 2] ?? 1
  const plane = Math.max(1, width * height)
  let waves: number[] = []
  for (let index = 0; index < count; index++) {
    if (index % plane === 0) waves = Array.from({ length: 6 }, random)
    const [a, b, c, d, e, f] = waves as [number, number, number, number, number, number]
    const x = (index % width) / width
    const y = (Math.floor(index / width) % height) / height
    const value =
      0.5 * Math.sin(6.3 * (x * (1 + 3 * a) + y * b + c)) +
      0.4 * Math.cos(6.3 * (y * (1 + 4 * d) - x * e + f)) +
      0.1 * (random() - 0.5)
    if (type === 'float32' || type === 'float64') data[index] = value
    else if (type === 'bool') data[index] = value > 0 ? 1 : 0
    else if (type === 'int64' || type === 'uint64') data[index] = BigInt(Math.round(Math.abs(value) * 4))
    // the bits of a half float between 0.5 and 1
    else if (type === 'float16' || type === 'bfloat16') data[index] = type === 'float16' ? 0x3800 : 0x3f00
    else data[index] = Math.round(Math.abs(value) * 100)
  }
  return { type, dims, data } as Tensor
}
