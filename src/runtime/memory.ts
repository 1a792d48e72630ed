import { readFileSync } from 'node:fs'

export interface ProcessMemory {
  /** private memory that no file backs: what a limit on memory is about */
  readonly anonymousBytes: number
  /** resident pages of files, shared ones by their share: mapped models, and the program itself */
  readonly fileBytes: number
}

/** What the system says that this process holds; where there is no /proc, the resident set stands for all of it. */
export function processMemory(): ProcessMemory {
  let text: string
  try {
    text = readFileSync('/proc/self/smaps_rollup', 'utf8')
  } catch {
    return { anonymousBytes: process.memoryUsage.rss(), fileBytes: 0 }
  }
  const kB = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0)
  return { anonymousBytes: kB('Anonymous') * 1024, fileBytes: kB('Pss_File') * 1024 }
}
