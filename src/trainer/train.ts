import { BlockscaleError, type Clock, seededRandom, sha256, shuffled, systemClock } from '../base/index.ts'
import { openSession, type Session, type Tensors } from '../engine/index.ts'
import { type Model, writeModel } from '../onnx/index.ts'
import { floats, type NumericType, type Tensor, toBytes } from '../tensor/index.ts'
import { readCheckpoint, writeCheckpoint } from './checkpoint.ts'
import type { Loss } from './losses.ts'
import { trainableWeights } from './parameters.ts'
import { recordShapes } from './shapes.ts'
import { begin, checkpointOf, judged, runKey, type State, stateFeeds, stateOf } from './state.ts'
import { buildStep, LOSS, STATISTICS, type Step, WEIGHTS, withTensors } from './step.ts'
import { type Method, stepScalars } from './update.ts'

/** Where training takes its data from. */
export interface Samples {
  readonly count: number
  /**
   * The feeds of one batch: the network's inputs by name, `target:<output>` and, for masked losses, `mask:<output>`.
   *
   * @param random seeded by run and step, for augmentation that an interrupted run repeats exactly
   */
  batch(indices: readonly number[], random: () => number): Tensors | Promise<Tensors>
}

export interface TrainOptions {
  readonly losses: readonly Loss[]
  readonly method: Method
  /** the rate at its highest; it falls to zero along a cosine */
  readonly rate: number
  readonly steps: number
  readonly batch: number
  /** steps over which the rate rises linearly, 0 unless given */
  readonly warmup?: number
  readonly seed?: number
  /** weights to train; all of them unless given */
  readonly parameters?: readonly string[]
  /** BatchNormalization with statistics of the batch, keeping running ones; off unless given */
  readonly normalise?: boolean
  /** samples to measure on; the best weights on them are what is returned */
  readonly heldOut?: Samples
  /** higher is better, averaged over held-out batches; the negative loss unless given */
  readonly quality?: (outputs: Tensors, feeds: Tensors) => number
  /** steps between measurements (and checkpoints), a twentieth of all unless given */
  readonly measureEvery?: number
  /** measurements without a gain after which training stops; never unless given */
  readonly patience?: number
  /**
   * milliseconds of training, over all calls that went on with it: where time is shorter than the steps, the rate falls with
   * time and the last steps are left out
   */
  readonly timeLimitMs?: number
  /** file that keeps the state, so that the same call goes on after an interruption */
  readonly checkpoint?: string
  readonly threads?: number
  readonly clock?: Clock
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: TrainProgress) => void
}

export interface TrainProgress {
  readonly step: number
  readonly steps: number
  /** mean over the last steps */
  readonly loss: number
  readonly rate: number
  /** the last held-out quality, where one was measured */
  readonly quality?: number
  readonly msPerStep: number
  readonly etaMs: number
}

export interface Trained {
  readonly model: Model
  /** held-out quality of the start and of what is returned; NaN without held-out samples */
  readonly before: number
  readonly after: number
  readonly steps: number
  readonly ms: number
  /** why it ended; `diverged` when the loss was no longer finite */
  readonly ended: 'done' | 'early' | 'interrupted' | 'diverged'
}

/**
 * Trains a network and returns it with the weights that were best on held-out samples: never worse there than it began.
 *
 * @throws BlockscaleError MODEL_UNSUPPORTED when an operator has no gradient, USAGE when there are no samples
 */
export async function train(model: Model, samples: Samples, options: TrainOptions): Promise<Trained> {
  const { method, steps, seed = 1, heldOut } = options
  const batch = Math.min(options.batch, samples.count)
  if (batch < 1) throw new BlockscaleError('USAGE', 'there are no samples to train on')
  const clock = options.clock ?? systemClock
  const first = await samples.batch(range(batch), seededRandom(seed))
  const feeds = Object.fromEntries(model.graph.inputs.map(({ name }) => [name, first[name]!]))
  const parameters = options.parameters ?? trainableWeights(model.graph)
  const shaped = await recordShapes(model, feeds)
  const step = buildStep(model, shaped, options.losses, parameters, method, options.normalise ?? false)
  const { losses, rate, warmup, normalise } = options
  const data = Object.values(first).map((value) => sha256(toBytes(value as Tensor<NumericType>)))
  const told = { losses, method, rate, steps, batch, warmup, seed, normalise, count: samples.count, data }
  const key = runKey(step, model, told)
  const threads = { threads: options.threads ?? 1 }
  const stepper = await openSession(writeModel(step.train), threads)
  const evaluate = await openSession(writeModel(step.evaluate), threads)
  try {
    const measure = (vectors: State['vectors']) =>
      heldOut ? measureOn(evaluate, step, vectors, heldOut, batch, options.quality) : Promise.resolve(Number.NaN)
    const resumed = options.checkpoint ? await readCheckpoint(options.checkpoint, key) : undefined
    let state = resumed ? stateOf(resumed) : await begin(model, step, method, measure)
    const every = options.measureEvery ?? Math.max(1, Math.ceil(steps / 20))
    const began = clock.monotonic()
    const begunAt = state.step
    const losses: number[] = []
    let quality: number | undefined
    let ended: Trained['ended'] = 'done'
    const spentBefore = state.spentMs
    const spentMs = () => spentBefore + clock.monotonic() - began
    const shareOfTime = () => (options.timeLimitMs === undefined ? 0 : spentMs() / options.timeLimitMs)
    while (state.step < steps && shareOfTime() < 1) {
      if (options.signal?.aborted) {
        ended = 'interrupted'
        break
      }
      const rate = rateAt(state.step, Math.max(state.step / steps, shareOfTime()), options)
      const indices = batchIndices(state.step, samples.count, batch, seed)
      const data = await samples.batch(indices, seededRandom(seed * 1000003 + state.step))
      const result = await stepper.run({
        ...stateFeeds(state.vectors),
        ...scalars(method, rate, state.step + 1),
        ...data,
      })
      const loss = (result[LOSS]!.data as Float32Array)[0]!
      if (!Number.isFinite(loss)) {
        ended = 'diverged'
        break
      }
      losses.push(loss)
      const vectors = Object.fromEntries(
        [...step.carried].map(([output, input]) => [input, result[output]!.data as Float32Array]),
      )
      state = { ...state, vectors: { ...state.vectors, ...vectors }, step: state.step + 1, spentMs: spentMs() }
      if (state.step % every === 0 || state.step === steps || shareOfTime() >= 1) {
        if (heldOut) {
          quality = await measure(state.vectors)
          state = judged(state, quality)
        }
        if (options.checkpoint) await writeCheckpoint(options.checkpoint, checkpointOf(key, state))
      }
      const msPerStep = (clock.monotonic() - began) / (state.step - begunAt)
      options.onProgress?.({
        step: state.step,
        steps,
        loss: mean(losses.slice(-50)),
        rate,
        ...(quality === undefined ? {} : { quality }),
        msPerStep,
        etaMs: Math.min(
          msPerStep * (steps - state.step),
          options.timeLimitMs === undefined ? Number.POSITIVE_INFINITY : Math.max(0, options.timeLimitMs - spentMs()),
        ),
      })
      if (options.patience !== undefined && state.sinceBest >= options.patience) {
        ended = 'early'
        break
      }
    }
    if (options.checkpoint && ended === 'interrupted')
      await writeCheckpoint(options.checkpoint, checkpointOf(key, state))
    const chosen = heldOut || ended === 'diverged' ? state.best : state.vectors
    const trained = withTensors(model, step.weights, chosen[WEIGHTS]!)
    return {
      model: chosen[STATISTICS] ? withTensors(trained, step.statistics, chosen[STATISTICS]) : trained,
      before: state.before,
      after: state.bestQuality,
      steps: state.step,
      ms: clock.monotonic() - began,
      ended,
    }
  } finally {
    await stepper.release()
    await evaluate.release()
  }
}

async function measureOn(
  evaluate: Session,
  step: Step,
  vectors: State['vectors'],
  heldOut: Samples,
  batch: number,
  quality: TrainOptions['quality'],
): Promise<number> {
  const state = stateFeeds({
    [WEIGHTS]: vectors[WEIGHTS]!,
    ...(step.statistics.length ? { [STATISTICS]: vectors[STATISTICS]! } : {}),
  })
  let sum = 0
  for (let from = 0; from < heldOut.count; from += batch) {
    const indices = range(Math.min(batch, heldOut.count - from)).map((i) => from + i)
    const feeds = await heldOut.batch(indices, seededRandom(from))
    const outputs = await evaluate.run({ ...state, ...feeds })
    const value = quality ? quality(outputs, feeds) : -(outputs[LOSS]!.data as Float32Array)[0]!
    sum += value * indices.length
  }
  return sum / heldOut.count
}

/** @param share of the whole training that is behind us, 0…1 */
function rateAt(step: number, share: number, { rate, warmup = 0 }: TrainOptions): number {
  const rising = warmup > 0 ? Math.min(1, (step + 1) / warmup) : 1
  return rate * rising * 0.5 * (1 + Math.cos(Math.PI * share))
}

/** Every sample once for each pass, in an order that follows from seed and pass alone. */
export function batchIndices(step: number, count: number, batch: number, seed: number): readonly number[] {
  const batches = Math.floor(count / batch)
  const pass = Math.floor(step / batches)
  const order = orderOf(count, seed + pass * 7919)
  const from = (step % batches) * batch
  return order.slice(from, from + batch)
}

let lastOrder: { readonly count: number; readonly seed: number; readonly order: readonly number[] } | undefined
function orderOf(count: number, seed: number): readonly number[] {
  if (lastOrder?.count !== count || lastOrder.seed !== seed) {
    lastOrder = { count, seed, order: shuffled(range(count), seededRandom(seed)) }
  }
  return lastOrder.order
}

const scalars = (method: Method, rate: number, step: number): Tensors =>
  Object.fromEntries(
    Object.entries(stepScalars(method, rate, step)).map(([name, value]) => [name, floats([], [value])]),
  )

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i)
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
