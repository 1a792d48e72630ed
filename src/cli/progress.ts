import { type Clock, formatDuration, type Progress, systemClock } from '../base/index.ts'
import type { Output } from './terminal.ts'

/** A progress that can be ended, so that what is printed next starts on a line of its own. */
export interface TerminalProgress extends Progress {
  end(): void
}

interface Step {
  readonly name: string
  readonly total: number | undefined
  readonly start: number
  done: number
}

const REDRAW_MS = 100
const PLAIN_MS = 10_000
/** Below this a rate says nothing yet. */
const SETTLED_MS = 1500

/**
 * Progress as a person reads it: on a terminal one line that is rewritten, with a rate and the time that is left;
 * elsewhere a plain line for each step, and one every ten seconds while it lasts.
 */
export function terminalProgress(output: Output, clock: Clock = systemClock): TerminalProgress {
  return output.isTTY ? rewriting(output, clock) : plain(output, clock)
}

function rewriting(output: Output, clock: Clock): TerminalProgress {
  let step: Step | undefined
  let drawn = 0
  const clear = () => output.write('\r\x1b[K')
  const draw = () => {
    if (!step) return
    drawn = clock.monotonic()
    const text = `${step.name}  ${standing(step, drawn)}`
    output.write(`\r\x1b[K${text.slice(0, (output.columns ?? 80) - 1)}`)
  }
  const finish = () => {
    if (!step) return
    clear()
    output.write(`${finished(step, clock.monotonic())}\n`)
    step = undefined
  }
  return {
    step(name, total) {
      finish()
      step = { name, total, start: clock.monotonic(), done: 0 }
      draw()
    },
    advance(done = 1) {
      if (!step) return
      step.done += done
      if (clock.monotonic() - drawn >= REDRAW_MS) draw()
    },
    note(text) {
      clear()
      output.write(`  ${text}\n`)
      draw()
    },
    end: finish,
  }
}

function plain(output: Output, clock: Clock): TerminalProgress {
  let step: Step | undefined
  let written = 0
  return {
    step(name, total) {
      written = clock.monotonic()
      step = { name, total, start: written, done: 0 }
      output.write(total === undefined ? `${name}\n` : `${name} (${total})\n`)
    },
    advance(done = 1) {
      if (!step) return
      step.done += done
      const now = clock.monotonic()
      if (now - written < PLAIN_MS) return
      written = now
      output.write(`${step.name} ${standing(step, now)}\n`)
    },
    note(text) {
      output.write(`  ${text}\n`)
    },
    end() {
      step = undefined
    },
  }
}

/** `12/40  3.1/s  9.0 s left` */
function standing({ total, start, done }: Step, now: number): string {
  const elapsed = now - start
  const parts = [total === undefined ? (done > 0 ? count(done) : '') : `${count(done)}/${count(total)}`]
  if (elapsed > SETTLED_MS && done > 0) {
    parts.push(rate((done / elapsed) * 1000))
    if (total !== undefined && total > done && done >= Math.min(3, total / 10))
      parts.push(`${formatDuration((elapsed / done) * (total - done))} left`)
  } else if (elapsed > SETTLED_MS) parts.push(formatDuration(elapsed))
  return parts.filter(Boolean).join('  ')
}

const finished = ({ name, total, start, done }: Step, now: number): string =>
  [name, total === undefined ? '' : `${count(Math.max(done, 0))}/${count(total)}`, formatDuration(now - start)]
    .filter(Boolean)
    .join('  ')

/** Large totals are bytes of a download. */
const count = (value: number): string => (value >= 1e5 ? `${(value / 1e6).toFixed(1)}M` : `${value}`)
const rate = (perSecond: number): string =>
  perSecond >= 1e5
    ? `${(perSecond / 1e6).toFixed(1)}M/s`
    : perSecond >= 1
      ? `${perSecond.toFixed(1)}/s`
      : `${(perSecond * 60).toFixed(1)}/min`
