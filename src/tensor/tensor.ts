import { BlockscaleError } from '../base/index.ts'

/** Element types and the arrays that hold them; 16-bit floats are kept as their bits. */
export interface TensorArrays {
  float32: Float32Array
  float64: Float64Array
  float16: Uint16Array
  bfloat16: Uint16Array
  int8: Int8Array
  uint8: Uint8Array
  int16: Int16Array
  uint16: Uint16Array
  int32: Int32Array
  uint32: Uint32Array
  int64: BigInt64Array
  uint64: BigUint64Array
  bool: Uint8Array
  string: readonly string[]
}

export type TensorType = keyof TensorArrays

/** A dense row-major tensor. `data.length` is the product of `dims`; no dims is a scalar. */
export interface Tensor<T extends TensorType = TensorType> {
  readonly type: T
  readonly dims: readonly number[]
  readonly data: TensorArrays[T]
}

const constructors = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
} as const

export type NumericType = keyof typeof constructors

export const bytesPerElement = (type: NumericType): number => constructors[type].BYTES_PER_ELEMENT

export const elementCount = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1)

/** Bytes of a tensor's elements; strings count their characters. */
export function byteLength(tensor: Tensor): number {
  return tensor.type === 'string'
    ? (tensor.data as readonly string[]).reduce((sum, text) => sum + text.length, 0)
    : (tensor.data as Exclude<TensorArrays[TensorType], readonly string[]>).byteLength
}

/** A zero-filled array for `count` elements. */
export const allocate = <T extends NumericType>(type: T, count: number): TensorArrays[T] =>
  new constructors[type](count) as TensorArrays[T]

/** Elements as a typed view of (or, where unaligned, a copy of) little-endian bytes. */
export function fromBytes<T extends NumericType>(type: T, bytes: Uint8Array): TensorArrays[T] {
  const ArrayOfType = constructors[type]
  const size = ArrayOfType.BYTES_PER_ELEMENT
  if (bytes.byteLength % size !== 0) {
    throw new BlockscaleError('TENSOR_INVALID', `${bytes.byteLength} bytes are no whole number of ${type} elements`)
  }
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes)
  return new ArrayOfType(
    aligned.buffer as ArrayBuffer,
    aligned.byteOffset,
    aligned.byteLength / size,
  ) as TensorArrays[T]
}

/** The bytes of a tensor's elements, little-endian, as a view. */
export function toBytes(tensor: Tensor<NumericType>): Uint8Array {
  return new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength)
}

/** @throws BlockscaleError TENSOR_INVALID when the number of elements is not that of the dims */
export function tensor<T extends TensorType>(type: T, dims: readonly number[], data: TensorArrays[T]): Tensor<T> {
  if (data.length !== elementCount(dims)) {
    throw new BlockscaleError('TENSOR_INVALID', `${data.length} elements do not fill [${dims.join(', ')}]`)
  }
  return { type, dims, data }
}

export const floats = (dims: readonly number[], data: ArrayLike<number>): Tensor<'float32'> =>
  tensor('float32', dims, data instanceof Float32Array ? data : Float32Array.from(data))

/** A one-dimensional int64 tensor, the form in which ONNX takes shapes and axes. */
export const longs = (values: readonly number[]): Tensor<'int64'> =>
  tensor('int64', [values.length], BigInt64Array.from(values, BigInt))

export const isFloat = (value: Tensor): value is Tensor<'float32'> => value.type === 'float32'

/** Elements as plain numbers, whatever the type. */
export const numbersOf = (value: Tensor): number[] => Array.from(value.data as ArrayLike<number | bigint>, Number)
