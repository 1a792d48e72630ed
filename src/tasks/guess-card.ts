import { BlockscaleError } from '../base/index.ts'
import { type ModelCard, readCard } from './card.ts'
import { guessDetector, type ValueFact } from './guess-detector.ts'

export type { ValueFact } from './guess-detector.ts'

export interface Guess {
  readonly card: ModelCard
  /** everything that was not known, in words */
  readonly guessed: readonly string[]
}

const SIDE = 224
const IMAGENET = { scale: 1 / 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }

/**
 * A card for a bare .onnx, from what its graph says. The task is only guessed where the shapes leave little doubt;
 * otherwise it is `generic`, which is always right, if not very telling.
 *
 * @throws BlockscaleError MODEL_UNSUPPORTED when an input is no picture
 */
export function guessCard(name: string, inputs: readonly ValueFact[], outputs: readonly ValueFact[]): Guess {
  const guessed: string[] = []
  const fed: string[] = []
  const specs = inputs.map((input) =>
    guessInput(input, inputs.length > 1 ? `input "${input.name}"` : 'the input', guessed, fed),
  )
  const first = specs[0]
  if (!first) throw new BlockscaleError('MODEL_UNSUPPORTED', `${name} has no input that a picture could be given to`)
  const isColour = inputs.length === 1 && first.layout === 'nchw' && first.color === 'rgb'
  const detector = isColour ? guessDetector(first.size, outputs) : undefined
  if (detector) {
    guessed.push(...detector.says)
    const { resizeTo: _, ...rest } = first
    const input = { ...rest, ...detector.input }
    const json = { id: idOf(name, guessed), task: detector.task, file: 'model.onnx', input, output: detector.output }
    return { card: readCard(json, `the guessed card of ${name}`), guessed }
  }
  const { task, output, says } = guessOutput(first, inputs, outputs)
  guessed.push(...fed, says)
  const upscales = task === 'super-resolution'
  const input = specs.map((spec) =>
    upscales
      ? {
          ...spec,
          resize: 'none',
          scale: 1 / 255,
          mean: 0,
          std: 1,
          ...(spec.color === 'gray' ? { color: 'luma' } : {}),
        }
      : spec,
  )
  const card = readCard(
    { id: idOf(name, guessed), task, file: 'model.onnx', input: input.length === 1 ? input[0] : input, output },
    `the guessed card of ${name}`,
  )
  return { card, guessed }
}

interface GuessedInput {
  readonly name: string
  readonly size: readonly [number, number]
  readonly color: string
  readonly layout: string
  readonly [field: string]: unknown
}

/** @param fed gets how pictures are given, which the kind of model may know better */
function guessInput({ name, type, dims }: ValueFact, what: string, guessed: string[], fed: string[]): GuessedInput {
  if (type !== 'float32' && type !== 'uint8') {
    throw new BlockscaleError('MODEL_UNSUPPORTED', `${what} is of type ${type}; pictures are given as float32 or uint8`)
  }
  if (dims && dims.length !== 4) {
    throw new BlockscaleError('MODEL_UNSUPPORTED', `${what} is [${dims.join(', ')}]; a picture has four dimensions`)
  }
  const shape = dims ?? [1, 3, 'height', 'width']
  if (!dims) guessed.push(`${what} says no shape; taken as [1, 3, height, width]`)
  const isDepth = (dim: number | string | undefined): dim is number => dim === 1 || dim === 3
  const last = !isDepth(shape[1]) && isDepth(shape[3])
  const depth = last ? shape[3] : shape[1]
  if (typeof depth === 'number' && !isDepth(depth)) {
    throw new BlockscaleError('MODEL_UNSUPPORTED', `${what} is [${shape.join(', ')}]; a picture has 1 or 3 channels`)
  }
  if (typeof depth !== 'number') guessed.push(`${what} says no number of channels; taken as 3`)
  const sides = last ? [shape[1], shape[2]] : [shape[2], shape[3]]
  const size = sides.map((side) => (typeof side === 'number' && side > 0 ? side : undefined))
  const [height = SIDE, width = SIDE] = size
  if (size.includes(undefined)) guessed.push(`${what} takes any size; ${height} × ${width} is used`)
  const gray = depth === 1
  const small = Math.min(height, width) <= 64
  fed.push(
    `${what} is taken as ${gray ? 'grey' : 'RGB'}, ${small ? 'resized to cover it' : 'the middle of the picture, shortest side to 8/7 of the size'}`,
  )
  const values = type === 'uint8' ? { type, scale: 1 } : gray ? { scale: 1 / 255 } : IMAGENET
  fed.push(
    type === 'uint8'
      ? 'pixels are given as they are, 0 to 255'
      : gray
        ? 'pixels are divided by 255'
        : 'pixels are normalised as ImageNet networks of PyTorch want it (mean .485 .456 .406, std .229 .224 .225)',
  )
  return {
    name,
    size: [height, width],
    resize: 'cover',
    ...(small ? {} : { resizeTo: Math.round((Math.min(height, width) * 8) / 7) }),
    color: gray ? 'gray' : 'rgb',
    layout: last ? 'nhwc' : 'nchw',
    ...values,
  }
}

type Dims = readonly (number | string | undefined)[]

function guessOutput(
  input: GuessedInput,
  inputs: readonly ValueFact[],
  outputs: readonly ValueFact[],
): { task: ModelCard['task']; output: Record<string, unknown>; says: string } {
  const dims = outputs[0]?.dims
  const vague = { task: 'generic', output: { decoder: 'none' } } as const
  if (outputs.length !== 1 || inputs.length !== 1 || outputs[0]!.type !== 'float32' || !dims) {
    const count = `${outputs.length} output${outputs.length === 1 ? '' : 's'}`
    return { ...vague, says: `the task is not known (${count}); outputs are compared as signals ("generic")` }
  }
  const classes = classesOf(dims)
  if (classes !== undefined) {
    const says = `the task is taken as classification: one output of ${classes} values; they are taken as logits`
    return { task: 'classification', output: { decoder: 'softmax' }, says }
  }
  if (dims.length === 4 && input.layout === 'nchw') {
    const [height, width] = input.size
    const [, depth, rows, columns] = dims
    const channels = input.color === 'gray' ? 1 : 3
    const times = typeof rows === 'number' && rows > height && rows % height === 0 ? rows / height : 1
    if (depth === channels && times > 1 && times <= 8 && columns === width * times) {
      const says = `the task is taken as super-resolution: the output is the input's picture ${times} times as large, its values 0 to 1`
      return { task: 'super-resolution', output: { decoder: 'upscale', scale: times, range: 255 }, says }
    }
    if (
      typeof depth === 'number' &&
      depth >= 2 &&
      depth <= 255 &&
      rows === height &&
      columns === width &&
      depth !== channels
    ) {
      const says = `the task is taken as segmentation: ${depth} scores for each pixel; the greatest wins`
      return { task: 'segmentation', output: { decoder: 'argmax' }, says }
    }
  }
  return {
    ...vague,
    says: `the task is not known from an output [${dims.join(', ')}]; outputs are compared as signals ("generic")`,
  }
}

/** [1, C], [N, C] or [1, C, 1, 1] with at least two classes. */
function classesOf(dims: Dims): number | undefined {
  const [, classes, ...rest] = dims
  if (dims.length !== 2 && !(dims.length === 4 && rest.every((dim) => dim === 1))) return undefined
  return typeof classes === 'number' && classes >= 2 ? classes : undefined
}

/** A file's name without folder and ending, with only such characters as an id may have. */
function idOf(name: string, guessed: string[]): string {
  const base = name.replace(/^.*[/\\]/, '').replace(/\.onnx$/i, '')
  const id =
    base
      .replace(/[^a-z0-9._-]+/gi, '-')
      .replace(/^[^a-z0-9]+/i, '')
      .replace(/\.{2,}/g, '.')
      .slice(0, 64) || 'model'
  if (id !== base) guessed.push(`the model is called "${id}"`)
  return id
}
