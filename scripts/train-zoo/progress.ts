import type { TrainProgress } from '../../src/trainer/index.ts'

/** A line that is overwritten on a terminal, and one line for every twentieth elsewhere. */
export function progressLine(name: string, metric: string): (progress: TrainProgress) => void {
  return ({ step, steps, loss, quality, etaMs, msPerStep }) => {
    const measured = quality === undefined ? '' : `, ${metric} ${quality.toFixed(4)}`
    const text = `${name} ${step}/${steps}: loss ${loss.toFixed(4)}${measured}, ${msPerStep.toFixed(0)} ms a step, ${Math.ceil(etaMs / 1000)} s left`
    if (process.stdout.isTTY) process.stdout.write(`\r${text}\x1b[K${step === steps ? '\n' : ''}`)
    else if (step % Math.ceil(steps / 20) === 0 || step === steps) console.log(text)
  }
}
