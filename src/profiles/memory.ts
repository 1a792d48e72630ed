import { readFileSync } from 'node:fs'
import type { MemoryMethod } from './rows.ts'

export interface Memory {
  /** memory that only giving it up or swapping can free */
  readonly anonymousBytes: number
  /** resident pages of the file given, which the system may drop and read again */
  readonly mappedBytes: number
  readonly method: MemoryMethod
}

/**
 * What this process holds in memory now, and how much of it are pages of the mapped file at `path`.
 *
 * Linux tells both. Elsewhere there is only the resident set, in which mapped pages are contained; they are then counted
 * as anonymous, which is on the safe side.
 */
export function readMemory(path?: string): Memory {
  let rollup: string
  try {
    rollup = readFileSync('/proc/self/smaps_rollup', 'utf8')
  } catch {
    return { anonymousBytes: process.memoryUsage.rss(), mappedBytes: 0, method: 'rss' }
  }
  return {
    anonymousBytes: kilobytes(/^Anonymous:\s+(\d+) kB$/m.exec(rollup)),
    mappedBytes: path ? residentOf(path) : 0,
    method: 'smaps',
  }
}

/** Sums the resident pages of all mappings of one file; a mapping's header ends with its path. */
function residentOf(path: string): number {
  let inside = false
  let bytes = 0
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) inside = line.endsWith(` ${path}`)
    else if (inside && line.startsWith('Rss:')) bytes += kilobytes(/(\d+) kB/.exec(line))
  }
  return bytes
}

const kilobytes = (match: RegExpExecArray | null): number => Number(match?.[1] ?? 0) * 1024
