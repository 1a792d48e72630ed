import { decibels, mean, meanNoise } from './numbers.ts'
import { preparePicture } from './prepare.ts'
import type { Evaluated, Quality, Task } from './task.ts'

/** A model whose outputs we do not understand: they are compared as signals, in decibels of signal over noise. */
export const generic: Task = {
  name: 'generic',
  prepare: preparePicture,
  answer: (outputs) => ({ task: 'generic', outputs }),
  divergence: meanNoise,
  // nothing is known to be true about outputs without a meaning; the original is the measure
  quality: signalToNoise,
  fidelity: signalToNoise,
}

function signalToNoise(samples: readonly Evaluated[]): Quality {
  return { metric: 'snr', value: mean(samples.map(({ original, outputs }) => decibels(meanNoise(original, outputs)))) }
}
