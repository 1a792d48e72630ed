import { BlockscaleError, type Clock } from '../base/index.ts'
import { EngineLost } from '../engine/index.ts'
import { type Answer, type Prepared, type Tensors, taskFor } from '../tasks/index.ts'
import type { Picture, Tensor } from '../tensor/index.ts'
import type { BorderValue, Manifest } from '../zoo/index.ts'
import type { Deployed } from './deployed.ts'
import type { Done, Scheduler } from './scheduler.ts'
import type { Tallies } from './tallies.ts'
import type { Inference, Prediction, RequestOptions } from './types.ts'

export interface RequestsOptions {
  readonly scheduler: Scheduler
  readonly tallies: Tallies
  readonly clock: Clock
  /** of what is live; nothing for a model that is not loaded */
  readonly manifest: (model: string) => Manifest | undefined
}

/** Answers requests: pictures by the model's task, tensors as they are. */
export class Requests {
  readonly #options: RequestsOptions

  constructor(options: RequestsOptions) {
    this.#options = options
  }

  async predict(model: string, picture: Picture, options: RequestOptions): Promise<Prediction> {
    const manifest = this.#manifest(model)
    return this.#counted(model, () => this.#predict(model, manifest, picture, options))
  }

  async infer(
    model: string,
    feeds: Tensors,
    outputs: readonly string[] | undefined,
    options: RequestOptions,
  ): Promise<Inference> {
    const manifest = this.#manifest(model)
    return this.#counted(model, async () => {
      checkFeeds(model, manifest.inputs, feeds)
      const names = outputs ?? manifest.outputs.map(({ name }) => name)
      checkOutputs(model, manifest.outputs, names)
      const done = await this.#options.scheduler.submit({ model, feeds: () => feeds, outputs: names, options })
      this.#succeeded(done, 0, done.result.ms)
      return { outputs: done.result.outputs, ...served(done, done.result.ms) }
    })
  }

  async #predict(model: string, manifest: Manifest, picture: Picture, options: RequestOptions): Promise<Prediction> {
    const { scheduler, clock } = this.#options
    const { card } = manifest
    const task = taskFor(card)
    const outputs = manifest.outputs.map(({ name }) => name)
    const inTiles = task.tiles !== undefined && task.join !== undefined
    let prepared: readonly Prepared[] = []
    const feeds = ({ target }: Deployed): Tensors => {
      const size = target.inputSize
      prepared = inTiles ? task.tiles!(picture, card, size) : [task.prepare(picture, card, size)]
      return prepared[0]!.feeds
    }
    const submit = () => scheduler.submit({ model, feeds, outputs, options, keep: inTiles })
    // The picture is still here, so that a thread that was lost costs time but no answer.
    const done = await submit().catch((error) => {
      if (error instanceof EngineLost) return submit()
      throw error
    })
    const runs = [{ prepared: prepared[0]!, outputs: done.result.outputs }]
    let latencyMs = done.result.ms
    try {
      // All tiles of a picture are answered by the deployment that answered the first.
      for (const each of prepared.slice(1)) {
        const result = await scheduler.again(done.deployed, each.feeds, outputs, options)
        latencyMs += result.ms
        runs.push({ prepared: each, outputs: result.outputs })
      }
    } finally {
      done.release()
    }
    const decoding = clock.monotonic()
    const answer: Answer = inTiles ? task.join!(runs, card) : task.answer(runs[0]!.outputs, runs[0]!.prepared, card)
    this.#succeeded(done, clock.monotonic() - decoding, latencyMs, runs.length)
    return {
      answer,
      picture: { width: picture.width, height: picture.height },
      inputSize: done.deployed.target.inputSize,
      ...served(done, latencyMs),
    }
  }

  #manifest(model: string): Manifest {
    const manifest = this.#options.manifest(model)
    if (manifest) return manifest
    throw new BlockscaleError('MODEL_UNKNOWN', `${model} is not loaded`, 'Ask for it with a workload, or load it.')
  }

  async #counted<T>(model: string, work: () => Promise<T>): Promise<T> {
    const { clock, tallies } = this.#options
    const started = clock.monotonic()
    try {
      return await work()
    } catch (error) {
      tallies.failed(model, clock.monotonic() - started)
      throw error
    }
  }

  #succeeded({ deployed, queueMs, inputMs, frames, frame }: Done, outputMs: number, latencyMs: number, runs = 1): void {
    const { tallies, clock } = this.#options
    deployed.latencies.record(latencyMs / (runs * frames))
    const times = { queue: queueMs, input: inputMs, infer: latencyMs, output: outputMs }
    tallies.succeeded(deployed.target.model, clock.now(), times, frame === 0 ? runs : 0)
  }
}

const served = ({ deployed: { target, choices, gear }, queueMs }: Done, latencyMs: number) => ({
  plan: target.plan,
  latencyMs,
  queueMs,
  quality: target.predicted.quality,
  choices,
  gear,
})

/** @throws BlockscaleError TENSOR_INVALID: the caller's fault is found before an engine is asked */
function checkFeeds(model: string, inputs: readonly BorderValue[], feeds: Tensors): void {
  for (const name of Object.keys(feeds)) {
    if (!inputs.some((input) => input.name === name)) {
      const known = inputs.map((input) => input.name).join(', ')
      throw new BlockscaleError('TENSOR_INVALID', `${model} has no input "${name}"; it takes ${known}`)
    }
  }
  for (const { name, fact } of inputs) {
    const given: Tensor | undefined = feeds[name]
    if (!given) throw new BlockscaleError('TENSOR_INVALID', `the input "${name}" of ${model} is missing`)
    const dims = fact.dims ?? given.dims
    const fits =
      given.dims.length === dims.length &&
      given.dims.every((size, i) => typeof dims[i] !== 'number' || dims[i] === size)
    if (given.type !== fact.type || !fits) {
      const wanted = `${fact.type}[${dims.map((dim) => dim ?? '?').join(', ')}]`
      const found = `${given.type}[${given.dims.join(', ')}]`
      throw new BlockscaleError('TENSOR_INVALID', `the input "${name}" of ${model} is ${wanted}, not ${found}`)
    }
  }
}

function checkOutputs(model: string, outputs: readonly BorderValue[], names: readonly string[]): void {
  for (const name of names) {
    if (outputs.some((output) => output.name === name)) continue
    const known = outputs.map((output) => output.name).join(', ')
    throw new BlockscaleError('TENSOR_INVALID', `${model} has no output "${name}"; it gives ${known}`)
  }
}
