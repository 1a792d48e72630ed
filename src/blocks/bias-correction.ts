import { isOp, type Model, type Node } from '../onnx/index.ts'
import { elementCount } from '../tensor/index.ts'
import type { Samples } from './block.ts'
import { record } from './record.ts'

/** Positions from which the mean error of a channel is taken, and bounds on the pictures that give them. */
const POSITIONS = 6000
const FEWEST_PICTURES = 16
const MOST_PICTURES = 48
/** Share of the pictures that is left out at either end. */
const TRIMMED = 0.25

/**
 * Finds, layer by layer in graph order, by how much each output channel of the rounded form of a model is off in the mean and puts
 * it into `corrections`, which `build` takes into the biases. Layers behind see inputs that are corrected already.
 *
 * The mean is that of the middle half of the pictures. Networks may have some at which a few channels are ten times as loud (MobileNetV2
 * has), and there ranges clip: what is lost there would otherwise be made up for at all others, which lost nothing.
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
  const wanted = new Map<string, readonly Float64Array[]>()
  const picturesFor = (name: string) => {
    const plane = elementCount((nominal.get(name) ?? []).slice(2))
    return Math.max(FEWEST_PICTURES, Math.min(MOST_PICTURES, Math.ceil(POSITIONS / plane)))
  }
  for (const count of new Set(names.map(picturesFor))) {
    const some = names.filter((name) => picturesFor(name) === count)
    for (const [name, means] of await channelMeans(model, samples.slice(0, count), some)) wanted.set(name, means)
  }
  for (const name of names) {
    const targets = wanted.get(name)!
    const actual = (await channelMeans(build(), samples.slice(0, picturesFor(name)), [name])).get(name)!
    corrections.set(
      name,
      Float32Array.from(targets[0]!, (_, c) =>
        middleMean(targets.map((means, picture) => means[c]! - actual[picture]![c]!)),
      ),
    )
  }
}

function middleMean(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const out = Math.floor(TRIMMED * sorted.length)
  const middle = sorted.slice(out, sorted.length - out)
  return middle.reduce((sum, value) => sum + value, 0) / middle.length
}

/** For each of the given values, each picture's mean of each channel over all positions. */
async function channelMeans(
  model: Model,
  samples: Samples,
  values: readonly string[],
): Promise<ReadonlyMap<string, readonly Float64Array[]>> {
  const means = new Map(values.map((value) => [value, [] as Float64Array[]]))
  await record(model, samples, values, (tensors) => {
    for (const [value, pictures] of means) {
      const { data, dims } = tensors[value]!
      const channels = dims[1] ?? 1
      const plane = data.length / channels
      pictures.push(
        Float64Array.from({ length: channels }, (_, c) => {
          let total = 0
          for (let i = c * plane; i < (c + 1) * plane; i++) total += data[i] as number
          return total / plane
        }),
      )
    }
  })
  return means
}
