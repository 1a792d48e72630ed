import type { TensorType } from '../../tensor/index.ts'

/** The protocol's datatypes and ours; every type of ONNX that a graph may take or give has one. */
const datatypes = {
  float32: 'FP32',
  float64: 'FP64',
  float16: 'FP16',
  bfloat16: 'BF16',
  int8: 'INT8',
  uint8: 'UINT8',
  int16: 'INT16',
  uint16: 'UINT16',
  int32: 'INT32',
  uint32: 'UINT32',
  int64: 'INT64',
  uint64: 'UINT64',
  bool: 'BOOL',
  string: 'BYTES',
} as const satisfies Record<TensorType, string>

export type Datatype = (typeof datatypes)[TensorType]

export const allDatatypes = Object.values(datatypes) as [Datatype, ...Datatype[]]

export const datatypeOf = (type: TensorType): Datatype => datatypes[type]

const types = new Map(Object.entries(datatypes).map(([type, datatype]) => [datatype, type as TensorType]))

export const typeOf = (datatype: string): TensorType | undefined => types.get(datatype as Datatype)

const scratch = new DataView(new ArrayBuffer(4))

/** The nearest 16-bit float, ties to even, as its bits. */
export function toHalf(value: number): number {
  scratch.setFloat32(0, value)
  const bits = scratch.getUint32(0)
  const sign = (bits >>> 16) & 0x8000
  const exponent = (bits >>> 23) & 0xff
  const fraction = bits & 0x7fffff
  if (exponent === 0xff) return sign | 0x7c00 | (fraction ? 0x200 : 0)
  const target = exponent - 112
  if (target >= 31) return sign | 0x7c00
  if (target <= -11) return sign
  // below the normal range the leading one becomes explicit and moves right
  const significand = target > 0 ? fraction : fraction | 0x800000
  const drop = target > 0 ? 13 : 14 - target
  const kept = significand >>> drop
  const rest = significand & ((1 << drop) - 1)
  const half = 1 << (drop - 1)
  const roundUp = rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0
  return sign | ((target > 0 ? target << 10 : 0) + kept + roundUp)
}

export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

/** The nearest bfloat16 (the upper half of a float32), ties to even, as its bits. */
export function toBfloat(value: number): number {
  scratch.setFloat32(0, value)
  const bits = scratch.getUint32(0)
  if (Number.isNaN(value)) return 0x7fc0
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

export function fromBfloat(bits: number): number {
  scratch.setUint32(0, bits << 16)
  return scratch.getFloat32(0)
}
