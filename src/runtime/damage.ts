import { BlockscaleError } from '../base/index.ts'
import type { Zoo, ZooFile } from '../zoo/index.ts'

/** The file of a descendant is not as it was written, and nothing compiled of it is there either. */
export class DescendantDamaged extends BlockscaleError {
  readonly model: string
  readonly block: string
  readonly descendant: string
  readonly file: ZooFile

  constructor(of: { model: string; block: string; descendant: string; file: ZooFile }, cause: BlockscaleError) {
    super('ZOO_DAMAGED', cause.message, cause.hint, { cause })
    this.name = 'DescendantDamaged'
    this.model = of.model
    this.block = of.block
    this.descendant = of.descendant
    this.file = of.file
  }
}

/** Descendants that were found damaged. Plans do without them, so that a sibling stands in, until their files are whole again. */
export class Damage {
  readonly #found = new Map<string, DescendantDamaged>()

  note(damaged: DescendantDamaged): void {
    this.#found.set(keyOf(damaged.model, damaged.block, damaged.descendant), damaged)
  }

  has(model: string, block: string, descendant: string): boolean {
    return this.#found.has(keyOf(model, block, descendant))
  }

  /** Forgets what has been mended or built anew meanwhile. */
  async lookAgain(zoo: Zoo): Promise<void> {
    for (const [key, { model, block, descendant, file }] of this.#found) {
      const manifest = await zoo.manifest(model as Parameters<Zoo['manifest']>[0]).catch(() => undefined)
      const now = manifest?.blocks.find(({ id }) => id === block)?.descendants.find(({ id }) => id === descendant)?.file
      const isWhole = now && (await zoo.verified(manifest.model, now).catch(() => false))
      if (!now || now.sha256 !== file.sha256 || isWhole) this.#found.delete(key)
    }
  }
}

const keyOf = (model: string, block: string, descendant: string): string => `${model}/${block}/${descendant}`
