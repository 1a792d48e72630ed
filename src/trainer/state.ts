import { sha256 } from '../base/index.ts'
import type { Tensors } from '../engine/index.ts'
import { type Model, writeModel } from '../onnx/index.ts'
import { floats } from '../tensor/index.ts'
import type { Checkpoint } from './checkpoint.ts'
import { pack, STATISTICS, type Step, WEIGHTS } from './step.ts'
import { type Method, momentsOf } from './update.ts'

/** Where a training run stands: all that it needs to go on. */
export interface State {
  /** weights, moments and statistics by their input's name */
  readonly vectors: Readonly<Record<string, Float32Array>>
  readonly best: Readonly<Record<string, Float32Array>>
  readonly step: number
  readonly before: number
  readonly bestQuality: number
  readonly sinceBest: number
  /** milliseconds of training so far */
  readonly spentMs: number
}

/** The state before the first step, measured. */
export async function begin(
  model: Model,
  step: Step,
  method: Method,
  measure: (vectors: State['vectors']) => Promise<number>,
): Promise<State> {
  const { initializers } = model.graph
  const vectors: Record<string, Float32Array> = { [WEIGHTS]: pack(step.weights, initializers) }
  for (const name of momentsOf(method)) vectors[name] = new Float32Array(step.weights.length)
  if (step.statistics.length) vectors[STATISTICS] = pack(step.statistics, initializers)
  const before = await measure(vectors)
  return { vectors, best: vectors, step: 0, before, bestQuality: before, sinceBest: 0, spentMs: 0 }
}

/** The state after a measurement: a better one becomes what is kept. */
export function judged(state: State, quality: number): State {
  // a start that cannot be measured (NaN) is worse than anything that can
  const better = quality > state.bestQuality || (Number.isNaN(state.bestQuality) && Number.isFinite(quality))
  return better
    ? { ...state, best: state.vectors, bestQuality: quality, sinceBest: 0 }
    : { ...state, sinceBest: state.sinceBest + 1 }
}

/** The vectors as the training graph takes them. */
export const stateFeeds = (vectors: State['vectors']): Tensors =>
  Object.fromEntries(Object.entries(vectors).map(([name, data]) => [name, floats([data.length], data)]))

/** Names a run by all that decides how it goes on, so that a checkpoint is never taken up by another one. */
export function runKey(step: Step, model: Model, options: Readonly<Record<string, unknown>>): string {
  const told = JSON.stringify(options)
  const weights = pack(step.weights, model.graph.initializers)
  return sha256(`${sha256(writeModel(step.train))}${sha256(new Uint8Array(weights.buffer))}${told}`)
}

export const checkpointOf = (key: string, state: State): Checkpoint => ({
  key,
  numbers: {
    step: state.step,
    before: state.before,
    bestQuality: state.bestQuality,
    sinceBest: state.sinceBest,
    spentMs: state.spentMs,
  },
  vectors: {
    ...state.vectors,
    ...Object.fromEntries(Object.entries(state.best).map(([name, value]) => [`best:${name}`, value])),
  },
})

export function stateOf({ numbers, vectors }: Checkpoint): State {
  const entries = Object.entries(vectors)
  return {
    vectors: Object.fromEntries(entries.filter(([name]) => !name.startsWith('best:'))),
    best: Object.fromEntries(
      entries.filter(([name]) => name.startsWith('best:')).map(([name, value]) => [name.slice(5), value]),
    ),
    step: numbers.step ?? 0,
    before: numbers.before ?? Number.NaN,
    bestQuality: numbers.bestQuality ?? Number.NaN,
    sinceBest: numbers.sinceBest ?? 0,
    spentMs: numbers.spentMs ?? 0,
  }
}
