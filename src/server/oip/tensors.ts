import { BlockscaleError } from '../../base/index.ts'
import {
  allocate,
  bytesPerElement,
  elementCount,
  fromBytes,
  type NumericType,
  type Tensor,
  type TensorType,
  tensor,
  toBytes,
} from '../../tensor/index.ts'
import { datatypeOf, fromBfloat, fromHalf, toBfloat, toHalf } from './datatypes.ts'

const invalid = (message: string): BlockscaleError => new BlockscaleError('TENSOR_INVALID', message)

/** Ranges of the integer types that JSON numbers are checked against. */
const ranges: Partial<Record<TensorType, readonly [number, number]>> = {
  int8: [-128, 127],
  uint8: [0, 255],
  int16: [-32_768, 32_767],
  uint16: [0, 65_535],
  int32: [-2_147_483_648, 2_147_483_647],
  uint32: [0, 4_294_967_295],
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint64: [0, Number.MAX_SAFE_INTEGER],
}

/**
 * A tensor from the `data` of a JSON request, flat or nested.
 *
 * Numbers are checked, not bent: 300 is no UINT8, 1.5 no INT32, null no FP32. Integers beyond 2^53 do not survive JSON
 * and are refused; binary tensors carry them.
 *
 * @throws BlockscaleError TENSOR_INVALID
 */
export function fromJson(name: string, type: TensorType, dims: readonly number[], data: unknown): Tensor {
  const count = elementCount(dims)
  if (!Array.isArray(data)) throw invalid(`${name}: data is no array`)
  const flat = typeof data[0] === 'object' ? flatten(name, data, count) : data
  if (flat.length !== count) throw invalid(`${name}: ${flat.length} elements do not fill [${dims.join(', ')}]`)
  if (type === 'string') {
    const strings = flat.map((each, index) => {
      if (typeof each !== 'string') throw invalid(`${name}: element ${index} is no string`)
      return each
    })
    return tensor('string', dims, strings)
  }
  const write = writerOf(name, type)
  const array = allocate(type, count) as unknown as { [index: number]: number | bigint }
  for (let i = 0; i < count; i++) array[i] = write(flat[i], i)
  return { type, dims, data: array } as unknown as Tensor
}

function flatten(name: string, nested: readonly unknown[], limit: number, into: unknown[] = [], depth = 0): unknown[] {
  if (depth > 16) throw invalid(`${name}: data is nested too deeply`)
  for (const each of nested) {
    if (Array.isArray(each)) flatten(name, each, limit, into, depth + 1)
    else into.push(each)
    if (into.length > limit) throw invalid(`${name}: data holds more than the ${limit} elements of its shape`)
  }
  return into
}

function writerOf(name: string, type: NumericType): (value: unknown, index: number) => number | bigint {
  const wrong = (value: unknown, index: number): BlockscaleError =>
    invalid(`${name}: element ${index} (${JSON.stringify(value)}) is no ${datatypeOf(type)}`)
  const number = (value: unknown, index: number): number => {
    if (typeof value !== 'number') throw wrong(value, index)
    return value
  }
  if (type === 'float16') return (value, index) => toHalf(number(value, index))
  if (type === 'bfloat16') return (value, index) => toBfloat(number(value, index))
  if (type === 'bool') {
    return (value, index) => {
      if (typeof value !== 'boolean' && value !== 0 && value !== 1) throw wrong(value, index)
      return value ? 1 : 0
    }
  }
  const range = ranges[type]
  if (!range) return number
  const [low, high] = range
  const big = type === 'int64' || type === 'uint64'
  return (value, index) => {
    if (!Number.isInteger(value) || (value as number) < low || (value as number) > high) throw wrong(value, index)
    return big ? BigInt(value as number) : (value as number)
  }
}

/**
 * A tensor from raw little-endian bytes; BYTES elements are each a uint32 length and that many bytes of UTF-8.
 *
 * @throws BlockscaleError TENSOR_INVALID when the bytes are not those of the shape
 */
export function fromBinary(name: string, type: TensorType, dims: readonly number[], bytes: Uint8Array): Tensor {
  const count = elementCount(dims)
  if (type === 'string') return tensor('string', dims, readStrings(name, bytes, count))
  const expected = count * bytesPerElement(type)
  if (bytes.byteLength !== expected) {
    throw invalid(
      `${name}: ${bytes.byteLength} bytes are not the ${expected} of ${datatypeOf(type)} [${dims.join(', ')}]`,
    )
  }
  return tensor(type, dims, fromBytes(type, bytes))
}

function readStrings(name: string, bytes: Uint8Array, count: number): string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const decoder = new TextDecoder()
  const strings: string[] = []
  let at = 0
  while (at < bytes.byteLength) {
    if (at + 4 > bytes.byteLength) throw invalid(`${name}: a length is cut off`)
    const length = view.getUint32(at, true)
    at += 4
    if (at + length > bytes.byteLength) throw invalid(`${name}: an element is longer than the bytes that are there`)
    if (strings.length === count) throw invalid(`${name}: there are more than ${count} elements`)
    strings.push(decoder.decode(bytes.subarray(at, at + length)))
    at += length
  }
  if (strings.length !== count) throw invalid(`${name}: there are ${strings.length} elements in place of ${count}`)
  return strings
}

/** The raw little-endian bytes of a tensor, as a view where the type allows. */
export function toBinary(value: Tensor): Uint8Array {
  if (value.type !== 'string') return toBytes(value as Tensor<NumericType>)
  const parts = (value as Tensor<'string'>).data.map((text) => Buffer.from(text))
  const bytes = Buffer.alloc(parts.reduce((sum, part) => sum + 4 + part.length, 0))
  let at = 0
  for (const part of parts) {
    at = bytes.writeUInt32LE(part.length, at)
    at += part.copy(bytes, at)
  }
  return bytes
}

/** The elements of a tensor as JSON text, flat. What JSON has no number for (NaN, infinities) becomes null. */
export function toJsonText(value: Tensor): string {
  switch (value.type) {
    case 'string':
      return JSON.stringify(value.data)
    case 'int64':
    case 'uint64':
      return `[${(value.data as BigInt64Array).join(',')}]`
    case 'bool':
      return JSON.stringify(Array.from(value.data as Uint8Array, (each) => each !== 0))
    case 'float16':
      return JSON.stringify(Array.from(value.data as Uint16Array, fromHalf))
    case 'bfloat16':
      return JSON.stringify(Array.from(value.data as Uint16Array, fromBfloat))
    default: {
      const numbers = value.data as Float32Array
      // joining is several times faster than going through an array
      return numbers.every(Number.isFinite) ? `[${numbers.join(',')}]` : JSON.stringify(Array.from(numbers))
    }
  }
}
