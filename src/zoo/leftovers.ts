import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pidExists } from './processes.ts'

/** Names of half-written things: `<name>.<pid>.<random>.tmp`, for compiled files `….tmp.ort`. */
const HALF_WRITTEN = /\.(\d+)\.[0-9a-z]+\.tmp(\.ort)?$/

/** Removes what processes that died left half-written below a folder; what a living process writes is left alone. */
export async function removeLeftovers(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  for (const entry of entries) {
    const path = join(folder, entry.name)
    const writer = HALF_WRITTEN.exec(entry.name)
    if (writer) {
      if (!pidExists(Number(writer[1]))) await rm(path, { recursive: true, force: true })
    } else if (entry.isDirectory()) {
      await removeLeftovers(path)
    }
  }
}
