import { isOp, type Model, type Node } from '../onnx/index.ts'
import { elementCount } from '../tensor/index.ts'
import type { Samples } from './block.ts'
import { record } from './record.ts'

/** Positions from which the mean error of a channel is taken, and bounds on the pictures that give them. */
const POSITIONS = 6000
const FEWEST_PICTURES = 8
const MOST_PICTURES = 48

/**
 * Finds, layer by layer in graph order, the mean difference of each output channel between a model and its rounded form and
 * puts it into `corrections`, which `build` takes into the biases. Layers behind see inputs that are corrected already.
 *
 * @see Nagel et al., arXiv 1906.04721, §4.2 (empirical bias correction)
 */
export async function correctBiases(
  model: Model,
  build: () => Model,
  layers: readonly Node[],
  samples: Samples,
  nominal: ReadonlyMap<string, readonly number[]>,
  corrections: Map<string, Float32Array>,
): Promise<void> {
  const names = layers.filter((layer) => isOp(layer, 'Conv', 'Gemm')).map((layer) => layer.outputs[0]!)
  const wanted = new Map<string, Float64Array>()
  const picturesFor = (name: string) => {
    const plane = elementCount((nominal.get(name) ?? []).slice(2))
    return Math.max(FEWEST_PICTURES, Math.min(MOST_PICTURES, Math.ceil(POSITIONS / plane)))
  }
  for (const count of new Set(names.map(picturesFor))) {
    const some = names.filter((name) => picturesFor(name) === count)
    for (const [name, means] of await channelMeans(model, samples.slice(0, count), some)) wanted.set(name, means)
  }
  for (const name of names) {
    const target = wanted.get(name)!
    const actual = (await channelMeans(build(), samples.slice(0, picturesFor(name)), [name])).get(name)!
    corrections.set(
      name,
      Float32Array.from(target, (mean, c) => mean - actual[c]!),
    )
  }
}

/** Mean of each channel of the given values over pictures and positions. */
export async function channelMeans(
  model: Model,
  samples: Samples,
  values: readonly string[],
): Promise<ReadonlyMap<string, Float64Array>> {
  const sums = new Map<string, Float64Array>()
  await record(model, samples, values, (tensors) => {
    for (const value of values) {
      const { data, dims } = tensors[value]!
      const channels = dims[1] ?? 1
      const sum = sums.get(value) ?? new Float64Array(channels)
      const plane = data.length / channels
      for (let c = 0; c < channels; c++) {
        let total = 0
        for (let i = c * plane; i < (c + 1) * plane; i++) total += data[i] as number
        sum[c]! += total / plane / samples.length
      }
      sums.set(value, sum)
    }
  })
  return sums
}
