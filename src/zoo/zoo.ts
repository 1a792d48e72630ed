import { readdir, readFile, realpath } from 'node:fs/promises'
import { join, resolve, sep } from 'node:path'
import {
  type BlockId,
  BlockscaleError,
  type DescendantId,
  isName,
  type ModelId,
  modelId,
  sha256,
} from '../base/index.ts'
import { type DeviceCache, deviceCache } from './device-cache.ts'
import { type Journal, openJournal } from './journal.ts'
import { removeLeftovers } from './leftovers.ts'
import { takeLock, type ZooLock } from './lock.ts'
import type { Manifest, ZooFile } from './manifest.ts'
import { formatManifest, isInside, parseManifest } from './manifest-file.ts'
import { damaged, Verifier } from './verifier.ts'
import { removeWhole, writeWhole } from './writing.ts'

/**
 * A folder of built models. Nothing is read from it unchecked and nothing in it is changed in place.
 *
 *     <zoo>/<model>/manifest.json
 *     <zoo>/<model>/blocks/<block>/<descendant>.onnx
 *     <zoo>/<model>/build.json           what a build has finished, for resuming
 *     <zoo>/models/<id>/                 installed by `pull`
 *     <zoo>/profiles.db
 *     <zoo>/.device/<device key>/        compiled for this machine; may be deleted at any time
 */
export interface Zoo {
  readonly dir: string
  /** `<zoo>/profiles.db` */
  readonly profilesPath: string

  /** Built models, in the order of their names. */
  models(): Promise<ModelId[]>
  /** @throws BlockscaleError MODEL_UNKNOWN, ZOO_DAMAGED when it is no valid manifest or its checksum differs */
  manifest(model: ModelId): Promise<Manifest>
  /** Where a file of a model lies. @throws BlockscaleError ZOO_DAMAGED when its path leads out of the model's folder */
  path(model: ModelId, file: ZooFile): string
  /** The bytes, once their sha256 is found right. @throws BlockscaleError ZOO_DAMAGED */
  load(model: ModelId, file: ZooFile): Promise<Uint8Array>
  /** The path, once the sha256 of what is there is found right; free while the file stays as it was. @throws BlockscaleError ZOO_DAMAGED */
  verified(model: ModelId, file: ZooFile): Promise<string>

  /** @throws BlockscaleError ZOO_NOT_WRITABLE when the folder cannot be written or the disk is full */
  writeBlock(model: ModelId, block: BlockId, descendant: DescendantId, bytes: Uint8Array): Promise<ZooFile>
  /** Writes another file of the model, such as `original.onnx` or `labels.txt`. */
  writeFile(model: ModelId, path: string, bytes: Uint8Array | string): Promise<ZooFile>
  writeManifest(manifest: Manifest): Promise<void>
  /** Removes block files that the manifest does not name: descendants that were made and are not offered. */
  tidy(manifest: Manifest): Promise<void>
  /** Removes a model with all that was compiled from it. */
  remove(model: ModelId): Promise<void>

  /**
   * Takes the build lock of this zoo, and removes what builds that died left half-written.
   *
   * There is one for the whole zoo, because a second build would disturb the first one's measurements.
   *
   * @throws BlockscaleError ZOO_LOCKED while another build is alive
   */
  lock(model: ModelId): Promise<ZooLock>
  /** What an interrupted build of the same source and options had finished; empty for another fingerprint. */
  journal(model: ModelId, fingerprint: string): Promise<Journal>

  /** `<zoo>/.device/<device key>` */
  deviceFolder(key: string): string
  /** The compiled form of a file for a device, when it is there and whole. */
  compiled(key: string, file: ZooFile): Promise<string | undefined>
  /**
   * The compiled form of a file for a device, made by `compile` when it is missing or damaged.
   *
   * @param compile writes the compiled form to the path that it is given, which ends in `.ort`
   */
  compile(key: string, file: ZooFile, compile: (to: string) => Promise<void>): Promise<string>
}

/** Folders of a zoo that are no models. */
const RESERVED = ['models']

/** Opens a zoo; the folder is made when something is first written to it. */
export function openZoo(dir: string): Zoo {
  return new ZooFolder(resolve(dir))
}

class ZooFolder implements Zoo {
  readonly dir: string
  readonly profilesPath: string
  readonly #verifier = new Verifier()
  readonly #compiled: DeviceCache
  /** what was read lately: a start asks three times for the same */
  readonly #manifests = new Map<ModelId, { readonly text: string; readonly manifest: Manifest }>()

  constructor(dir: string) {
    this.dir = dir
    this.profilesPath = join(dir, 'profiles.db')
    const devices = join(dir, '.device')
    this.#compiled = deviceCache(devices, this.#verifier, () => foldersIn(devices))
  }

  async models(): Promise<ModelId[]> {
    const found: ModelId[] = []
    for (const name of await foldersIn(this.dir)) {
      if (!isModelName(name)) continue
      const files: string[] = await readdir(join(this.dir, name)).catch(() => [])
      if (files.includes('manifest.json')) found.push(modelId(name))
    }
    return found.sort()
  }

  async manifest(model: ModelId): Promise<Manifest> {
    const path = join(this.#folder(model), 'manifest.json')
    let text: string
    try {
      text = await readFile(path, 'utf8')
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw damaged(path, 'cannot be read', cause)
      const built = await this.models()
      const here = built.length ? `${this.dir} holds ${built.join(', ')}` : `${this.dir} holds no model yet`
      const hint = `${here}; prepare it with \`blockscale build ${model}\`, or name another folder with --zoo`
      throw new BlockscaleError('MODEL_UNKNOWN', `the model "${model}" is not built in this zoo`, hint, { cause })
    }
    const known = this.#manifests.get(model)
    if (known?.text === text) return known.manifest
    const manifest = parseManifest(text, path, model)
    this.#manifests.set(model, { text, manifest })
    return manifest
  }

  path(model: ModelId, file: ZooFile): string {
    const folder = this.#folder(model)
    if (!isInside(file.path)) throw damaged(join(folder, 'manifest.json'), `names a path outside: "${file.path}"`)
    return join(folder, ...file.path.split('/'))
  }

  async load(model: ModelId, file: ZooFile): Promise<Uint8Array> {
    const path = this.path(model, file)
    await this.#refuseWayOut(model, path)
    return this.#verifier.read(path, file)
  }

  async verified(model: ModelId, file: ZooFile): Promise<string> {
    const path = this.path(model, file)
    await this.#refuseWayOut(model, path)
    await this.#verifier.check(path, file)
    return path
  }

  writeBlock(model: ModelId, block: BlockId, descendant: DescendantId, bytes: Uint8Array): Promise<ZooFile> {
    return this.writeFile(model, `blocks/${block}/${descendant}.onnx`, bytes)
  }

  async writeFile(model: ModelId, path: string, content: Uint8Array | string): Promise<ZooFile> {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content
    const file = { path, bytes: bytes.byteLength, sha256: sha256(bytes) }
    await writeWhole(this.path(model, file), bytes)
    return file
  }

  async writeManifest(manifest: Manifest): Promise<void> {
    const path = join(this.#folder(manifest.model), 'manifest.json')
    const text = formatManifest(manifest)
    parseManifest(text, path, manifest.model) // what could not be read back is not written
    await writeWhole(path, text)
  }

  async tidy(manifest: Manifest): Promise<void> {
    const blocks = join(this.#folder(manifest.model), 'blocks')
    const named = new Set(manifest.blocks.flatMap((block) => block.descendants.map(({ file }) => file.path)))
    for (const block of await foldersIn(blocks)) {
      for (const name of await readdir(join(blocks, block))) {
        if (!named.has(`blocks/${block}/${name}`)) await removeWhole(join(blocks, block, name))
      }
    }
  }

  async remove(model: ModelId): Promise<void> {
    const manifest = await this.manifest(model).catch(() => undefined)
    await removeWhole(this.#folder(model))
    if (!manifest) return
    const files = manifest.blocks.flatMap((block) => block.descendants.map(({ file }) => file))
    await this.#compiled.forget([manifest.original, ...files])
  }

  async lock(model: ModelId): Promise<ZooLock> {
    this.#folder(model)
    const lock = await takeLock(this.dir, model)
    await removeLeftovers(this.dir)
    return lock
  }

  journal(model: ModelId, fingerprint: string): Promise<Journal> {
    const isWhole = async (file: ZooFile): Promise<boolean> => {
      try {
        await this.verified(model, file)
        return true
      } catch (error) {
        if (error instanceof BlockscaleError && error.code === 'ZOO_DAMAGED') return false
        throw error
      }
    }
    return openJournal(join(this.#folder(model), 'build.json'), fingerprint, isWhole)
  }

  deviceFolder(key: string): string {
    return this.#compiled.folder(key)
  }

  compiled(key: string, file: ZooFile): Promise<string | undefined> {
    return this.#compiled.find(key, file)
  }

  compile(key: string, file: ZooFile, compile: (to: string) => Promise<void>): Promise<string> {
    return this.#compiled.make(key, file, compile)
  }

  #folder(model: ModelId): string {
    if (!isModelName(model)) {
      throw new BlockscaleError(
        'MODEL_UNKNOWN',
        `"${model}" cannot be the name of a model`,
        'use letters, digits, ".", "_" and "-", and not "models"',
      )
    }
    return join(this.dir, model)
  }

  /** A link inside the zoo must not lead to files elsewhere. */
  async #refuseWayOut(model: ModelId, path: string): Promise<void> {
    const [folder, real] = await Promise.all([this.#folder(model), path].map((each) => realpath(each).catch(() => '')))
    if (folder && real && !real!.startsWith(folder + sep)) throw damaged(path, 'is a link that leads out of the zoo')
  }
}

const isModelName = (name: string): boolean => isName(name) && !RESERVED.includes(name)

/** Folders in a folder, the hidden ones left out; none when it does not exist. */
async function foldersIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map((entry) => entry.name)
}
