import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromBfloat, fromHalf, toBfloat, toHalf } from '../../src/server/oip/datatypes.ts'
import { fromBinary, fromJson, toBinary, toJsonText } from '../../src/server/oip/tensors.ts'
import type { Tensor, TensorType } from '../../src/tensor/index.ts'

const finite = fc.float({ noNaN: true, noDefaultInfinity: true })
const elements: Readonly<Record<TensorType, fc.Arbitrary<unknown>>> = {
  float32: finite,
  float64: fc.double({ noNaN: true, noDefaultInfinity: true }),
  float16: fc.integer({ min: 0, max: 0x7bff }).map(fromHalf),
  bfloat16: fc.integer({ min: 0, max: 0x7f7f }).map(fromBfloat),
  int8: fc.integer({ min: -128, max: 127 }),
  uint8: fc.integer({ min: 0, max: 255 }),
  int16: fc.integer({ min: -32768, max: 32767 }),
  uint16: fc.integer({ min: 0, max: 65535 }),
  int32: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  uint32: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  int64: fc.maxSafeInteger(),
  uint64: fc.maxSafeNat(),
  bool: fc.boolean(),
  string: fc.string({ unit: 'grapheme' }),
}

const sent = fc
  .constantFrom(...(Object.keys(elements) as TensorType[]))
  .chain((type) => fc.record({ type: fc.constant(type), data: fc.array(elements[type], { maxLength: 20 }) }))

const plain = (value: Tensor): unknown => JSON.parse(toJsonText(value))
/** −0 is 0 in JSON */
const unsigned = (data: readonly unknown[]): unknown[] => data.map((each) => (Object.is(each, -0) ? 0 : each))

describe('tensors in messages', () => {
  it('come back from JSON as they were sent, for every datatype', () => {
    fc.assert(
      fc.property(sent, ({ type, data }) => {
        expect(plain(fromJson('x', type, [data.length], data))).toEqual(unsigned(data))
      }),
    )
  })

  it('come back from raw bytes as they were sent, for every datatype, at any alignment', () => {
    fc.assert(
      fc.property(sent, fc.nat({ max: 7 }), ({ type, data }, shift) => {
        const value = fromJson('x', type, [data.length], data)
        const bytes = toBinary(value)
        const moved = new Uint8Array(bytes.length + shift)
        moved.set(bytes, shift)
        expect(plain(fromBinary('x', type, [data.length], moved.subarray(shift)))).toEqual(unsigned(data))
      }),
    )
  })

  it('are little-endian, and strings carry their length', () => {
    expect(Buffer.from(toBinary(fromJson('x', 'float32', [1], [1]))).toString('hex')).toBe('0000803f')
    expect(Buffer.from(toBinary(fromJson('x', 'string', [2], ['ä', '']))).toString('hex')).toBe('02000000c3a400000000')
  })

  it('may be nested in any depth', () => {
    expect(
      fromJson(
        'x',
        'int32',
        [2, 2, 1],
        [
          [[1], [2]],
          [[3], [4]],
        ],
      ).data,
    ).toEqual(Int32Array.of(1, 2, 3, 4))
  })

  it.each<[string, TensorType, number[], unknown]>([
    ['too few elements', 'float32', [3], [1, 2]],
    ['too many elements', 'float32', [1, 1], [[1, 2]]],
    ['null', 'float32', [1], [null]],
    ['a string', 'float32', [1], ['1']],
    ['300 as UINT8', 'uint8', [1], [300]],
    ['-1 as UINT64', 'uint64', [1], [-1]],
    ['1.5 as INT32', 'int32', [1], [1.5]],
    ['an integer beyond 2^53', 'int64', [1], [2 ** 60]],
    ['2 as BOOL', 'bool', [1], [2]],
    ['a number as BYTES', 'string', [1], [1]],
    ['an object', 'float32', [1], { length: 1 }],
  ])('are refused with %s', (_name, type, dims, data) => {
    expect(() => fromJson('x', type, dims, data)).toThrow(expect.objectContaining({ code: 'TENSOR_INVALID' }))
  })

  it.each<[string, TensorType, number[], number[]]>([
    ['bytes missing', 'float32', [2], [0, 0, 0, 0]],
    ['bytes too many', 'uint8', [1], [0, 0]],
    ['a string longer than the bytes', 'string', [1], [9, 0, 0, 0, 65]],
    ['a length cut off', 'string', [1], [1, 0]],
    ['fewer strings than the shape', 'string', [2], [0, 0, 0, 0]],
    ['more strings than the shape', 'string', [1], [0, 0, 0, 0, 0, 0, 0, 0]],
  ])('are refused with %s', (_name, type, dims, bytes) => {
    expect(() => fromBinary('x', type, dims, Uint8Array.from(bytes))).toThrow(
      expect.objectContaining({ code: 'TENSOR_INVALID' }),
    )
  })

  it('write what JSON has no number for as null', () => {
    const value: Tensor<'float32'> = {
      type: 'float32',
      dims: [3],
      data: Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, 1),
    }
    expect(plain(value)).toEqual([null, null, 1])
  })
})

describe('16-bit floats', () => {
  it('keep every one of the 65,536 bit patterns that is a number', () => {
    const all = Array.from({ length: 65_536 }, (_, bits) => bits)
    const isNumber = (bits: number): boolean => (bits & 0x7c00) !== 0x7c00 || (bits & 0x3ff) === 0
    expect(all.filter((bits) => isNumber(bits) && toHalf(fromHalf(bits)) !== bits)).toEqual([])
    expect(all.filter((bits) => !Number.isNaN(fromBfloat(bits)) && toBfloat(fromBfloat(bits)) !== bits)).toEqual([])
  })

  it('round to the nearest, ties to even', () => {
    fc.assert(
      fc.property(fc.float({ min: -60_000, max: 60_000, noNaN: true }), (value) => {
        const got = toHalf(value)
        const error = Math.abs(fromHalf(got) - value)
        for (const other of [got - 1, got + 1]) {
          const rival = fromHalf(other & 0xffff)
          if (Number.isFinite(rival)) expect(error).toBeLessThanOrEqual(Math.abs(rival - value))
        }
      }),
    )
    expect(fromHalf(toHalf(2049))).toBe(2048)
    expect(fromHalf(toHalf(2051))).toBe(2052)
    expect(toHalf(65_520)).toBe(0x7c00)
    expect(toHalf(2 ** -25)).toBe(0)
    expect(toHalf(1.5 * 2 ** -25)).toBe(1)
  })
})
