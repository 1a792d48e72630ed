import { BlockscaleError, seededRandom, shuffled } from '../base/index.ts'
import { openSession, type Session, type Tensors } from '../engine/index.ts'
import { type Model, removeDead, type ValueInfo, writeModel } from '../onnx/index.ts'
import { floats, isFloat, type Tensor } from '../tensor/index.ts'
import { type Loss, targetOf } from './losses.ts'
import { type Samples, type Trained, type TrainOptions, train } from './train.ts'
import { adam } from './update.ts'

/** A value of the student that is to become what a value of the teacher is. Both have the same shape. */
export interface Likeness {
  readonly student: string
  readonly teacher: string
  /** how much it counts beside others, 1 unless given */
  readonly weight?: number
  /** classes `[N, K]` before their softmax are compared by divergence; all else by mean squares */
  readonly classes?: boolean
}

export interface ImitateOptions
  extends Partial<
    Pick<
      TrainOptions,
      | 'rate'
      | 'steps'
      | 'batch'
      | 'warmup'
      | 'seed'
      | 'parameters'
      | 'threads'
      | 'checkpoint'
      | 'signal'
      | 'onProgress'
      | 'measureEvery'
      | 'patience'
      | 'timeLimitMs'
    >
  > {
  readonly likenesses: readonly Likeness[]
  /** share of the pictures that is only measured on, a fifth unless given; `heldOut` takes its place */
  readonly heldOutShare?: number
  /** pictures to measure on, none of which is among those to train on */
  readonly heldOut?: readonly Tensors[]
  /** pixels by which pictures are shifted at most */
  readonly shift?: number
  /** whether pictures are mirrored half of the time */
  readonly flip?: boolean
}

/** Both logits are divided by this, so that the teacher's small scores count too. */
const TEMPERATURE = 2

/**
 * Trains a whole network on its own inputs to give what a teacher gives, at its outputs and inside, without labels.
 *
 * The teacher is asked anew for every batch, so that mirrored and shifted pictures make more of few. Whatever the student's
 * earlier layers deliver is what its later ones learn on. The best weights on held-out pictures are returned: never worse
 * there than those that came.
 *
 * @param feeds the inputs of one picture each, batch 1
 * @throws BlockscaleError USAGE with fewer than two pictures, MODEL_UNSUPPORTED when an operator has no gradient
 */
export async function imitate(
  student: Model,
  teacher: Model,
  feeds: readonly Tensors[],
  options: ImitateOptions,
): Promise<Trained> {
  const { likenesses, seed = 1, threads = 1 } = options
  const { heldOut, training } = parted(feeds, options, seed)
  const asked = asking(teacher, [...new Set(likenesses.map((each) => each.teacher))])
  const session = await openSession(writeModel(asked), { threads })
  try {
    const powers = await powersOf(session, likenesses, training)
    const floor = Math.max(...powers) * 1e-6 || 1
    const losses = likenesses.map(({ student: output, weight = 1, classes }, i): Loss => {
      if (classes) return { kind: 'divergence', output, weight, temperature: TEMPERATURE }
      // so that every value counts the same, whatever its scale
      return { kind: 'mse', output, weight: weight / Math.max(powers[i]!, floor) }
    })
    const { shift = 0, flip = false, ...rest } = options
    const trained = await train(
      asking(student, [...new Set(likenesses.map((each) => each.student))]),
      told(session, likenesses, training, { shift, flip }),
      {
        rate: 1e-3,
        steps: 300,
        ...rest,
        batch: Math.min(fixedBatch(student) ?? options.batch ?? 32, training.length),
        method: adam(),
        losses,
        heldOut: told(session, likenesses, heldOut, { shift: 0, flip: false }),
      },
    )
    const { outputs } = student.graph
    return { ...trained, model: { ...trained.model, graph: { ...trained.model.graph, outputs } } }
  } finally {
    await session.release()
  }
}

function parted(feeds: readonly Tensors[], options: ImitateOptions, seed: number) {
  if (options.heldOut) return { heldOut: options.heldOut, training: feeds }
  const mixed = shuffled([...feeds], seededRandom(seed))
  const held = Math.max(1, Math.round(feeds.length * (options.heldOutShare ?? 0.2)))
  if (feeds.length - held < 1) {
    throw new BlockscaleError('USAGE', `${feeds.length} pictures are too few to train and to measure on`)
  }
  return { heldOut: mixed.slice(0, held), training: mixed.slice(held) }
}

/** The model with these values as its outputs, and what none of them needs left out. */
function asking(model: Model, values: readonly string[]): Model {
  const known = new Map<string, ValueInfo>(model.graph.outputs.map((output) => [output.name, output]))
  return { ...model, graph: removeDead({ ...model.graph, outputs: values.map((name) => known.get(name) ?? { name }) }) }
}

/** Pictures with what the teacher says to them. */
function told(
  teacher: Session,
  likenesses: readonly Likeness[],
  pictures: readonly Tensors[],
  by: { readonly shift: number; readonly flip: boolean },
): Samples {
  return {
    count: pictures.length,
    async batch(indices, random) {
      const feeds = stacked(indices.map((index) => moved(pictures[index]!, by, random)))
      const answers = await teacher.run(feeds)
      return {
        ...feeds,
        ...Object.fromEntries(likenesses.map((each) => [targetOf(each.student), answers[each.teacher]!])),
      }
    },
  }
}

/** Mirrored and shifted, with zeros where nothing is known. What is no picture `[1, C, H, W]` stays as it is. */
function moved(feeds: Tensors, by: { readonly shift: number; readonly flip: boolean }, random: () => number): Tensors {
  if (by.shift === 0 && !by.flip) return feeds
  const flip = by.flip && random() < 0.5
  const [dy, dx] = [0, 0].map(() => Math.floor(random() * (2 * by.shift + 1)) - by.shift) as [number, number]
  return Object.fromEntries(
    Object.entries(feeds).map(([name, value]) => [name, isFloat(value) && value.dims.length === 4 ? at(value) : value]),
  )

  function at({ dims, data }: Tensor<'float32'>): Tensor {
    const [, , height = 1, width = 1] = dims
    const result = new Float32Array(data.length)
    for (let row = 0; row < data.length / width; row++) {
      const y = (row % height) + dy
      if (y < 0 || y >= height) continue
      const from = (row - (row % height) + y) * width
      for (let x = 0; x < width; x++) {
        const sx = (flip ? width - 1 - x : x) + dx
        if (sx >= 0 && sx < width) result[row * width + x] = data[from + sx]!
      }
    }
    return floats(dims, result)
  }
}

/** Float tensors of the same names, one behind the other along the first axis. */
export function stacked(feeds: readonly Tensors[]): Tensors {
  const [first] = feeds
  if (!first || feeds.length === 1) return first ?? {}
  return Object.fromEntries(
    Object.entries(first).map(([name, { dims, data }]) => {
      const all = new Float32Array(data.length * feeds.length)
      feeds.forEach((each, i) => {
        all.set(each[name]!.data as Float32Array, i * data.length)
      })
      return [name, floats([feeds.length * dims[0]!, ...dims.slice(1)], all)]
    }),
  )
}

/** Mean square of each teacher's value, from a few pictures. */
async function powersOf(
  teacher: Session,
  likenesses: readonly Likeness[],
  pictures: readonly Tensors[],
): Promise<number[]> {
  const sums = likenesses.map(() => 0)
  const some = pictures.slice(0, 16)
  for (const feeds of some) {
    const answers = await teacher.run(feeds)
    likenesses.forEach(({ teacher: name }, i) => {
      const data = answers[name]!.data as Float32Array
      let sum = 0
      for (const each of data) sum += each * each
      sums[i]! += sum / data.length / some.length
    })
  }
  return sums
}

export function fixedBatch({ graph }: Model): number | undefined {
  const sizes = graph.inputs.map((input) => input.fact?.dims?.[0])
  return sizes.find((size): size is number => typeof size === 'number')
}
