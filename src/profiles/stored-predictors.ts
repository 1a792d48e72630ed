import { ORIGINAL } from '../base/index.ts'
import type { Manifest } from '../zoo/index.ts'
import { type DescendantProfile, fitPredictor, type Predictor } from './predict.ts'
import type { Combination, Measurement, Size, Split } from './rows.ts'
import type { ProfileStore } from './store.ts'

export interface SizedPredictor {
  readonly id: string
  readonly size: Size
  readonly predictor: Predictor
}

export const sizeId = ([height, width]: Size): string => (height === width ? `${height}` : `${height}x${width}`)

/**
 * Predictors of a model for each input size of which the original is measured on this device. They are fitted on the refit
 * pictures and promise quality on the report pictures.
 *
 * @returns nothing where nothing is measured yet
 */
export function predictors(store: ProfileStore, manifest: Manifest, device: string): SizedPredictor[] {
  const { model } = manifest
  let near: Predictor | undefined
  const base = originalOf(manifest, store.combinations({ model, size: manifest.sizes[0] }), 'refit')
  let corrections: ReadonlyMap<string, number> = new Map()
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
            divergence: (loss?.divergence ?? 0) * (corrections.get(key) ?? 1),
            qualityLoss: loss?.qualityLoss ?? 0,
            ...costsOf(measured),
          },
        ]
      }),
    )
    if (manifest.blocks.some(({ id }) => !descendants.some(({ block }) => block === id))) return []
    const combinations = store.combinations({ model, device, size })
    const fitted = originalOf(manifest, combinations, 'refit') ?? base
    const promised = originalOf(manifest, combinations, 'report') ?? fitted
    // What originals at this size are expected to lose against those at the own size.
    const [expected, lost] = [fitted?.measured.expectedLoss, promised?.measured.expectedLoss]
    const predictor = fitPredictor({
      originalQuality: near && lost !== undefined ? near.originalQuality - lost : (promised?.measured.quality ?? 1),
      fittedOriginalQuality: fitted?.measured.quality,
      // The chance of which pictures were taken is known where quality is a share of them.
      ...(promised && fitted && promised.metric.startsWith('top1')
        ? { pictures: { fitted: expected === undefined ? fitted.pictures : undefined, wanted: promised.pictures } }
        : {}),
      descendants,
      combinations: combinations
        .filter(({ split }) => split === 'refit')
        .map(({ choices, measured: { quality, expectedLoss, divergence, fidelity, latencyMs, memoryBytes } }) => ({
          choices,
          quality,
          loss: expectedLoss === undefined || expected === undefined ? undefined : expectedLoss - expected,
          divergence,
          fidelity,
          latencyMs,
          memoryBytes,
        })),
      near,
    })
    if (!near) {
      near = predictor
      corrections = correctionsBy(predictor)
    }
    return [{ id: sizeId(size), size, predictor }]
  })
}

/**
 * By how much wholes correct each descendant's divergence, by `block/descendant`. What a descendant does in the company of others it does
 * at every input size, so the others need fewer wholes.
 */
export const correctionsBy = ({ descendants, parts }: Predictor): ReadonlyMap<string, number> =>
  new Map(
    descendants.flatMap(({ block, descendant, divergence }, i) =>
      divergence > 0 ? [[`${block}/${descendant}`, parts[i]!.divergence / divergence] as const] : [],
    ),
  )

/** The costs of a measured descendant as predictions take them. */
export const costsOf = ({ latencyP50Ms, anonymousBytes, mappedBytes, loadMs }: Measurement) => ({
  latencyMs: latencyP50Ms,
  memoryBytes: anonymousBytes + mappedBytes,
  anonymousBytes,
  loadMs,
})

/** The measured original as a whole, on pictures of the split where it was measured on them. */
function originalOf(
  { blocks }: Manifest,
  combinations: readonly Combination[],
  preferred: Split,
): Combination | undefined {
  const whole = combinations.filter(
    ({ choices, measured }) => measured.quality !== undefined && blocks.every(({ id }) => choices[id] === ORIGINAL),
  )
  return whole.find(({ split }) => split === preferred) ?? whole[0]
}
