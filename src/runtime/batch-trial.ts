import type { Tensors } from '../engine/index.ts'
import { allocate, elementCount, type NumericType, type Tensor } from '../tensor/index.ts'
import type { Manifest } from '../zoo/index.ts'
import { stacked, unstacked } from './batches.ts'
import type { Deployed } from './deployed.ts'
import type { Stage } from './stage.ts'

/** Frames of a batch that are tried. */
export const BATCHES = [2, 4]
const ROUNDS = 7
/** Share of a frame's time that a batch has to save: less is noise, and every frame of a batch waits for the last. */
const WORTH_IT = 0.05
/** Sums of the same products in another order. */
const TOLERANCE = 1e-4

/** Whether a model takes several frames in one run: the first size of each input and output is free. */
export const takesBatches = ({ inputs, outputs }: Manifest): boolean =>
  [...inputs, ...outputs].every(({ fact }) => fact.type === 'float32' && fact.dims?.[0] === 'N')

/**
 * Runs what is live on frames of noise, one by one and in batches, in turns with the requests of others.
 *
 * @returns the size of the batch that takes the least time for a frame, 1 where none saves enough, one answers otherwise, or another
 *   deployment takes the place of this one meanwhile
 */
export async function bestBatch(stage: Stage, on: Deployed): Promise<number> {
  const { inputs, outputs } = on.target
  const names = outputs.map(({ name }) => name)
  const run = async (feeds: Tensors) => stage.scheduler.again(on, feeds, names, {})
  const giveBack = on.lease()
  try {
    const frames = Array.from({ length: Math.max(...BATCHES) }, (_, seed) => noise(inputs, seed))
    const alone: Tensors[] = []
    for (const feeds of frames) alone.push((await run(stacked([feeds]))).outputs)
    const times = new Map([1, ...BATCHES].map((size) => [size, [] as number[]]))
    for (let round = 0; round < ROUNDS; round++) {
      for (const [size, ms] of times) {
        // A swap does not wait for the end of a trial.
        if (stage.live.get(on.target.model) !== on) return 1
        const result = await run(stacked(frames.slice(0, size)))
        ms.push(result.ms / size)
        const parts = unstacked(result.outputs, size)
        if (!parts?.every((part, i) => isSame(part, alone[i]!))) return 1
      }
    }
    // The quickest half is what the network takes; the rest is what others did on the machine.
    const frameMs = (size: number) => times.get(size)!.sort((a, b) => a - b)[ROUNDS >> 2]!
    const best = BATCHES.reduce((least, size) => (frameMs(size) < frameMs(least) ? size : least), 1)
    return frameMs(best) <= (1 - WORTH_IT) * frameMs(1) ? best : 1
  } finally {
    giveBack()
  }
}

/** Not even: equal values would hide what a batch mixes up. */
function noise(inputs: Deployed['target']['inputs'], seed: number): Tensors {
  return Object.fromEntries(
    inputs.map(({ name, type, dims }): [string, Tensor] => {
      const sizes = dims.map((size) => size ?? 1)
      const data = allocate(type as NumericType, elementCount(sizes)) as Float32Array
      for (let i = 0; i < data.length; i++) data[i] = Math.sin(i * (1.3 + seed))
      return [name, { type, dims: sizes, data }]
    }),
  )
}

function isSame(a: Tensors, b: Tensors): boolean {
  return Object.entries(a).every(([name, { data }]) => {
    const [x, y] = [data as Float32Array, b[name]!.data as Float32Array]
    const scale = y.reduce((most, value) => Math.max(most, Math.abs(value)), 1)
    return x.length === y.length && x.every((value, i) => Math.abs(value - y[i]!) <= TOLERANCE * scale)
  })
}
