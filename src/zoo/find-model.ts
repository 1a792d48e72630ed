import { stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { BlockscaleError, isName, type ModelId, modelId, sha256OfFile } from '../base/index.ts'
import { loadCard, type ModelCard } from '../tasks/index.ts'
import { listedModel, type ModelPlaces } from './catalog.ts'

/** A model before it is built. */
export interface FoundModel {
  readonly id: ModelId
  /** absent for a bare .onnx file */
  readonly card?: ModelCard | undefined
  /** the .onnx file; its checksum was compared with the card's */
  readonly file: string
  /** what relative paths in the card start from */
  readonly folder: string
}

/**
 * The model that a user means by a catalogue id, a package folder or a bare `.onnx` file, which is known by its file name
 * without the ending.
 *
 *     (await findModel('mobilenetv2')).file    // → '<zoo>/models/mobilenetv2/model.onnx'
 *     (await findModel('nets/mine.onnx')).id   // → 'mine'
 *
 * @throws BlockscaleError MODEL_UNKNOWN, NOT_FOUND, MODEL_CARD_INVALID, CHECKSUM_MISMATCH
 */
export async function findModel(name: string, places: ModelPlaces = {}): Promise<FoundModel> {
  if (name.toLowerCase().endsWith('.onnx')) return bareFile(name)
  if (!/[\\/]/.test(name) && !(await isFile(join(name, 'model.json')))) {
    const listed = await listedModel(name, places)
    if (listed.folder) return packageFolder(listed.folder)
    throw new BlockscaleError(
      'MODEL_UNKNOWN',
      `the model "${name}" is in the catalogue but not installed`,
      `fetch it with \`blockscale pull ${name}\`, or from a folder with \`blockscale pull ${name} --from DIR\``,
    )
  }
  return packageFolder(resolve(name))
}

async function bareFile(path: string): Promise<FoundModel> {
  const file = resolve(path)
  if (!(await isFile(file))) throw new BlockscaleError('NOT_FOUND', `there is no file ${path}`)
  const id = basename(file).slice(0, -'.onnx'.length)
  if (!isName(id) || id === 'models') {
    throw new BlockscaleError(
      'USAGE',
      `the file name "${id}" cannot be the name of a model`,
      'rename the file: letters, digits, ".", "_" and "-", at most 64, and not "models"',
    )
  }
  return { id: modelId(id), file, folder: dirname(file) }
}

async function packageFolder(folder: string): Promise<FoundModel> {
  const card = await loadCard(folder)
  const file = join(folder, card.file)
  if (!(await isFile(file))) {
    throw new BlockscaleError('NOT_FOUND', `the package ${folder} lacks its file ${card.file}`)
  }
  if (card.sha256) {
    const found = await sha256OfFile(file)
    if (found !== card.sha256) {
      throw new BlockscaleError(
        'CHECKSUM_MISMATCH',
        `${file} has the sha256 ${found}, its model.json says ${card.sha256}`,
        'fetch the model again, or correct sha256 in model.json if the file is the right one',
      )
    }
  }
  return { id: modelId(card.id), card, file, folder }
}

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  )
