import { type BlockId, BlockscaleError, type DescendantId, ORIGINAL } from '../base/index.ts'
import type { Choices } from '../zoo/index.ts'
import { type AdditiveCost, fitAdditive, type Line } from './additive.ts'
import { fitCurve, type Point } from './curve.ts'
import { fitQualityLoss, type QualityLoss } from './quality.ts'

/** A prediction with the interval that holds nine of ten times. */
export interface Estimate {
  readonly value: number
  readonly low: number
  readonly high: number
}

/** What is known of one descendant of one block, at one input size; the original is one of them, with no divergence. */
export interface DescendantProfile {
  readonly block: BlockId
  readonly descendant: DescendantId
  /** of the model's outputs from those of the originals at this input size */
  readonly divergence: number
  /** quality lost when it alone stands in, where that was measured */
  readonly qualityLoss?: number | undefined
  readonly latencyMs: number
  /** anonymous and mapped together */
  readonly memoryBytes: number
  /** of these, what no file backs */
  readonly anonymousBytes: number
  readonly loadMs: number
}

/** A measured whole. */
export interface MeasuredCombination {
  readonly choices: Choices
  readonly quality?: number | undefined
  /** quality lost against all originals at this input size, where that is known better than by `quality` */
  readonly loss?: number | undefined
  /** of its outputs from those of the original; without `quality` it may be measured on a part of the pictures */
  readonly divergence?: number | undefined
  /** share of pictures on which it agrees with the original; used with `pictures` */
  readonly fidelity?: number | undefined
  readonly latencyMs?: number | undefined
  readonly memoryBytes?: number | undefined
}

export interface PredictorInput {
  /** quality of all originals at this input size, on the pictures for which predictions are wanted */
  readonly originalQuality: number
  /** the same on the pictures on which `combinations` were measured, where these are others */
  readonly fittedOriginalQuality?: number | undefined
  /**
   * How many pictures `combinations` were measured on, and how many others the prediction is for. Give it where quality is a
   * share of pictures (top-1): two samples differ by chance, and the interval then allows for that. Without `fitted` losses are
   * expected ones, in which chance has hardly a part.
   */
  readonly pictures?: { readonly fitted?: number | undefined; readonly wanted: number } | undefined
  readonly descendants: readonly DescendantProfile[]
  /** those with descendants that are not among the above are left out */
  readonly combinations: readonly MeasuredCombination[]
  /** at another input size of the model: what wholes cost against their parts there, they are expected to cost here */
  readonly near?: Predictor | undefined
}

/** Predicts any combination of a model's descendants at one input size. */
export interface Predictor {
  readonly originalQuality: number
  readonly descendants: readonly DescendantProfile[]
  /** @throws BlockscaleError PLAN_INVALID when a block or descendant is missing or unknown */
  quality(choices: Choices): Estimate
  latency(choices: Choices): Estimate
  memory(choices: Choices): Estimate
  /** the divergence of the whole, as the prediction of quality uses it */
  divergence(choices: Choices): number
  /** the parts of which the predictions are sums, in the order of `descendants` */
  readonly parts: readonly { readonly divergence: number; readonly latencyMs: number; readonly memoryBytes: number }[]
  /** the quality that a divergence costs, and back */
  readonly curve: QualityLoss['curve']
  /** what wholes cost against the sum of what was measured of their parts */
  readonly lines: { readonly latencyMs: Line; readonly memoryBytes: Line }
}

/**
 * Fits predictions to what was measured: quality = original − g(Σ divergence), with g rising; latency and memory = a·Σ + b.
 *
 * With few combinations g is a power law; with more it follows them, and from 16 each choice is corrected by itself.
 */
export function fitPredictor(input: PredictorInput): Predictor {
  const { descendants, originalQuality } = input
  const encode = encoder(descendants)
  const measured = input.combinations.flatMap((combination) => {
    const choices = encode.lenient(combination.choices)
    return choices ? [{ ...combination, choices }] : []
  })
  const reference = input.fittedOriginalQuality ?? originalQuality
  const quality = fitQualityLoss(
    descendants.map(({ divergence }) => Math.max(0, divergence)),
    descendants.flatMap(({ divergence, qualityLoss }, choice) =>
      qualityLoss === undefined || divergence <= 0 ? [] : [{ choice, loss: qualityLoss }],
    ),
    measured.flatMap(({ choices, quality, loss, divergence: whole }) =>
      quality === undefined ? [] : [{ choices, loss: loss ?? reference - quality, divergence: whole }],
    ),
    measured.flatMap(({ choices, quality, divergence: whole }) =>
      quality === undefined && whole !== undefined ? [{ choices, divergence: whole }] : [],
    ),
  )
  const costOf = (of: 'latencyMs' | 'memoryBytes'): AdditiveCost =>
    fitAdditive(
      { costs: descendants.map((descendant) => descendant[of]), originals: encode.originals },
      measured.flatMap(({ choices, [of]: cost }) => (cost === undefined ? [] : [{ choices, cost }])),
      input.near?.lines[of],
    )
  const latency = costOf('latencyMs')
  const memory = costOf('memoryBytes')
  const divergence = (choices: Choices): number => sumOf(quality.divergences, encode.strict(choices))
  const chance = samplingError(
    measured.flatMap(({ choices, fidelity }) =>
      fidelity === undefined
        ? []
        : [{ divergence: sumOf(quality.divergences, choices), loss: 1 - fidelity, weight: 1 }],
    ),
    quality,
    input.pictures,
  )
  return {
    originalQuality,
    descendants,
    curve: quality.curve,
    lines: { latencyMs: latency.line, memoryBytes: memory.line },
    parts: descendants.map((_, choice) => ({
      divergence: quality.divergences[choice]!,
      latencyMs: latency.of(choice),
      memoryBytes: memory.of(choice),
    })),
    divergence,
    quality(choices) {
      const total = divergence(choices)
      const loss = quality.curve.loss(total)
      const value = originalQuality - loss
      const half = total === 0 ? 0 : Math.hypot(quality.half(total), chance(total))
      return { value, low: value - half, high: value + half }
    },
    latency: (choices) => latency.total(encode.strict(choices)),
    memory: (choices) => memory.total(encode.strict(choices)),
  }
}

const sumOf = (values: readonly number[], choices: readonly number[]): number =>
  choices.reduce((total, choice) => total + values[choice]!, 0)

/** Of ten samples nine are within so many standard deviations. */
const NINE_OF_TEN = 1.645
/** Of the pictures on which the answer changes, four of five turn right or wrong. */
const FLIPS = 0.8
/** About half of that chance is common to combinations that share descendants, the half that errors on one sample do not show. */
const SHARED = 0.5

/**
 * How far apart a loss is on two samples of pictures by chance: it is a mean over the pictures on which the answers of
 * original and combination differ. Errors of wholes that were measured on one sample do not show this, for they share it.
 */
function samplingError(
  disagreements: readonly Point[],
  { curve }: QualityLoss,
  pictures: PredictorInput['pictures'],
): (divergence: number) => number {
  if (!pictures) return () => 0
  const measured = disagreements.length >= 4 ? fitCurve(disagreements, 3) : undefined
  const { fitted, wanted } = pictures
  const perPicture = FLIPS * (fitted === undefined ? 1 / wanted : SHARED * (1 / fitted + 1 / wanted))
  return (divergence) => {
    const share = Math.min(1, measured ? measured.loss(divergence) : 0.02 + 2 * curve.loss(divergence))
    return NINE_OF_TEN * Math.sqrt(share * perPicture)
  }
}

/** Choices as numbers of `descendants`, one for each block. */
function encoder(descendants: readonly DescendantProfile[]) {
  const numbers = new Map<string, Map<string, number>>()
  for (const [number, { block, descendant }] of descendants.entries()) {
    if (!numbers.has(block)) numbers.set(block, new Map())
    numbers.get(block)!.set(descendant, number)
  }
  const wrong = (choices: Choices): string | undefined => {
    for (const [block, known] of numbers) {
      const chosen = choices[block as BlockId]
      if (chosen === undefined) return `the plan chooses nothing for the block ${block}`
      if (!known.has(chosen))
        return `the block ${block} has no descendant "${chosen}"; it has ${[...known.keys()].join(', ')}`
    }
    const extra = Object.keys(choices).find((block) => !numbers.has(block))
    return extra === undefined ? undefined : `the model has no block "${extra}"`
  }
  const encode = (choices: Choices): number[] =>
    [...numbers].map(([block, known]) => known.get(choices[block as BlockId]!)!)
  return {
    /** the first of a block where it has none that is called so */
    originals: [...numbers.values()].map((known) => known.get(ORIGINAL) ?? [...known.values()][0]!),
    lenient: (choices: Choices): number[] | undefined => (wrong(choices) ? undefined : encode(choices)),
    strict(choices: Choices): number[] {
      const fault = wrong(choices)
      if (fault) throw new BlockscaleError('PLAN_INVALID', fault)
      return encode(choices)
    },
  }
}
