import type { Progress } from '../base/index.ts'
import {
  type Combination,
  measureWholes,
  type ProfileStore,
  predictors,
  type Size,
  type Split,
  thisDevice,
} from '../profiles/index.ts'
import type { Tensors } from '../tasks/index.ts'
import type { Choices, Manifest, Zoo } from '../zoo/index.ts'
import { originalChoices } from './choices.ts'
import { type Drawable, drawCombinations } from './combinations.ts'
import type { Crew } from './crew.ts'
import type { Evaluation } from './evaluate.ts'
import { fuseToBytes } from './fuse.ts'

export interface CombineOptions {
  readonly manifest: Manifest
  /** by `block/descendant`: what each loses alone */
  readonly facts: ReadonlyMap<string, Drawable>
  readonly zoo: Zoo
  readonly store: ProfileStore
  readonly crew: Crew
  readonly progress: Progress
  /** a few pictures for measuring wholes */
  readonly feeds: readonly Tensors[]
  readonly size: Size
  /** combinations to fit the prediction on, and to check it on; 24 and 8 unless given */
  readonly fitted?: number | undefined
  readonly checked?: number | undefined
}

/** Beyond this divergence a network is of no use, and no plan goes there. */
const MOST_DIVERGENCE = 2.5
/** Whole models whose time and memory are measured as well; quality is measured for all. */
const TIMED = 10

/**
 * Measures combinations as fused wholes, so that predictions can be fitted (on the refit pictures) and checked (on the
 * report pictures, with other combinations).
 *
 * @returns quality of the original on the report pictures
 */
export async function fitCombinations(options: CombineOptions): Promise<number> {
  const { manifest, facts, fitted = 24, checked = 8, progress } = options
  const original = originalChoices(manifest)
  const drawn = drawCombinations(manifest.blocks, facts, fitted, MOST_DIVERGENCE, 1, [original])
  const fresh = drawCombinations(manifest.blocks, facts, checked, MOST_DIVERGENCE, 2, [original, ...drawn])
  progress.step('measure combinations', drawn.length + fresh.length + 2)
  const timed = [original, ...drawn.slice(0, TIMED), ...fresh]
  const costs = await measureCosts(options, timed)
  await save(options, 'refit', [original, ...drawn], costs, false)
  // The original first: predictions are made in the scale of what it is worth on the report pictures.
  const [report] = await save(options, 'report', [original], costs, false)
  await save(options, 'report', fresh, costs, true)
  return report?.quality.value ?? Number.NaN
}

type WholeCosts = Awaited<ReturnType<typeof measureWholes>>

async function measureCosts(
  { zoo, manifest, feeds, progress }: CombineOptions,
  combinations: readonly Choices[],
): Promise<ReadonlyMap<Choices, NonNullable<ReturnType<WholeCosts['get']>>>> {
  const wholes = await Promise.all(
    combinations.map(async (choices, index) => ({ id: `${index}`, model: await fuseToBytes(zoo, manifest, choices) })),
  )
  const measured = await measureWholes(wholes, feeds)
  progress.advance(0)
  return new Map(combinations.map((choices, index) => [choices, measured.get(`${index}`)!]))
}

async function save(
  { zoo, manifest, store, crew, progress, size }: CombineOptions,
  split: Split,
  combinations: readonly Choices[],
  costs: Awaited<ReturnType<typeof measureCosts>>,
  predict: boolean,
): Promise<Evaluation[]> {
  const device = thisDevice().key
  const predictor = predict
    ? predictors(store, manifest, device).find((each) => each.size.join() === size.join())?.predictor
    : undefined
  const evaluations = await Promise.all(
    combinations.map(async (choices) => {
      const evaluation = await crew.run(async () => ({
        kind: 'evaluate',
        model: await fuseToBytes(zoo, manifest, choices),
        split,
        size,
      }))
      progress.advance()
      return evaluation
    }),
  )
  store.saveCombinations(
    combinations.map((choices, index): Combination => {
      const { quality, fidelity, divergence, pictures } = evaluations[index]!
      const cost = costs.get(choices)
      const estimate = predictor?.quality(choices)
      return {
        model: manifest.model,
        size,
        device,
        split,
        metric: quality.metric,
        choices,
        predicted: estimate
          ? {
              quality: estimate.value,
              qualityLow: estimate.low,
              qualityHigh: estimate.high,
              divergence: predictor?.divergence(choices),
              latencyMs: predictor?.latency(choices).value,
              memoryBytes: predictor?.memory(choices).value,
            }
          : {},
        measured: {
          quality: quality.value,
          fidelity: fidelity.value,
          divergence,
          latencyMs: cost?.latencyP50Ms,
          memoryBytes: cost && cost.anonymousBytes + cost.mappedBytes,
        },
        pictures,
        why: choices === combinations[0] && !predict ? 'original' : 'random',
        measuredAt: Date.now(),
      }
    }),
  )
  return evaluations
}
