import { mkdir, rename, rm } from 'node:fs/promises'
import { BlockscaleError, writeFileAtomic } from '../base/index.ts'

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EACCES: 'writing is not allowed',
  EPERM: 'writing is not allowed',
}

/** Does `work`, and says plainly when the disk is what failed. */
export async function writing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const reason = REASONS[(cause as NodeJS.ErrnoException).code ?? '']
    if (!reason) throw cause
    throw new BlockscaleError('ZOO_NOT_WRITABLE', `cannot write ${path}: ${reason}`, undefined, { cause })
  }
}

export const writeWhole = (path: string, bytes: Uint8Array | string): Promise<void> =>
  writing(path, () => writeFileAtomic(path, bytes))

export const makeFolder = (path: string): Promise<void> =>
  writing(path, async () => {
    await mkdir(path, { recursive: true })
  })

/** Removes a folder so that it is there with all it holds or not at all, also when this is interrupted. */
export async function removeWhole(path: string): Promise<void> {
  await writing(path, async () => {
    const aside = `${path}.${process.pid}.${Date.now().toString(36)}.tmp`
    try {
      await rename(path, aside)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    await rm(aside, { recursive: true, force: true })
  })
}
