import { constants } from 'node:fs'
import { open, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../base/index.ts'

const schema = z.strictObject({ bytesPerMs: z.number().positive() })

const FILE = 'read-speed.json'
/** Of one read, and how many are under way at once: as when blocks are read ahead. */
const CHUNK_BYTES = 256 * 1024
const AT_ONCE = 4
const MOST_BYTES = 32e6
const MOST_MS = 2_000

/**
 * How fast the disk is on which a zoo lies, in bytes per millisecond: measured once, on the files given, and kept in the device folder.
 *
 * The system's cache is gone around (O_DIRECT) where the file system allows it; otherwise what is measured is what reading took.
 */
export async function readSpeed(folder: string, files: readonly string[]): Promise<number> {
  const path = join(folder, FILE)
  const known = await keptSpeed(path)
  if (known !== undefined) return known
  const bytesPerMs = await measureReading(files)
  // A folder that cannot be written is measured again.
  await writeFileAtomic(path, `${JSON.stringify({ bytesPerMs })}\n`).catch(() => {})
  return bytesPerMs
}

/** So quick is the system's cache, and disks for which nobody waits. */
const QUICK_BYTES_PER_MS = 1e6
const PIECE_BYTES = 1 << 20

/**
 * How many milliseconds reading these files would take now: 0 where a piece of the largest came as quickly as from the system's cache, or
 * where they cannot be read; otherwise as long as their bytes take at the speed that is kept for the disk, or at that of the piece.
 */
export async function readingMs(folder: string, paths: readonly string[]): Promise<number> {
  try {
    const files = await Promise.all(paths.map(async (path) => ({ path, bytes: (await stat(path)).size })))
    const largest = files.reduce((most, each) => (each.bytes > most.bytes ? each : most))
    const speed = await speedOfPiece(largest)
    if (speed >= QUICK_BYTES_PER_MS) return 0
    const total = files.reduce((sum, { bytes }) => sum + bytes, 0)
    return total / Math.min(speed, (await keptSpeed(join(folder, FILE))) ?? speed)
  } catch {
    return 0
  }
}

async function speedOfPiece({ path, bytes }: { path: string; bytes: number }): Promise<number> {
  const handle = await open(path, 'r')
  try {
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, bytes))
    const started = performance.now()
    const { bytesRead } = await handle.read(piece, 0, piece.length, Math.floor((bytes - piece.length) / 2))
    return bytesRead / Math.max(performance.now() - started, 1e-3)
  } finally {
    await handle.close()
  }
}

const keptSpeed = (path: string): Promise<number | undefined> =>
  readFile(path, 'utf8').then(
    (text) => schema.safeParse(safeJson(text)).data?.bytesPerMs,
    () => undefined,
  )

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Node has it; the types for Node do not name it. */
const { WebAssembly: wasm } = globalThis as unknown as {
  WebAssembly: { Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer } }
}

async function measureReading(files: readonly string[]): Promise<number> {
  // Memory of WebAssembly begins at a page, as reading around the cache asks for.
  const pages = new wasm.Memory({ initial: CHUNK_BYTES / 65_536 })
  const buffer = new Uint8Array(pages.buffer)
  let [bytes, ms] = [0, 0]
  for (const file of files) {
    const started = performance.now()
    const read = await readWhole(file, buffer, constants.O_RDONLY | constants.O_DIRECT).catch(() =>
      readWhole(file, buffer, constants.O_RDONLY),
    )
    bytes += read
    ms += performance.now() - started
    if (bytes >= MOST_BYTES || ms >= MOST_MS) break
  }
  return Math.max(bytes, 1) / Math.max(ms, 1e-3)
}

async function readWhole(file: string, buffer: Uint8Array, flags: number): Promise<number> {
  const handle = await open(file, flags)
  try {
    let next = 0
    let total = 0
    const readSome = async () => {
      for (;;) {
        const at = next
        next += buffer.length
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, at)
        total += bytesRead
        if (bytesRead < buffer.length) return
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, readSome))
    return total
  } finally {
    await handle.close()
  }
}
