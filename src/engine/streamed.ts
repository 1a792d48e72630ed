import { closeSync, existsSync, fstatSync, openSync, read } from 'node:fs'
import { openCompiledNow } from './compiled.ts'
import type { Windowed } from './messages.ts'
import type { Session } from './session.ts'

/** Of one read; several are under way at once. All write to the same place, since only the system's cache is to be filled. */
const CHUNK_BYTES = 256 * 1024
const scratch = new Uint8Array(CHUNK_BYTES)

/**
 * A compiled file that is mapped for each run and let go after it.
 *
 * The file stays open, so that it can be mapped again also after its name was removed from the device cache.
 */
export class Streamed {
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly fileBytes: number
  readonly #file: number
  readonly #path: string
  #aheadBytes = 0

  constructor(path: string, { inputs, outputs }: NonNullable<Windowed['passing']>) {
    this.inputs = inputs
    this.outputs = outputs
    this.#file = openSync(path, 'r')
    this.fileBytes = fstatSync(this.#file).size
    const open = `/proc/self/fd/${this.#file}`
    this.#path = existsSync(open) ? open : path
  }

  /**
   * Has the first `bytes` of the file read into the system's cache, as far as they were not asked for since the last run.
   *
   * Returns at once; threads of their own read while this one runs what comes before.
   */
  readAhead(bytes: number): void {
    const end = Math.min(bytes, this.fileBytes)
    for (let at = this.#aheadBytes; at < end; at += CHUNK_BYTES) {
      // What cannot be read now fails when it is mapped, and is told then.
      read(this.#file, scratch, 0, Math.min(CHUNK_BYTES, end - at), at, () => {})
    }
    this.#aheadBytes = Math.max(this.#aheadBytes, end)
  }

  /** @throws BlockscaleError MODEL_UNSUPPORTED */
  open(): Session {
    this.#aheadBytes = 0
    // For a single run a copy of the weights takes longer to make than it saves, and memory beside.
    return openCompiledNow(this.#path, { keepsMemory: false, prepacking: false })
  }

  close(): void {
    closeSync(this.#file)
  }
}
