import type { Picture } from '../tensor/index.ts'
import type { ModelCard } from './card.ts'
import { classification } from './classification.ts'
import { detection, faceDetection } from './detection.ts'
import { generic } from './generic.ts'
import { segmentation } from './segmentation.ts'
import { superResolution } from './super-resolution.ts'
import type { Answer, Task, Tensors } from './task.ts'
import type { TaskName } from './task-name.ts'

const tasks: Readonly<Record<TaskName, Task>> = {
  classification,
  detection,
  'face-detection': faceDetection,
  segmentation,
  'super-resolution': superResolution,
  generic,
}

export const taskFor = (card: ModelCard): Task => tasks[card.task]

/**
 * The answer for a whole picture: one run, or for tasks that work in tiles as many as the picture takes.
 *
 * @param run gives the outputs of the model for its feeds
 */
export async function answerPicture(
  picture: Picture,
  card: ModelCard,
  run: (feeds: Tensors) => Promise<Tensors>,
  size?: readonly [number, number],
): Promise<Answer> {
  const task = taskFor(card)
  if (!task.tiles || !task.join) {
    const prepared = task.prepare(picture, card, size)
    return task.answer(await run(prepared.feeds), prepared, card)
  }
  const runs = []
  for (const prepared of task.tiles(picture, card, size)) runs.push({ prepared, outputs: await run(prepared.feeds) })
  return task.join(runs, card)
}
