import type { Picture, Placement, Tensor } from '../tensor/index.ts'
import type { ModelCard } from './card.ts'
import type { TaskName } from './task-name.ts'

export type Tensors = Readonly<Record<string, Tensor>>

/** A box in pixels of the upright picture. */
export interface Box {
  readonly label: string
  readonly index: number
  readonly score: number
  readonly xMin: number
  readonly yMin: number
  readonly xMax: number
  readonly yMax: number
  /** x, y pairs, in pixels of the upright picture */
  readonly landmarks?: readonly number[]
}

/** What a model says about one picture. */
export type Answer =
  | {
      readonly task: 'classification'
      readonly labels: readonly { readonly label: string; readonly index: number; readonly score: number }[]
    }
  | { readonly task: 'detection' | 'face-detection'; readonly boxes: readonly Box[] }
  /** `mask` holds a class index for each pixel of the upright picture, row by row */
  | {
      readonly task: 'segmentation'
      readonly width: number
      readonly height: number
      readonly mask: Uint8Array
      readonly classes: readonly { readonly index: number; readonly label: string; readonly share: number }[]
    }
  | { readonly task: 'super-resolution'; readonly picture: Picture }
  | { readonly task: 'generic'; readonly outputs: Tensors }

/** What the annotation of a picture says, in pixels of the upright picture. */
export type Truth =
  | { readonly kind: 'class'; readonly index: number }
  | { readonly kind: 'boxes'; readonly boxes: readonly Omit<Box, 'score'>[] }
  | { readonly kind: 'mask'; readonly width: number; readonly height: number; readonly mask: Uint8Array }
  /** the high-resolution picture that was scaled down */
  | { readonly kind: 'picture'; readonly picture: Picture }

/** A picture as a network takes it (batch of 1) and what is needed to bring its answer back to the picture. */
export interface Prepared {
  readonly feeds: Tensors
  readonly placement: Placement
  readonly picture: Picture
}

/** One evaluated picture: what a variant of the model gave, what the original gave, what is true. */
export interface Evaluated {
  readonly prepared: Prepared
  readonly outputs: Tensors
  readonly original: Tensors
  /** where the original saw the picture; as in `prepared` unless it saw it at another input size */
  readonly originalPlacement?: Placement | undefined
  readonly truth?: Truth | undefined
}

/** A quality in the metric's own scale; higher is better (`top1` and `map50` in 0…1, `psnr` in dB). */
export interface Quality {
  readonly metric: string
  readonly value: number
  /** other metrics of the same pictures (`top5`, `map50-95`, `ssim`) */
  readonly details?: Readonly<Record<string, number>> | undefined
  /** the metric for each class that occurs in the truth */
  readonly perClass?: readonly ClassQuality[] | undefined
}

export interface ClassQuality {
  readonly label: string
  readonly value: number
  readonly count: number
  /** classification: which other classes its pictures were taken for, the most frequent first */
  readonly takenFor?: readonly { readonly label: string; readonly count: number }[] | undefined
}

/**
 * What a kind of model is for. Everything that differs between classification and super-resolution is here and nowhere else.
 */
export interface Task {
  readonly name: TaskName
  /** The picture as feeds, at the card's size or another `[height, width]` that the graph allows. */
  prepare(picture: Picture, card: ModelCard, size?: readonly [number, number]): Prepared
  answer(outputs: Tensors, prepared: Prepared, card: ModelCard): Answer
  /**
   * How far a variant's outputs are from the original's on one picture: ≥ 0, 0 where equal, and about additive over
   * blocks (Kullback–Leibler divergence, or noise power over signal power), so that a linear programme can add it.
   */
  divergence(original: Tensors, variant: Tensors, card: ModelCard): number
  /** Quality against the truth. Every picture has a truth. */
  quality(samples: readonly Evaluated[], card: ModelCard): Quality
  /** Agreement with the original model, without labels. 1 (or a high cap in dB) when equal. */
  fidelity(samples: readonly Evaluated[], card: ModelCard): Quality
  /**
   * For tasks whose quality counts right answers: what a variant is expected to lose of it on a picture, by how sure the original
   * is of its answers. Undefined where the original's outputs do not say how sure it is.
   *
   * @param labelled pictures that set the original's certainty right
   */
  expectedLoss?(
    labelled: readonly Pick<Evaluated, 'original' | 'truth'>[],
    card: ModelCard,
  ): ((original: Tensors, variant: Tensors) => number) | undefined
  /** For tasks whose data is made from the picture: the picture to feed and its truth (super-resolution scales down). */
  derive?(picture: Picture, card: ModelCard): { readonly picture: Picture; readonly truth: Truth }
  /** For tasks that answer a large picture in parts: the runs it takes, and their outputs as one answer. */
  tiles?(picture: Picture, card: ModelCard, size?: readonly [number, number]): readonly Prepared[]
  join?(runs: readonly { readonly prepared: Prepared; readonly outputs: Tensors }[], card: ModelCard): Answer
}
