import { type ProfileStore, predictors, type SizedPredictor } from '../profiles/index.ts'
import type { Manifest } from '../zoo/index.ts'

/**
 * Predictors of models, fitted anew only when something was measured or built since: a fit takes tens of milliseconds and more, in which
 * the thread that plans answers nobody.
 */
export class Fitted {
  readonly #store: ProfileStore
  readonly #device: string
  readonly #known = new Map<string, { state: string; sizes: readonly SizedPredictor[] }>()

  constructor(store: ProfileStore, device: string) {
    this.#store = store
    this.#device = device
  }

  of(manifest: Manifest): readonly SizedPredictor[] {
    const state = this.state(manifest)
    const known = this.#known.get(manifest.model)
    if (known?.state === state) return known.sizes
    const sizes = predictors(this.#store, manifest, this.#device)
    this.#known.set(manifest.model, { state, sizes })
    return sizes
  }

  /** Changes whenever the profiles of a model, or its descendants, have changed. */
  state({ model, blocks, sizes }: Manifest): string {
    const files = blocks.flatMap(({ descendants }) => descendants.map(({ file }) => file.sha256))
    return JSON.stringify([this.#store.stamp({ model, device: this.#device }), files, sizes])
  }
}
