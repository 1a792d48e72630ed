import { BlockscaleError } from './errors.ts'

const BYTES: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
}
const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 60e3, h: 3600e3 }

/**
 * Bytes of a size as users write it.
 *
 *     parseBytes('64MB')  // → 64000000
 *     parseBytes('64MiB') // → 67108864
 *
 * @throws BlockscaleError USAGE when it is not a positive size
 */
export function parseBytes(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text)
  const factor = match && BYTES[match[2]!.toLowerCase()]
  const bytes = match && factor ? Math.floor(Number(match[1]) * factor) : Number.NaN
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new BlockscaleError('USAGE', `not a size: "${text}"`, 'write a positive size such as 64MB, 64MiB or 512kB')
  }
  return bytes
}

/**
 * Milliseconds of a duration as users write it.
 *
 *     parseDuration('90s') // → 90000
 *
 * @throws BlockscaleError USAGE when it is not a positive duration
 */
export function parseDuration(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)\s*$/i.exec(text)
  const ms = match ? Number(match[1]) * MILLISECONDS[match[2]!.toLowerCase()]! : Number.NaN
  if (!Number.isFinite(ms) || ms <= 0) {
    throw new BlockscaleError(
      'USAGE',
      `not a duration: "${text}"`,
      'write a positive duration such as 500ms, 90s or 10m',
    )
  }
  return ms
}

/** `4100000` → `4.10 MB` */
export function formatBytes(bytes: number): string {
  if (Math.abs(bytes) < 1e3) return `${Math.round(bytes)} B`
  if (Math.abs(bytes) < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`
  if (Math.abs(bytes) < 1e9) return `${(bytes / 1e6).toFixed(2)} MB`
  return `${(bytes / 1e9).toFixed(2)} GB`
}

/** `0.42` → `0.42 ms`, `95000` → `1 m 35 s` */
export function formatDuration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(2)} ms`
  if (ms < 1e3) return `${ms.toFixed(1)} ms`
  if (ms < 60e3) return `${(ms / 1e3).toFixed(1)} s`
  return `${Math.floor(ms / 60e3)} m ${Math.round((ms % 60e3) / 1e3)} s`
}
