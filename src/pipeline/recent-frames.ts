import { mkdirSync, mkdtempSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readPictureHeader } from '../tensor/index.ts'

export interface RecentFramesOptions {
  /** frames kept for each model; the oldest goes first. 256 unless given */
  readonly most?: number | undefined
  /** milliseconds between two frames that are kept of one model: those of one moment look alike. 500 unless given */
  readonly everyMs?: number | undefined
}

/** What models have seen lately, as the pictures came: to learn from without labels. */
export interface RecentFrames {
  /** Keeps a frame for each of the models, unless one was just kept. Never throws: what cannot be kept is not missed. */
  see(models: readonly string[], bytes: Uint8Array): void
  /** frames that were kept for a model since `used` was called for it */
  fresh(model: string): number
  used(model: string): void
  /** the folder of a model's frames */
  folder(model: string): string
  /** Removes all of them. */
  close(): Promise<void>
}

interface Kept {
  next: number
  fresh: number
  last: number
  writing: Promise<void>
}

/**
 * Keeps recent frames in a folder that only this user may enter, until it is closed.
 *
 * A ring of files, not of memory: the process that learns from them is another one, and a service has none to spare.
 */
export function keepRecentFrames({ most = 256, everyMs = 500 }: RecentFramesOptions = {}): RecentFrames {
  const root = mkdtempSync(join(tmpdir(), 'blockscale-frames-'))
  const models = new Map<string, Kept>()
  let closed = false

  const folder = (model: string): string => join(root, encodeURIComponent(model))
  const keptOf = (model: string): Kept => {
    let kept = models.get(model)
    if (!kept) {
      mkdirSync(folder(model), { recursive: true, mode: 0o700 })
      kept = { next: 0, fresh: 0, last: Number.NEGATIVE_INFINITY, writing: Promise.resolve() }
      models.set(model, kept)
    }
    return kept
  }
  const write = async (model: string, slot: number, format: string, bytes: Uint8Array): Promise<void> => {
    const path = join(folder(model), String(slot).padStart(4, '0'))
    await writeFile(`${path}.part`, bytes, { mode: 0o600 })
    for (const other of ['jpeg', 'png', 'webp']) if (other !== format) await rm(`${path}.${other}`, { force: true })
    await rename(`${path}.part`, `${path}.${format}`)
  }
  return {
    see(names, bytes) {
      const now = performance.now()
      const due = closed ? [] : names.filter((model) => now - (models.get(model)?.last ?? -everyMs) >= everyMs)
      const header = due.length > 0 ? readPictureHeader(bytes) : undefined
      if (!header) return
      for (const model of due) {
        try {
          const kept = keptOf(model)
          kept.last = now
          const slot = kept.next++ % most
          kept.writing = kept.writing
            .then(() => write(model, slot, header.format, bytes))
            .then(() => {
              kept.fresh++
            })
            .catch(() => {})
        } catch {
          // A full or read-only disk: there is nothing to learn from, and everything else goes on.
        }
      }
    },
    fresh: (model) => models.get(model)?.fresh ?? 0,
    used(model) {
      const kept = models.get(model)
      if (kept) kept.fresh = 0
    },
    folder,
    async close() {
      closed = true
      await Promise.all([...models.values()].map(({ writing }) => writing))
      await rm(root, { recursive: true, force: true })
    },
  }
}
