import { compose, type Model, readModel, writeModel } from '../onnx/index.ts'
import type { Choices, Manifest, Zoo } from '../zoo/index.ts'
import { descendantOf } from './choices.ts'

/**
 * The chosen descendants of a built model joined into one plain model.
 *
 * @throws BlockscaleError PLAN_INVALID when a choice is not in the manifest, ZOO_DAMAGED
 */
export async function fuse(zoo: Zoo, manifest: Manifest, choices: Choices): Promise<Model> {
  const models = await Promise.all(
    manifest.blocks.map(async (block) => {
      const descendant = descendantOf(block, choices[block.id])
      return readModel(await zoo.load(manifest.model, descendant.file))
    }),
  )
  return compose(models, { name: manifest.model, inputs: manifest.inputs, outputs: manifest.outputs })
}

export const fuseToBytes = async (zoo: Zoo, manifest: Manifest, choices: Choices): Promise<Uint8Array> =>
  writeModel(await fuse(zoo, manifest, choices))
