import { BlockscaleError, seededRandom, shuffled } from '../base/index.ts'
import type { Tensors } from '../engine/index.ts'
import type { Model } from '../onnx/index.ts'
import { elementCount, floats, type Tensor } from '../tensor/index.ts'
import { fixedBatch } from './imitate.ts'
import { targetOf } from './losses.ts'
import { type Samples, type Trained, type TrainOptions, train } from './train.ts'
import { adam } from './update.ts'

/**
 * What a block gets and what it is to give: tensors with the samples along their first axis. A target may have several rows for
 * each sample there, as boxes of all places in a list.
 */
export interface DistillSamples {
  readonly inputs: Tensors
  readonly targets: Tensors
}

export interface DistillOptions
  extends Partial<
    Pick<
      TrainOptions,
      'rate' | 'steps' | 'batch' | 'warmup' | 'seed' | 'parameters' | 'threads' | 'checkpoint' | 'signal' | 'onProgress'
    >
  > {
  /** share of the samples that is only measured on, a fifth unless given */
  readonly heldOut?: number
  readonly patience?: number
}

export interface Distilled {
  readonly model: Model
  /** error power over signal power, averaged over the outputs, on held-out samples */
  readonly heldOutBefore: number
  readonly heldOutAfter: number
  readonly steps: number
  readonly ms: number
  readonly ended: Trained['ended']
}

/**
 * Trains a student to give the targets (the outputs of the block that it stands for) on recorded inputs, without labels.
 *
 * What is returned is never worse on the held-out samples than the student that came: at worst it is the same.
 *
 * @param student operator set 13 or newer; where its batch is fixed, it is trained at that
 * @throws BlockscaleError USAGE with fewer than two samples, TENSOR_INVALID when sample counts differ
 */
export async function distill(
  student: Model,
  samples: DistillSamples,
  options: DistillOptions = {},
): Promise<Distilled> {
  const count = sampleCount(samples)
  const order = shuffled(
    Array.from({ length: count }, (_, i) => i),
    seededRandom(options.seed ?? 1),
  )
  const held = Math.max(1, Math.round(count * (options.heldOut ?? 0.2)))
  if (count - held < 1) throw new BlockscaleError('USAGE', `${count} samples are too few to train and to measure on`)
  const outputs = Object.keys(samples.targets)
  const powers = outputs.map((output) => power(samples.targets[output]!))
  // An output of almost nothing (scores where nothing is seen) must not outweigh the others by its rounding.
  const floor = Math.max(...powers) * 1e-6 || 1
  const { heldOut: _share, ...passed } = options
  const trained = await train(student, rows(samples, order.slice(held)), {
    rate: 1e-3,
    steps: 300,
    patience: 6,
    ...passed,
    batch: fixedBatch(student) ?? options.batch ?? 32,
    method: adam(),
    losses: outputs.map((output, i) => ({
      kind: 'mse',
      output,
      // so that every output counts the same, whatever its scale
      weight: 1 / (outputs.length * Math.max(powers[i]!, floor)),
    })),
    heldOut: rows(samples, order.slice(0, held)),
  })
  return {
    model: trained.model,
    heldOutBefore: -trained.before,
    heldOutAfter: -trained.after,
    steps: trained.steps,
    ms: trained.ms,
    ended: trained.ended,
  }
}

function sampleCount({ inputs, targets }: DistillSamples): number {
  const rowsOf = (of: Tensors) => Object.values(of).map(({ dims }) => dims[0] ?? 0)
  const counts = new Set(rowsOf(inputs))
  const [count = 0] = counts
  if (counts.size !== 1 || rowsOf(targets).some((rows) => rows === 0 || rows % count !== 0)) {
    const all = [...new Set([...counts, ...rowsOf(targets)])]
    throw new BlockscaleError('TENSOR_INVALID', `inputs and targets have ${all.join(' and ')} samples`)
  }
  return count
}

/** Rows of tensors held in memory, as a data source. */
export function rows({ inputs, targets }: DistillSamples, of: readonly number[]): Samples {
  const count = Object.values(inputs)[0]?.dims[0] ?? 1
  const named = [
    ...Object.entries(inputs),
    ...Object.entries(targets).map(([name, value]): [string, Tensor] => [targetOf(name), value]),
  ]
  return {
    count: of.length,
    batch: (indices) =>
      Object.fromEntries(
        named.map(([name, value]) => [
          name,
          pick(
            value,
            count,
            indices.map((i) => of[i]!),
          ),
        ]),
      ),
  }
}

/** Of so many samples those of these numbers. */
function pick(value: Tensor, count: number, indices: readonly number[]): Tensor {
  const [rows = 0, ...rest] = value.dims
  const each = elementCount(value.dims) / count
  const from = value.data as Float32Array
  const data = new Float32Array(indices.length * each)
  indices.forEach((index, i) => {
    data.set(from.subarray(index * each, (index + 1) * each), i * each)
  })
  return floats([(indices.length * rows) / count, ...rest], data)
}

function power(value: Tensor): number {
  const data = value.data as Float32Array
  let sum = 0
  for (const each of data) sum += each * each
  return sum / data.length
}
