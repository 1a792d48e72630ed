import { BlockscaleError, ORIGINAL } from '../base/index.ts'
import type { Choices, Manifest, ManifestBlock, ManifestDescendant } from '../zoo/index.ts'

/** @throws BlockscaleError PLAN_INVALID naming what there is */
export function descendantOf(block: ManifestBlock, id: string | undefined): ManifestDescendant {
  const found = block.descendants.find((each) => each.id === id)
  if (found) return found
  const offered = block.descendants.map((each) => each.id).join(', ')
  throw new BlockscaleError('PLAN_INVALID', `block ${block.id} has no descendant "${id ?? ''}"; it has ${offered}`)
}

export const keyOf = (choices: Choices): string =>
  Object.entries(choices)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([block, descendant]) => `${block}=${descendant}`)
    .join(' ')

/** Every block as it came. */
export const originalChoices = (manifest: Pick<Manifest, 'blocks'>): Choices =>
  Object.fromEntries(manifest.blocks.map(({ id }) => [id, ORIGINAL])) as Choices
