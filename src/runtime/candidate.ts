import { BlockscaleError } from '../base/index.ts'
import type { PlannedModel, ProblemModel } from '../optimizer/index.ts'
import { type Predictor, problemModel, type SizedPredictor } from '../profiles/index.ts'
import type { Choices, Manifest } from '../zoo/index.ts'
import { freshMemorySpeed } from './fresh-memory.ts'
import type { Current } from './place.ts'
import { choiceOf, type StreamCost, streamed, streamedLatency, windowBytesOf } from './streaming.ts'
import type { ChosenDescendant } from './unit-files.ts'
import type { ModelWish } from './wishes.ts'

export interface Profiled {
  readonly manifest: Manifest
  readonly sizes: readonly SizedPredictor[]
}

export interface CandidateOptions {
  readonly wish: ModelWish
  readonly current?: Current | undefined
  /** near which the plan is expected to land */
  readonly expectedLoss?: number | undefined
  /** whether a descendant can be loaded */
  readonly isWhole: (block: string, descendant: string) => boolean
  /** bytes that the disk gives in a millisecond, where blocks may be streamed from it; otherwise all stay loaded */
  readonly bytesPerMs?: number | undefined
}

/** A model as the solver sees it, and what the solver says of it in the words of everyone else. */
export interface Candidate {
  readonly problem: ProblemModel
  planned(found: PlannedModel): PlannedModel
  /** the descendants of a plan, with the memory that it counts for each */
  chosen(found: PlannedModel): ChosenDescendant[]
}

/** @throws BlockscaleError ZOO_DAMAGED when no descendant of a block is whole */
export function candidate(profiled: Profiled, options: CandidateOptions): Candidate {
  const { manifest, sizes } = profiled
  const { problem, variants } = asProblem(profiled, options)
  const variantOf = ({ variant = '' }: PlannedModel) => {
    const { size, windowBytes } = variants?.get(variant) ?? { size: variant }
    return { windowBytes, ...(sizes.find(({ id }) => id === size) ?? sizes[0]!) }
  }
  const memoryOf = (found: PlannedModel, block: string, descendant: string): number => {
    const blocks = problem.blocks ?? problem.variants?.find(({ id }) => id === found.variant)?.blocks ?? []
    return blocks.find(({ id }) => id === block)?.choices.find(({ id }) => id === descendant)?.memoryBytes ?? 0
  }
  return {
    problem,
    planned(found) {
      const { size, predictor, windowBytes } = variantOf(found)
      const named = found.choices.map(choiceOf)
      const choices = Object.fromEntries(named.map(({ block, descendant }) => [block, descendant])) as Choices
      const quality = predictor.quality(choices)
      const { variant: _, ...rest } = found
      return {
        ...rest,
        // What is inside a window is no one else's business.
        ...(sizes.length > 1 ? { variant: variantOf(found).id } : {}),
        inputSize: size,
        choices: named,
        predicted: {
          quality: quality.value,
          qualityLow: quality.low,
          latencyMs:
            windowBytes === undefined
              ? predictor.latency(choices).value
              : latencyThrough(profiled, predictor, named, windowBytes, options.bytesPerMs!),
          memoryBytes: found.predicted.memoryBytes,
        },
        ...(windowBytes === undefined
          ? {}
          : { streaming: { windowBytes, readBytesPerSecond: 1000 * options.bytesPerMs! } }),
      }
    },
    chosen(found) {
      const { windowBytes, predictor } = variantOf(found)
      const named = found.choices.map((each) => ({
        ...choiceOf(each),
        memoryBytes: memoryOf(found, each.block, each.descendant),
      }))
      if (windowBytes === undefined) {
        return named.map(({ block, descendant, memoryBytes }) => ({ block, descendant, memoryBytes }))
      }
      const costs = costsOf(manifest, predictor)
      return named.map(({ block, descendant, memoryBytes, streamed: isStreamed = false }, i): ChosenDescendant => {
        const cost = costs.get(`${block}/${descendant}`)!
        return {
          block,
          descendant,
          // The solver has the window on the account of the first block; blocks come and go one by one, so each has a part of it.
          memoryBytes: memoryBytes - (i === 0 ? windowBytes : 0) + windowBytes / named.length,
          window: { bytes: windowBytesOf({ ...cost, streamed: isStreamed }), isPassing: isStreamed },
        }
      })
    },
  }
}

function asProblem(profiled: Profiled, options: CandidateOptions) {
  const { manifest, sizes } = profiled
  const { wish, current, expectedLoss, isWhole, bytesPerMs } = options
  const here = sizes.find(({ size }) => size.join() === current?.inputSize.join())
  const { weight, maxLatencyMs, rate, minQuality } = wish
  const isCurrent = current && here && isStillThere(manifest, current.choices, isWhole)
  const problem = ofWhole(
    problemModel(wish.model, sizes, {
      weight,
      maxLatencyMs,
      rate,
      minQuality,
      expectedLoss,
      ...(isCurrent ? { current: { size: here.id, choices: current.choices as Choices } } : {}),
    }),
    isWhole,
  )
  if (bytesPerMs === undefined) return { problem, variants: undefined }
  const costsAt = (id: string) => costsOf(manifest, (sizes.find((size) => size.id === id) ?? sizes[0]!).predictor)
  return streamed(problem, costsAt, bytesPerMs, isCurrent ? current.stream : undefined)
}

/** The problem without the descendants that cannot be loaded. */
function ofWhole(problem: ProblemModel, isWhole: CandidateOptions['isWhole']): ProblemModel {
  const wholeBlocks = (blocks: NonNullable<ProblemModel['blocks']>) =>
    blocks.map((block) => {
      const choices = block.choices.filter(({ id }) => isWhole(block.id, id))
      if (choices.length > 0) return { ...block, choices }
      const message = `every descendant of block ${block.id} of ${problem.id} is damaged`
      throw new BlockscaleError('ZOO_DAMAGED', message, `Build it again with \`blockscale build ${problem.id}\`.`)
    })
  const { blocks, variants } = problem
  return {
    ...problem,
    ...(blocks ? { blocks: wholeBlocks(blocks) } : {}),
    ...(variants ? { variants: variants.map((each) => ({ ...each, blocks: wholeBlocks(each.blocks) })) } : {}),
  }
}

/** After a new build the descendants in place may be gone, or damaged since; then there is nothing to stay with. */
const isStillThere = (
  manifest: Manifest,
  choices: Readonly<Record<string, string>>,
  isWhole: CandidateOptions['isWhole'],
): boolean =>
  manifest.blocks.every((block) =>
    block.descendants.some(({ id }) => id === choices[block.id] && isWhole(block.id, id)),
  )

/** By `block/descendant`. In a window a block takes the memory that it runs in from the system anew for each picture. */
function costsOf(manifest: Manifest, predictor: Predictor): Map<string, StreamCost> {
  const perMs = freshMemorySpeed()
  const files = new Map(
    manifest.blocks.flatMap(({ id, descendants }) =>
      descendants.map(({ id: descendant, file }) => [`${id}/${descendant}`, file.bytes]),
    ),
  )
  return new Map(
    predictor.descendants.map(({ block, descendant, latencyMs, loadMs, memoryBytes, anonymousBytes }) => {
      const name = `${block}/${descendant}`
      const inWindowMs = latencyMs + anonymousBytes / perMs
      return [name, { latencyMs: inWindowMs, loadMs, memoryBytes, anonymousBytes, fileBytes: files.get(name) ?? 0 }]
    }),
  )
}

function latencyThrough(
  { manifest }: Profiled,
  predictor: Predictor,
  choices: readonly ReturnType<typeof choiceOf>[],
  windowBytes: number,
  bytesPerMs: number,
): number {
  const costs = costsOf(manifest, predictor)
  const chosen = new Map(choices.map((choice) => [choice.block, choice]))
  const steps = manifest.blocks.map(({ id }) => {
    const { descendant, streamed: isStreamed = false } = chosen.get(id)!
    return { ...costs.get(`${id}/${descendant}`)!, streamed: isStreamed }
  })
  return streamedLatency(steps, windowBytes, bytesPerMs)
}
