import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sha256, writeFileAtomic } from '../../src/base/index.ts'
import { openSession } from '../../src/engine/index.ts'
import { type Model, writeModel } from '../../src/onnx/index.ts'
import { type Evaluated, loadCard, loadItems, openDataset, taskFor } from '../../src/tasks/index.ts'

export const zoo = process.env.BLOCKSCALE_MODEL_ZOO ?? fileURLToPath(new URL('../../model-zoo', import.meta.url))

/** Seeds of the pictures for each purpose: the ranges do not meet, so no picture serves two. */
export const seeds = {
  training: 10_000_000,
  choosing: 20_000_000,
  report: 30_000_000,
  calibration: 40_000_000,
  validation: 50_000_000,
} as const

/** Where a training run keeps its state, so that the same command goes on after an interruption. */
export const stateFile = (id: string): string => fileURLToPath(new URL(`../../zoo/.training/${id}`, import.meta.url))

export interface PackageFile {
  /** relative to the package folder */
  readonly path: string
  readonly bytes: Uint8Array | string
}

/**
 * Writes a model package: model.onnx, model.json with its sha256, README.md, and what else is given. Folders of pictures are
 * replaced whole.
 *
 * @param readme gets the quality on the validation pictures as they are in the package, in the metric of the task
 */
export async function writePackage(
  id: string,
  model: Model,
  card: Readonly<Record<string, unknown>>,
  readme: (packaged: number) => string,
  files: readonly PackageFile[],
): Promise<void> {
  const folder = join(zoo, id)
  const bytes = writeModel({ ...model, metadata: new Map([['made-by', 'npm run train:zoo']]) })
  for (const part of ['calibration', 'validation']) await rm(join(folder, part), { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  for (const file of files) await writeFileAtomic(join(folder, file.path), file.bytes)
  await writeFileAtomic(join(folder, 'model.onnx'), bytes)
  const json = { id, file: 'model.onnx', sha256: sha256(bytes), ...card }
  await writeFileAtomic(join(folder, 'model.json'), `${JSON.stringify(json, null, 2)}\n`)
  await rm(stateFile(id), { force: true })
  const packaged = await measurePackage(folder)
  await writeFileAtomic(join(folder, 'README.md'), readme(packaged))
  console.log(
    `${id}: ${packaged.toFixed(4)} on its own validation pictures, ${(bytes.length / 1e6).toFixed(2)} MB, ${files.length} further files in ${folder}`,
  )
}

/** Quality of a package on its validation pictures, by the way that users take. */
async function measurePackage(folder: string): Promise<number> {
  const card = await loadCard(folder)
  const task = taskFor(card)
  const session = await openSession(join(folder, card.file))
  const { items } = await openDataset(join(folder, 'validation'), card)
  const evaluated: Evaluated[] = []
  for await (const item of loadItems(items)) {
    const derived = task.derive?.(item.picture, card)
    const prepared = task.prepare(derived?.picture ?? item.picture, card)
    const outputs = await session.run(prepared.feeds)
    evaluated.push({ prepared, outputs, original: outputs, truth: derived?.truth ?? item.truth })
  }
  await session.release()
  return task.quality(evaluated, card).value
}
