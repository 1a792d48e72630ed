import { describe, expect, test } from 'vitest'
import { BlockscaleError, formatBytes, formatDuration, parseBytes, parseDuration } from '../../src/base/index.ts'

describe('sizes', () => {
  test.each([
    ['64MB', 64e6],
    ['64MiB', 64 * 2 ** 20],
    ['1.5 kB', 1500],
    ['123', 123],
    ['2gib', 2 * 2 ** 30],
  ])('%s', (text, bytes) => expect(parseBytes(text)).toBe(bytes))

  test.each(['', '-1MB', '0', 'NaN', '12 parsecs', 'Infinity', '1e9', '0.2'])('"%s" is refused with a hint', (text) => {
    expect(() => parseBytes(text)).toThrow(BlockscaleError)
  })
})

describe('durations', () => {
  test.each([
    ['500ms', 500],
    ['90s', 90_000],
    ['10m', 600_000],
    ['1.5h', 5_400_000],
  ])('%s', (text, ms) => expect(parseDuration(text)).toBe(ms))

  test.each(['', '5', '-3s', '0ms', 'soon'])('"%s" is refused', (text) => {
    expect(() => parseDuration(text)).toThrow(BlockscaleError)
  })
})

test('figures read as people write them', () => {
  expect(formatBytes(4_100_000)).toBe('4.10 MB')
  expect(formatDuration(0.4211)).toBe('0.42 ms')
  expect(formatDuration(95_000)).toBe('1 m 35 s')
})
