import { modelId } from '../base/index.ts'
import type { BackgroundPolisher, RecentFrames } from '../pipeline/index.ts'
import type { Polisher } from '../runtime/index.ts'
import { openZoo } from '../zoo/index.ts'
import { knownPictures } from './pictures.ts'

export interface LivePolishOptions {
  /** whether plans that stay are polished with the pictures that their models were built with */
  readonly polishes: boolean
  /** what is seen meanwhile, where plans are to follow it */
  readonly frames?: RecentFrames | undefined
}

/** Frames that are new since the last time are worth another look; fewer say little. */
const ENOUGH_FRAMES = 64

/**
 * What a runtime asks for better weights. A model whose pictures are not known here stays as it is until enough frames were seen; then
 * its last layers are solved again on them, and once more after as many new ones.
 */
export function polisherOf(
  folder: string,
  background: BackgroundPolisher,
  { polishes, frames }: LivePolishOptions,
): Polisher {
  const zoo = openZoo(folder)
  const polisher: { -readonly [K in keyof Polisher]: Polisher[K] } = {}
  if (polishes) {
    polisher.polish = async (model, choices, size) => {
      const source = await knownPictures(zoo, await zoo.manifest(modelId(model)))
      return background.polish({ zoo: zoo.dir, model, choices, size, from: { source } })
    }
  }
  if (frames) {
    polisher.adapt = async (model, choices, size) => {
      if (frames.fresh(model) < ENOUGH_FRAMES) return false
      frames.used(model)
      return background.polish({ zoo: zoo.dir, model, choices, size, from: { frames: frames.folder(model) } })
    }
  }
  return polisher
}
