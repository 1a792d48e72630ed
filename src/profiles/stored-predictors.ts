import { ORIGINAL } from '../base/index.ts'
import type { Manifest } from '../zoo/index.ts'
import { type DescendantProfile, fitPredictor, type Predictor } from './predict.ts'
import type { Combination, Measurement, Size } from './rows.ts'
import type { ProfileStore } from './store.ts'

export interface SizedPredictor {
  readonly id: string
  readonly size: Size
  readonly predictor: Predictor
}

export const sizeId = ([height, width]: Size): string => (height === width ? `${height}` : `${height}x${width}`)

/**
 * Predictors of a model for each input size of which the original is measured on this device.
 *
 * @returns nothing where nothing is measured yet
 */
export function predictors(store: ProfileStore, manifest: Manifest, device: string): SizedPredictor[] {
  const { model } = manifest
  const base = originalOf(manifest, store.combinations({ model, size: manifest.sizes[0] }))
  return manifest.sizes.flatMap((size): SizedPredictor[] => {
    const measurements = new Map(
      store.measurements({ model, device, size }).map((row) => [`${row.block}/${row.descendant}`, row]),
    )
    const losses = new Map(store.losses({ model, size }).map((row) => [`${row.block}/${row.descendant}`, row]))
    const descendants = manifest.blocks.flatMap((block) =>
      block.descendants.flatMap((descendant): DescendantProfile[] => {
        const key = `${block.id}/${descendant.id}`
        const [measured, loss] = [measurements.get(key), losses.get(key)]
        const isOriginal = descendant.id === ORIGINAL
        if (!measured || !(loss || isOriginal)) return []
        return [
          {
            block: block.id,
            descendant: descendant.id,
            divergence: loss?.divergence ?? 0,
            qualityLoss: loss?.qualityLoss ?? 0,
            ...costsOf(measured),
          },
        ]
      }),
    )
    if (manifest.blocks.some(({ id }) => !descendants.some(({ block }) => block === id))) return []
    const combinations = store.combinations({ model, device, size })
    const here = originalOf(manifest, combinations)
    return [
      {
        id: sizeId(size),
        size,
        predictor: fitPredictor({
          originalQuality: here?.measured.quality ?? base?.measured.quality ?? 1,
          descendants,
          combinations: combinations
            .filter(({ split }) => split === 'refit')
            .map(({ choices, measured: { quality, latencyMs, memoryBytes } }) => ({
              choices,
              quality,
              latencyMs,
              memoryBytes,
            })),
        }),
      },
    ]
  })
}

const costsOf = ({ latencyP50Ms, anonymousBytes, mappedBytes, loadMs }: Measurement) => ({
  latencyMs: latencyP50Ms,
  memoryBytes: anonymousBytes + mappedBytes,
  loadMs,
})

/** The measured original as a whole; the pictures that predictions are fitted on come first, so that both are in one scale. */
function originalOf({ blocks }: Manifest, combinations: readonly Combination[]): Combination | undefined {
  const whole = combinations.filter(({ choices }) => blocks.every(({ id }) => choices[id] === ORIGINAL))
  return (['refit', 'report', 'profile'] as const)
    .flatMap((wanted) => whole.filter(({ split }) => split === wanted))
    .find(({ measured }) => measured.quality !== undefined)
}
