import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

export interface Held {
  readonly anonymousBytes: number
  /** resident pages of compiled networks */
  readonly mappedBytes: number
}

export interface MemoryWatch {
  /** The moment at which this process held the most since it was last asked. */
  takePeak(): Promise<Held>
  close(): void
}

export const bytesOf = ({ anonymousBytes, mappedBytes }: Held): number => anonymousBytes + mappedBytes

/** Samples the memory of this process every 10 ms from another one, so that looking takes none of it. */
export function watchMemory(): MemoryWatch {
  const path = fileURLToPath(new URL('./watch-memory-child.mjs', import.meta.url))
  const child = fork(path, [String(process.pid)], { execArgv: [] })
  return {
    async takePeak() {
      child.send('peak')
      const [peak] = await once(child, 'message')
      return peak
    },
    close: () => child.disconnect(),
  }
}
