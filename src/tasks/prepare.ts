import { BlockscaleError } from '../base/index.ts'
import { isFloat, type Picture, preprocess, type Tensor } from '../tensor/index.ts'
import { inputsOf, type ModelCard } from './card.ts'
import type { Prepared, Tensors } from './task.ts'

/**
 * A picture as the feeds of a model, at the card's size or another.
 *
 * `resizeTo` follows the size, so that a smaller input sees the same part of the picture. Of several inputs only the
 * first takes another size: the others' shapes belong to it in ways that a card cannot tell.
 */
export function preparePicture(picture: Picture, card: ModelCard, size?: readonly [number, number]): Prepared {
  const inputs = inputsOf(card).map((input, i) => {
    const target = (i === 0 && size) || input.size
    const resizeTo = input.resizeTo && Math.round((input.resizeTo * Math.min(...target)) / Math.min(...input.size))
    return [input.name, preprocess(picture, input, target, resizeTo)] as const
  })
  return {
    feeds: Object.fromEntries(inputs.map(([name, made]) => [name, made.tensor])),
    placement: inputs[0]![1].placement,
    picture,
  }
}

/** @throws BlockscaleError MODEL_CARD_INVALID when the model has no such output */
export function outputOf(outputs: Tensors, name: string | undefined): Tensor<'float32'> {
  const names = Object.keys(outputs)
  const found = outputs[name ?? names[0] ?? '']
  if (!found) {
    throw new BlockscaleError(
      'MODEL_CARD_INVALID',
      `the card names an output "${name}"; the model has ${names.map((each) => `"${each}"`).join(', ') || 'none'}`,
      'Correct the output names in the "output" section of the card.',
    )
  }
  return asFloats(found)
}

/** Numbers of any type as 32-bit floats. */
export function asFloats(value: Tensor): Tensor<'float32'> {
  if (isFloat(value)) return value
  if (value.type === 'string' || value.type === 'float16' || value.type === 'bfloat16') {
    throw new BlockscaleError('TENSOR_INVALID', `outputs of type ${value.type} cannot be decoded`)
  }
  const data = Float32Array.from(value.data as ArrayLike<number | bigint>, Number)
  return { type: 'float32', dims: value.dims, data }
}
