import { randomBytes } from 'node:crypto'
import { appendFile, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isName, sha256OfFile } from '../base/index.ts'
import type { ZooFile } from './manifest.ts'
import type { Verifier } from './verifier.ts'
import { makeFolder, writeWhole, writing } from './writing.ts'

/**
 * What was compiled for a device, named by the checksum of what it was compiled from, so that a descendant that was made
 * anew can never meet the compiled form of the old one. Beside each `.ort` lies its own size and checksum.
 */
export interface DeviceCache {
  folder(key: string): string
  find(key: string, file: ZooFile): Promise<string | undefined>
  make(key: string, file: ZooFile, compile: (to: string) => Promise<void>): Promise<string>
  forget(files: readonly ZooFile[]): Promise<void>
}

/** With less room than this and twice the file, a compilation that failed has failed for lack of it. */
const ROOM_BYTES = 1e6

export function deviceCache(folder: string, verifier: Verifier, keys: () => Promise<string[]>): DeviceCache {
  const folderOf = (key: string): string => {
    if (!isName(key)) throw new RangeError(`"${key}" is no device key`)
    return join(folder, key)
  }
  const pathOf = (key: string, file: ZooFile): string => join(folderOf(key), `${file.sha256}.ort`)
  const cache: DeviceCache = {
    folder: folderOf,
    async find(key, file) {
      const path = pathOf(key, file)
      try {
        const [bytes, sha256] = (await readFile(`${path}.sum`, 'utf8')).trim().split(' ')
        await verifier.check(path, { bytes: Number(bytes), sha256: sha256 ?? '' })
        return path
      } catch {
        return undefined // whatever is wrong with it, it is made again
      }
    },
    async make(key, file, compile) {
      const path = pathOf(key, file)
      const found = await cache.find(key, file)
      if (found) return found
      const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.tmp.ort`
      await makeFolder(dirname(path))
      try {
        await compile(temporary).catch(async (cause) => {
          // What writes files by itself says only that it could not: whether there is no room is seen by trying.
          await writing(path, () => appendFile(temporary, Buffer.alloc(ROOM_BYTES + 2 * file.bytes)))
          throw cause
        })
        const { size } = await stat(temporary)
        const sum = `${size} ${await sha256OfFile(temporary)}\n`
        // Whatever is in the way, also a folder; it was found not to be what was written.
        for (const old of [`${path}.sum`, path]) await rm(old, { recursive: true, force: true })
        await writing(path, () => rename(temporary, path))
        await writeWhole(`${path}.sum`, sum)
      } finally {
        await rm(temporary, { force: true })
      }
      return path
    },
    async forget(files) {
      for (const key of await keys()) {
        for (const file of files) {
          await rm(pathOf(key, file), { force: true })
          await rm(`${pathOf(key, file)}.sum`, { force: true })
        }
      }
    },
  }
  return cache
}
