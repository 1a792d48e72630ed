import { createHash } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { BlockscaleError } from '../base/index.ts'

/** The least that is known of a file that can be checked. */
export interface Expected {
  readonly bytes: number
  readonly sha256: string
}

/**
 * Times of files are only as fine as the kernel's clock tick, two seconds on FAT: a file that changed so recently may
 * change again without its times showing it. Its checksum is then not remembered.
 */
const SETTLED_NS = 2_000_000_000n
const CHUNK = 1 << 20

/** Checks files against their checksums, and remembers what it found while a file stays as it was. */
export class Verifier {
  readonly #known = new Map<string, { readonly mark: string; readonly sha256: string }>()

  /** @throws BlockscaleError ZOO_DAMAGED */
  async check(path: string, expected: Expected): Promise<void> {
    await this.#with(path, expected, async (file, stats) => {
      if (this.#isKnown(path, stats, expected)) return
      const hash = createHash('sha256')
      const buffer = Buffer.allocUnsafe(Math.min(CHUNK, Math.max(expected.bytes, 1)))
      for (;;) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length)
        if (bytesRead === 0) break
        hash.update(buffer.subarray(0, bytesRead))
      }
      this.#judge(path, stats, expected, hash.digest('hex'))
    })
  }

  /** @throws BlockscaleError ZOO_DAMAGED */
  async read(path: string, expected: Expected): Promise<Uint8Array> {
    return this.#with(path, expected, async (file, stats) => {
      const bytes = await file.readFile()
      if (bytes.length === expected.bytes && this.#isKnown(path, stats, expected)) return bytes
      this.#judge(path, stats, expected, createHash('sha256').update(bytes).digest('hex'))
      return bytes
    })
  }

  async #with<T>(path: string, expected: Expected, work: (file: FileHandle, stats: BigIntStats) => Promise<T>) {
    let file: FileHandle
    try {
      file = await open(path, 'r')
    } catch (cause) {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
      throw damaged(path, missing ? 'is missing' : `cannot be read (${(cause as Error).message})`, cause)
    }
    try {
      const stats = await file.stat({ bigint: true })
      if (!stats.isFile()) throw damaged(path, 'is no file')
      if (stats.size !== BigInt(expected.bytes)) {
        throw damaged(path, `has ${stats.size} bytes, not the ${expected.bytes} that were written`)
      }
      return await work(file, stats)
    } finally {
      await file.close()
    }
  }

  #isKnown(path: string, stats: BigIntStats, expected: Expected): boolean {
    const known = this.#known.get(path)
    return known !== undefined && known.mark === markOf(stats) && known.sha256 === expected.sha256
  }

  #judge(path: string, stats: BigIntStats, expected: Expected, found: string): void {
    if (found !== expected.sha256) {
      this.#known.delete(path)
      throw damaged(
        path,
        `has the checksum ${found.slice(0, 12)}…, not ${expected.sha256.slice(0, 12)}… as it was written`,
      )
    }
    const age = BigInt(Date.now()) * 1_000_000n - stats.ctimeNs
    if (age > SETTLED_NS) this.#known.set(path, { mark: markOf(stats), sha256: found })
  }
}

const markOf = (stats: BigIntStats): string =>
  `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}:${stats.ctimeNs}`

export const damaged = (path: string, how: string, cause?: unknown): BlockscaleError =>
  new BlockscaleError('ZOO_DAMAGED', `${path} ${how}`, undefined, cause ? { cause } : undefined)
