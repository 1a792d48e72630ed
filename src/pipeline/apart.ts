import { type ChildProcess, fork } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { totalmem } from 'node:os'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { BlockscaleError, formatBytes, formatDuration } from '../base/index.ts'
import type { FoundModel } from '../zoo/index.ts'
import type { ApartAnswer, ApartCall, ApartSetup, Guess } from './apart-process.ts'
import type { PreparedModel } from './prepare.ts'

/** What a file from outside may take of the machine while it is opened for the first time. */
export interface ApartLimits {
  /** resident memory of the process */
  readonly memoryBytes: number
  readonly timeMs: number
}

/**
 * Memory for the runtime, and for a graph that is held in several forms at once; the largest real network tried took
 * 0.4 GB and eight times its file. Time for a slow machine: no real network took 20 s here.
 */
const BASE_BYTES = 1.5e9
const PER_FILE_BYTE = 24
const MOST_OF_MACHINE = 0.75
const TIME_MS = 600_000

/**
 * `prepareModel` in a process of its own, so that a file that was made or damaged to crash, to hang or to fill the memory
 * takes nothing else with it.
 *
 * @throws BlockscaleError what `prepareModel` throws; MODEL_UNSUPPORTED when the process crashed or broke its limits
 */
export const prepareApart = (found: FoundModel, blocks?: number, limits?: ApartLimits): Promise<PreparedModel> =>
  apart(found.file, { kind: 'prepare', found, blocks }, limits) as Promise<PreparedModel>

/**
 * Opens a file and runs it once on made-up input, in a process of its own; what gets through is opened here afterwards.
 *
 * @returns a card from what the graph says, with everything that was guessed
 * @throws BlockscaleError MODEL_NOT_ONNX, MODEL_UNSUPPORTED, also when the process crashed or broke its limits
 */
export const lookApart = (found: FoundModel, limits?: ApartLimits): Promise<Guess> =>
  apart(found.file, { kind: 'look', found }, limits) as Promise<Guess>

async function apart(file: string, call: ApartCall, given?: ApartLimits): Promise<PreparedModel | Guess> {
  const limits = given ?? (await usualLimits(file))
  const setup: ApartSetup = { ...call, memoryBytes: limits.memoryBytes }
  const child = start()
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    child.kill('SIGKILL')
  }, limits.timeMs)
  try {
    const answer = await answerOf(child, setup)
    if ('error' in answer) throw new BlockscaleError(answer.error.code, answer.error.message, answer.error.hint)
    return answer.result
  } catch (thrown) {
    if (!(thrown instanceof Ended)) throw thrown
    const hint = 'the file is damaged, made to do harm, or too large for this machine: do not use it here'
    throw new BlockscaleError('MODEL_UNSUPPORTED', `opening it ${howItEnded(thrown, isLate, limits)}`, hint)
  } finally {
    clearTimeout(timer)
    child.kill('SIGKILL')
  }
}

class Ended extends Error {
  readonly signal: string | null
  constructor(code: number | null, signal: string | null) {
    super(signal ?? `code ${code}`)
    this.signal = signal
  }
}

/** What the process ends itself with when it holds too much; nothing else sends it. */
export const TOO_MUCH_MEMORY = 'SIGUSR2'

function howItEnded({ signal, message }: Ended, isLate: boolean, { memoryBytes, timeMs }: ApartLimits): string {
  if (isLate) return `took longer than ${formatDuration(timeMs)} and was stopped`
  if (signal === TOO_MUCH_MEMORY) return `took more than ${formatBytes(memoryBytes)} of memory and was stopped`
  return `crashed ONNX Runtime (${message}), in a process of its own`
}

async function usualLimits(file: string): Promise<ApartLimits> {
  const { size } = await stat(file)
  return { memoryBytes: Math.min(MOST_OF_MACHINE * totalmem(), BASE_BYTES + PER_FILE_BYTE * size), timeMs: TIME_MS }
}

function start(): ChildProcess {
  const fromSources = import.meta.url.endsWith('.ts')
  const url = new URL('./apart-process.ts', import.meta.url)
  return fork(fileURLToPath(fromSources ? url : url.href.replace(/\.ts$/, '.js')), [], {
    serialization: 'advanced',
    execArgv: fromSources ? ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href] : [],
    // What a crashing library prints helps nobody; how it ended is told.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
}

function answerOf(child: ChildProcess, setup: ApartSetup): Promise<ApartAnswer> {
  return new Promise((resolve, reject) => {
    child.once('message', (answer) => resolve(answer as ApartAnswer))
    child.once('error', reject)
    child.once('exit', (code, signal) => reject(new Ended(code, signal)))
    child.send(setup, () => {}) // that it is gone already is told by its exit
  })
}
