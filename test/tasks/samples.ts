import { type Evaluated, type ModelCard, type Tensors, type Truth, taskFor } from '../../src/tasks/index.ts'
import { floats, type Picture } from '../../src/tensor/index.ts'

/** A picture of one grey level. */
export const plain = (width: number, height: number, grey = 128): Picture => ({
  width,
  height,
  data: new Uint8Array(width * height * 3).fill(grey),
})

/** An evaluated picture with outputs made up by a test. */
export function sample(
  card: ModelCard,
  picture: Picture,
  outputs: Tensors,
  truth?: Truth,
  original: Tensors = outputs,
): Evaluated {
  return { prepared: taskFor(card).prepare(picture, card), outputs, original, truth }
}

export const logits = (...values: number[]): Tensors => ({ y: floats([1, values.length], values) })
