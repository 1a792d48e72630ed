import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BlockscaleError, ErrorCode } from '../../src/base/index.ts'
import { type ApartLimits, prepareApart } from '../../src/pipeline/index.ts'
import { findModel } from '../../src/zoo/index.ts'
import { type Mutant, mutantOf } from './mutants.ts'

export interface Outcome {
  readonly how: string
  readonly seed: number
  readonly ms: number
  /** absent when the mutant does no harm and would be built */
  readonly code?: ErrorCode
  readonly message?: string
}

/** The answers that a file may deserve. Anything else is a fault of ours. */
export const DESERVED: ReadonlySet<ErrorCode | undefined> = new Set([
  undefined,
  'MODEL_NOT_ONNX',
  'MODEL_UNSUPPORTED',
  'MODEL_CARD_INVALID',
  'CUT_IMPOSSIBLE',
])

/** For mutants of networks of less than a megabyte. */
export const LIMITS: ApartLimits = { memoryBytes: 900e6, timeMs: 30_000 }

export interface Guarded {
  readonly folder: string
  /** whether somebody read the file beside the folder; undefined where the file system does not tell */
  wasRead(): Promise<boolean | undefined>
  remove(): Promise<void>
}

/** A folder for models, with a file beside it that none of them may read. */
export async function guardedFolder(): Promise<Guarded> {
  const root = await mkdtemp(join(tmpdir(), 'blockscale-hostile-'))
  const folder = join(root, 'models')
  await mkdir(folder)
  // A time of access before that of writing is set anew by the first reading, also where file systems save that work.
  const guard = async (name: string) => {
    const path = join(root, name)
    await writeFile(path, new Uint8Array(64).fill(42))
    await utimes(path, new Date(1e12), new Date())
    return { path, wasRead: async () => (await stat(path)).atimeMs !== 1e12 }
  }
  const [secret, control] = [await guard('secret.bin'), await guard('control.bin')]
  await readFile(control.path)
  return {
    folder,
    wasRead: async () => ((await control.wasRead()) ? secret.wasRead() : undefined),
    remove: () => rm(root, { recursive: true, force: true }),
  }
}

/** Looks again and again at the processes that this one has started. @returns ends it and tells the most memory that one of them held */
export function watchChildren(): () => number {
  let peakBytes = 0
  const timer = setInterval(() => {
    for (const pid of readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ')) {
      try {
        const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
        peakBytes = Math.max(peakBytes, Number(peak ?? 0) * 1024)
      } catch {
        // It has ended meanwhile.
      }
    }
  }, 10)
  return () => {
    clearInterval(timer)
    return peakBytes
  }
}

/**
 * Opens mutants as `build` opens a file, two at a time.
 *
 * @param harmless what to do with those that could be built, while their file is there
 * @param prepare that of the sources unless given
 */
export async function openMutants(
  folder: string,
  originals: readonly Uint8Array[],
  seeds: readonly number[],
  limits: ApartLimits = LIMITS,
  harmless: (file: string, seed: number) => Promise<void> = async () => {},
  prepare = prepareApart,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  const left = [...seeds]
  const work = async () => {
    for (let seed = left.shift(); seed !== undefined; seed = left.shift()) {
      const mutant = mutantOf(originals[seed % originals.length]!, seed)
      outcomes.push(await open(folder, mutant, seed, limits, harmless, prepare))
    }
  }
  await Promise.all([work(), work()])
  return outcomes
}

async function open(
  folder: string,
  { how, bytes }: Mutant,
  seed: number,
  limits: ApartLimits,
  harmless: (file: string, seed: number) => Promise<void>,
  prepare: typeof prepareApart,
): Promise<Outcome> {
  const file = join(folder, `m${seed}.onnx`)
  await writeFile(file, bytes)
  const started = performance.now()
  const elapsed = () => Math.round(performance.now() - started)
  try {
    await prepare(await findModel(file), undefined, limits)
    const ms = elapsed()
    await harmless(file, seed)
    return { how, seed, ms }
  } catch (thrown) {
    const { name, code, message } = thrown as BlockscaleError
    if (name !== 'BlockscaleError') throw thrown
    return { how, seed, ms: elapsed(), code, message }
  } finally {
    await rm(file)
  }
}
