import { BlockscaleError, writeFileAtomic } from '../base/index.ts'

/**
 * Writes a file that the user named: the whole of it, or nothing.
 *
 * @throws BlockscaleError ZOO_NOT_WRITABLE
 */
export async function writeOut(path: string, content: Uint8Array | string): Promise<void> {
  try {
    await writeFileAtomic(path, content)
  } catch (cause) {
    const message = `cannot write ${path}: ${(cause as Error).message}`
    throw new BlockscaleError('ZOO_NOT_WRITABLE', message, 'name another file, or allow writing there', { cause })
  }
}
