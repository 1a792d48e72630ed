import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BlockscaleError, isName, type ModelId, modelId } from '../base/index.ts'
import { loadCard, type ModelCard } from '../tasks/index.ts'

/** Where models are looked for. */
export interface ModelPlaces {
  /** the zoo's folder; pulled models lie in its `models/<id>/` */
  readonly zoo?: string | undefined
  /** what ships with the package: `<id>/model.json` with its `.onnx`, and `catalog/<id>.json`; the package's own unless given */
  readonly bundled?: string | undefined
}

export interface ListedModel {
  readonly id: ModelId
  readonly card: ModelCard
  /** `catalogue`: not here yet, `blockscale pull` fetches it */
  readonly where: 'bundled' | 'pulled' | 'catalogue'
  /** the folder of an installed model */
  readonly folder?: string | undefined
}

const packaged = fileURLToPath(new URL('../../model-zoo', import.meta.url))

export const bundledFolder = (places: ModelPlaces): string => places.bundled ?? packaged
export const pulledFolder = (places: ModelPlaces): string => join(places.zoo ?? 'zoo', 'models')
export const catalogueFile = (places: ModelPlaces, id: string): string =>
  join(bundledFolder(places), 'catalog', `${id}.json`)

/** All models that are installed or in the catalogue, by name; an installed one hides its catalogue entry. */
export async function listModels(places: ModelPlaces = {}): Promise<ListedModel[]> {
  const found = new Map<string, ListedModel>()
  const take = async (where: ListedModel['where'], folder: string, cardFile: string): Promise<void> => {
    const card = await loadCard(cardFile)
    const id = modelId(card.id)
    if (!found.has(id)) found.set(id, { id, card, where, ...(where === 'catalogue' ? {} : { folder }) })
  }
  for (const [where, root] of [
    ['bundled', bundledFolder(places)],
    ['pulled', pulledFolder(places)],
  ] as const) {
    for (const name of await namesIn(root)) {
      if (isName(name) && (await namesIn(join(root, name))).includes('model.json')) {
        await take(where, join(root, name), join(root, name))
      }
    }
  }
  const catalogue = join(bundledFolder(places), 'catalog')
  for (const name of await namesIn(catalogue)) {
    if (name.endsWith('.json')) await take('catalogue', catalogue, join(catalogue, name))
  }
  return [...found.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
}

/** @throws BlockscaleError MODEL_UNKNOWN listing what there is */
export async function listedModel(id: string, places: ModelPlaces): Promise<ListedModel> {
  const all = await listModels(places)
  const found = all.find((model) => model.id === id)
  if (found) return found
  throw new BlockscaleError(
    'MODEL_UNKNOWN',
    `there is no model "${id}"`,
    `known are ${all.map((model) => model.id).join(', ') || 'none'}; or give the path of an .onnx file or a package folder`,
  )
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
    throw error
  })
}
