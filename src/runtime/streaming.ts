import { spread } from '../base/index.ts'
import type { ProblemBlock, ProblemChoice, ProblemModel } from '../optimizer/index.ts'

/** What streaming a descendant takes. */
export interface StreamCost {
  /** of one run as a block by itself, without a fused neighbour */
  readonly latencyMs: number
  /** to map it when its file is in the system's cache, until it runs as fast as ever */
  readonly loadMs: number
  /** while it is mapped */
  readonly memoryBytes: number
  /** to be read from disk */
  readonly fileBytes: number
}

/** A variant of a model whose streamed blocks share `windowBytes` of memory; nothing where all blocks stay loaded. */
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
 * The same model for a memory limit in which it does not fit as a whole: each block either stays loaded, or is mapped for each run
 * inside a window of memory that all such blocks of the model share.
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
    for (const windowBytes of windowsOf([...at.values()], current)) {
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

function windowsOf(costs: readonly StreamCost[], current: CurrentStream | undefined): number[] {
  const sizes = [...new Set(costs.map(({ memoryBytes }) => memoryBytes))].sort((a, b) => b - a)
  return [...new Set([...spread(sizes, WINDOWS), current?.windowBytes])].filter((bytes) => bytes !== undefined)
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
    const stays = { ...choice, latencyMs, memoryBytes: memoryBytes + constantBytes }
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

/**
 * Milliseconds of a picture when pictures follow each other without a pause and nothing is left in the system's cache.
 *
 * While a streamed block runs, the next one is read, as much of it as there is room in the window beside what runs; the rest
 * is read once that is let go. A block waits until it is read, then it is mapped and runs.
 */
export function streamedLatency(steps: readonly StreamStep[], windowBytes: number, bytesPerMs: number): number {
  const order = steps.filter(({ streamed: each }) => each)
  let now = 0
  let readerFree = 0
  /** bytes of the next streamed block that were asked for, and when all of them are there */
  let ahead = { bytes: 0, readyAt: 0 }
  const ask = (next: StreamStep, room: number) => {
    const bytes = Math.min(Math.max(0, room), next.fileBytes)
    if (bytes <= ahead.bytes) return
    readerFree = Math.max(readerFree, now) + (bytes - ahead.bytes) / bytesPerMs
    ahead = { bytes, readyAt: readerFree }
  }
  const frame = () => {
    for (const step of steps) {
      if (!step.streamed) {
        now += step.latencyMs
        continue
      }
      ask(step, Number.POSITIVE_INFINITY)
      now = Math.max(now, ahead.readyAt) + step.loadMs
      ahead = { bytes: 0, readyAt: now }
      const next = order[(order.indexOf(step) + 1) % order.length]!
      if (next !== step) ask(next, windowBytes - step.memoryBytes)
      now += step.latencyMs
      ask(next, windowBytes)
    }
  }
  frame()
  const started = now
  frame()
  return now - started
}
