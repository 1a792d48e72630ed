import { readFile, rm } from 'node:fs/promises'
import { sha256 } from '../base/index.ts'
import type { ZooFile } from './manifest.ts'
import { writeWhole, writing } from './writing.ts'

/** Finished steps of a build, written down after each, so that a build that was killed goes on where it stopped. */
export interface Journal {
  /** The record of a finished step; nothing when there is none or one of its files is damaged. */
  get<T>(key: string): Promise<T | undefined>
  /** @param record JSON; @param files files of the model that the step wrote, checked again by `get` */
  put<T>(key: string, record: T, files?: readonly ZooFile[]): Promise<void>
  /** Removes the journal, when the build is done. */
  clear(): Promise<void>
}

interface Entry {
  readonly record: unknown
  readonly files: readonly ZooFile[]
}

/**
 * Opens the journal at `path`; one of another fingerprint (another source file or other options), or one that is damaged,
 * counts as empty.
 *
 * @param isWhole whether a file that a step wrote is still as it was written
 */
export async function openJournal(
  path: string,
  fingerprint: string,
  isWhole: (file: ZooFile) => Promise<boolean>,
): Promise<Journal> {
  const entries = await readEntries(path, fingerprint)
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const next = last.then(work)
    last = next.catch(() => {}) // the one who asked hears of it; the next write stands by itself
    return next
  }
  return {
    async get<T>(key: string) {
      const entry = entries.get(key)
      if (!entry) return undefined
      const whole = await Promise.all(entry.files.map(isWhole))
      return whole.every(Boolean) ? (entry.record as T) : undefined
    },
    put: (key, record, files = []) =>
      inTurn(() => {
        entries.set(key, { record, files })
        return writeWhole(path, format(fingerprint, entries))
      }),
    clear: () =>
      inTurn(() => {
        entries.clear()
        return writing(path, () => rm(path, { force: true }))
      }),
  }
}

const format = (fingerprint: string, entries: ReadonlyMap<string, Entry>): string => {
  const body = JSON.stringify({ format: 1, fingerprint, entries: [...entries] })
  return `${sha256(body)}\n${body}\n`
}

async function readEntries(path: string, fingerprint: string): Promise<Map<string, Entry>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map()
    throw error
  }
  const [checksum, body] = text.split('\n')
  if (!body || sha256(body) !== checksum) return new Map()
  const journal = JSON.parse(body) as { format: number; fingerprint: string; entries: [string, Entry][] }
  return journal.format === 1 && journal.fingerprint === fingerprint ? new Map(journal.entries) : new Map()
}
