import type { BlockId, DescendantId, ModelId } from '../base/index.ts'
import type { Manifest, ZooFile } from './manifest.ts'

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

  /** @throws BlockscaleError ZOO_READ_ONLY when the folder cannot be written or the disk is full */
  writeBlock(model: ModelId, block: BlockId, descendant: DescendantId, bytes: Uint8Array): Promise<ZooFile>
  /** Writes another file of the model, such as `original.onnx` or `labels.txt`. */
  writeFile(model: ModelId, path: string, bytes: Uint8Array | string): Promise<ZooFile>
  writeManifest(manifest: Manifest): Promise<void>
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

export interface ZooLock {
  release(): Promise<void>
}

/** Finished steps of a build, written down after each, so that a build that was killed goes on where it stopped. */
export interface Journal {
  /** The record of a finished step; nothing when it is missing or one of its files is damaged. */
  get<T>(key: string): Promise<T | undefined>
  /** @param record JSON; @param files files of the model that the step wrote, checked again by `get` */
  put<T>(key: string, record: T, files?: readonly ZooFile[]): Promise<void>
  /** Removes the journal, when the build is done. */
  clear(): Promise<void>
}

export declare function openZoo(dir: string): Zoo
