import { spread } from '../base/index.ts'
import { readAhead } from '../engine/index.ts'
import type { ProblemBlock, ProblemChoice, ProblemModel } from '../optimizer/index.ts'

/** What a descendant takes whose memory to run in is shared with the other blocks of its model. */
export interface StreamCost {
  /** of one run as a block by itself, without a fused neighbour */
  readonly latencyMs: number
  /** to map it when its file is in the system's cache, until it runs as fast as ever */
  readonly loadMs: number
  /** while it is mapped and runs */
  readonly memoryBytes: number
  /** of these, what no file backs: what it runs in, and copies of its weights */
  readonly anonymousBytes: number
  /** to be read from disk */
  readonly fileBytes: number
}

/** A variant of a model whose blocks share `windowBytes` of memory; nothing where each has its own. */
export interface StreamedVariant {
  readonly size: string
  readonly windowBytes?: number | undefined
}

export interface StreamedProblem {
  readonly problem: ProblemModel
  /** by the ids of the problem's variants */
  readonly variants: ReadonlyMap<string, StreamedVariant>
}

/** What is live, where it streams. */
export interface CurrentStream {
  readonly windowBytes: number
  readonly blocks: readonly string[]
}

/** Descendants' own ids have no spaces, so this is none of them. */
const MARK = ' streamed'
/** Windows that are offered to the solver, from the largest descendant to the smallest. */
const WINDOWS = 8
/** So little that no quality is given up for it, and enough that what can stay loaded does. */
const LOSS_PER_MS = 1e-7

/**
 * The same model for a memory limit in which it does not fit as a whole: its blocks share a window of memory, in which each runs in its
 * turn. A block either stays loaded beside the window, or is mapped inside it for each run.
 *
 * A window is a constant of its variant, and what is larger than it cannot be streamed through it: so memory stays a sum, and the problem
 * linear. Latency counts as if nothing were read ahead, which keeps limits safe; `streamedLatency` says what a choice really takes.
 *
 * @param costs of each descendant at an input size (the variant's id), by `block/descendant`
 */
export function streamed(
  problem: ProblemModel,
  costs: (size: string) => ReadonlyMap<string, StreamCost>,
  bytesPerMs: number,
  current?: CurrentStream,
): StreamedProblem {
  const { blocks, variants: sizes = [{ id: 'own', blocks: blocks ?? [] }], minQuality, ...rest } = problem
  let greatestPenalty = 0
  const variants: NonNullable<ProblemModel['variants']>[number][] = []
  const known = new Map<string, StreamedVariant>()
  for (const size of sizes) {
    const at = costs(size.id)
    known.set(size.id, { size: size.id })
    // Of two variants only the one that is in force has something in place.
    variants.push({ id: size.id, blocks: current ? size.blocks.map(({ current: _, ...block }) => block) : size.blocks })
    const slowest = Math.max(...[...at.values()].map((cost) => extraOf(cost, bytesPerMs)))
    greatestPenalty = Math.max(greatestPenalty, LOSS_PER_MS * slowest * size.blocks.length)
    for (const windowBytes of windowsOf(size.blocks, at, current)) {
      const id = `${size.id} ${windowBytes}`
      const isCurrent = current?.windowBytes === windowBytes
      known.set(id, { size: size.id, windowBytes })
      variants.push({
        id,
        blocks: size.blocks.map((block, i) =>
          throughWindow(block, at, bytesPerMs, {
            windowBytes,
            constantBytes: i === 0 ? windowBytes : 0,
            current: isCurrent ? current : undefined,
          }),
        ),
      })
    }
  }
  const floor = minQuality === undefined ? {} : { minQuality: minQuality - greatestPenalty }
  return { problem: { ...rest, ...floor, variants }, variants: known }
}

function windowsOf(
  blocks: readonly ProblemBlock[],
  costs: ReadonlyMap<string, StreamCost>,
  current: CurrentStream | undefined,
): number[] {
  const bytesOf = ({ memoryBytes, anonymousBytes }: StreamCost) => [memoryBytes, anonymousBytes]
  const sizes = [...new Set([...costs.values()].flatMap(bytesOf))].sort((a, b) => b - a)
  const inBlock = ({ id, choices }: ProblemBlock) =>
    choices.map((choice) => costs.get(`${id}/${choice.id}`)!.memoryBytes)
  // The least through which all blocks can be streamed.
  const least = Math.max(...blocks.map((block) => Math.min(...inBlock(block))))
  return [...new Set([...spread(sizes, WINDOWS), least, current?.windowBytes])].filter((bytes) => bytes !== undefined)
}

function throughWindow(
  block: ProblemBlock,
  costs: ReadonlyMap<string, StreamCost>,
  bytesPerMs: number,
  options: { windowBytes: number; constantBytes: number; current: CurrentStream | undefined },
): ProblemBlock {
  const { windowBytes, constantBytes, current } = options
  const choices = block.choices.flatMap((choice): ProblemChoice[] => {
    const cost = costs.get(`${block.id}/${choice.id}`)!
    // As blocks by themselves: what a fused whole saves is not to be had here.
    const { latencyMs, memoryBytes } = cost
    const stays = { ...choice, latencyMs, memoryBytes: keptBytes(cost, windowBytes) + constantBytes }
    if (memoryBytes > windowBytes) return [stays]
    const extraMs = extraOf(cost, bytesPerMs)
    return [
      stays,
      {
        ...choice,
        id: `${choice.id}${MARK}`,
        loss: choice.loss + LOSS_PER_MS * extraMs,
        latencyMs: latencyMs + extraMs,
        memoryBytes: constantBytes,
      },
    ]
  })
  const inPlace = current && block.current && (current.blocks.includes(block.id) ? MARK : '')
  return { id: block.id, choices, ...(inPlace === undefined ? {} : { current: `${block.current}${inPlace}` }) }
}

/**
 * What a block takes beside the window when it stays loaded.
 *
 * Copies of weights in another order were not told from the memory that it runs in when it was measured; they are no larger than its file.
 */
const keptBytes = ({ memoryBytes, anonymousBytes }: StreamCost, windowBytes: number): number =>
  memoryBytes -
  anonymousBytes +
  Math.min(anonymousBytes, memoryBytes - anonymousBytes) +
  Math.max(0, anonymousBytes - windowBytes)

/** Milliseconds that streaming adds to a run when nothing is read ahead. */
const extraOf = ({ loadMs, fileBytes }: StreamCost, bytesPerMs: number): number => loadMs + fileBytes / bytesPerMs

/** A choice of the solver, as people know it. */
export function choiceOf({ block, descendant }: { readonly block: string; readonly descendant: string }): {
  readonly block: string
  readonly descendant: string
  readonly streamed?: true
} {
  return descendant.endsWith(MARK)
    ? { block, descendant: descendant.slice(0, -MARK.length), streamed: true }
    : { block, descendant }
}

/** One block of a chain, as it takes its turn. */
export interface StreamStep extends StreamCost {
  readonly streamed: boolean
}

/** What a block takes of the window while it runs. */
export const windowBytesOf = ({ streamed, memoryBytes, anonymousBytes }: Omit<StreamStep, 'fileBytes' | 'loadMs'>) =>
  streamed ? memoryBytes : anonymousBytes

/**
 * Milliseconds of a picture when pictures follow each other without a pause and nothing is left in the system's cache.
 *
 * While a block runs those that come next are read, as `readAhead` allows. A streamed block waits until it is read, then it is mapped
 * and runs.
 */
export function streamedLatency(steps: readonly StreamStep[], windowBytes: number, bytesPerMs: number): number {
  const window = steps.map((step) => ({
    memoryBytes: windowBytesOf(step),
    passingBytes: step.streamed ? step.fileBytes : 0,
  }))
  const ahead = readAhead(window, windowBytes)
  const nothing = { bytes: 0, readyAt: 0 }
  /** what was asked for of each file since it was used, and when all of that is there */
  const asked = steps.map(() => nothing)
  let now = 0
  let readerFree = 0
  const ask = (step: number, bytes: number) => {
    const more = bytes - asked[step]!.bytes
    if (more <= 0) return
    readerFree = Math.max(readerFree, now) + more / bytesPerMs
    asked[step] = { bytes, readyAt: readerFree }
  }
  const askAll = (moment: number) => {
    for (const { step, bytes } of ahead[moment]!) ask(step, bytes)
  }
  const frame = () => {
    for (const [i, { streamed: isStreamed, fileBytes, loadMs, latencyMs }] of steps.entries()) {
      if (isStreamed) {
        ask(i, fileBytes)
        now = Math.max(now, asked[i]!.readyAt) + loadMs
        asked[i] = nothing
      }
      askAll(i)
      now += latencyMs
    }
    askAll(steps.length)
  }
  frame()
  const started = now
  frame()
  return now - started
}
