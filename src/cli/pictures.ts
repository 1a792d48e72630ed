import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { BlockscaleError } from '../base/index.ts'
import type { PictureSource } from '../pipeline/index.ts'
import { findModel, type Manifest, type Zoo } from '../zoo/index.ts'

const FILE = 'pictures.json'
const schema = z.object({ images: z.string().optional(), validation: z.string().optional(), folder: z.string() })

/** Writes down beside the manifest which pictures a build used, for measuring plans on them later on the same machine. */
export async function rememberPictures(zoo: Zoo, manifest: Manifest, source: PictureSource): Promise<void> {
  const absolute = {
    ...(source.images === undefined ? {} : { images: resolve(source.images) }),
    ...(source.validation === undefined ? {} : { validation: resolve(source.validation) }),
    folder: resolve(source.folder),
  }
  await zoo.writeFile(manifest.model, FILE, `${JSON.stringify(absolute, null, 2)}\n`)
}

/**
 * Where the pictures of a built model are: those that its build used, else those that its package brings.
 *
 * @throws BlockscaleError PICTURES_MISSING when neither is known
 */
export async function knownPictures(zoo: Zoo, manifest: Manifest): Promise<PictureSource> {
  const text = await readFile(join(zoo.dir, manifest.model, FILE), 'utf8').catch(() => undefined)
  if (text !== undefined) {
    try {
      return schema.parse(JSON.parse(text))
    } catch {
      // A damaged note of where pictures were is as good as none.
    }
  }
  const found = await findModel(manifest.model, { zoo: zoo.dir }).catch(() => undefined)
  if (found?.card?.data?.calibration) return { folder: found.folder }
  throw new BlockscaleError(
    'PICTURES_MISSING',
    `it is not known which pictures ${manifest.model} was built with`,
    'name a folder with --images DIR',
  )
}
