import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { writeFileAtomic } from '../src/base/index.ts'
import { thisDevice } from '../src/profiles/index.ts'
import { openEnergyMeter } from './energy.ts'
import { resultsPage, resultsPagePath } from './results-page.ts'

/** One line of a benchmark's table: names to numbers, words or small lists. */
export type ResultRow = Readonly<Record<string, unknown>>

/** What a reader needs to judge a number: where, with what and from which state of the code it was measured. */
export interface ResultFacts {
  readonly when: string
  readonly command: string
  readonly commit: string
  /** whether files differed from that commit while it was measured */
  readonly dirty: boolean
  readonly node: string
  /** absent in results from before they were written down */
  readonly versions?: Readonly<Record<'blockscale' | 'onnxruntime-node' | 'sharp' | 'better-sqlite3', string>>
  readonly machine: {
    readonly cpu: string
    readonly cores: number
    readonly memoryBytes: number
    readonly system: string
    /** vector instructions on which times and 8-bit networks depend */
    readonly simd?: string
    /** what reports energy here; absent in results from before it was looked for */
    readonly energy?: 'RAPL' | 'battery' | 'none'
  }
  /** load of the machine over the last minute of the run: a busy machine makes times noisy */
  readonly loadAverage: number
}

const root = fileURLToPath(new URL('..', import.meta.url))
const git = (...args: string[]): string => {
  try {
    return execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return ''
  }
}

const versionOf = (file: string): string =>
  (JSON.parse(readFileSync(`${root}${file}`, 'utf8')) as { version: string }).version

/** Facts about this machine, this process and this state of the code. */
export function resultFacts(command: string): ResultFacts {
  return {
    when: new Date().toISOString(),
    command,
    commit: git('rev-parse', '--short', 'HEAD') || 'unknown',
    dirty: git('status', '--porcelain', '--untracked-files=no') !== '',
    node: process.version,
    versions: {
      blockscale: versionOf('package.json'),
      'onnxruntime-node': thisDevice().runtimeVersion,
      sharp: versionOf('node_modules/sharp/package.json'),
      'better-sqlite3': versionOf('node_modules/better-sqlite3/package.json'),
    },
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: cpus().length,
      memoryBytes: totalmem(),
      system: `${process.platform} ${process.arch} ${release()}`,
      simd: thisDevice().features,
      energy: openEnergyMeter()?.source ?? 'none',
    },
    loadAverage: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  }
}

/**
 * Writes `bench/results/<name>.json`, the facts of this run and its rows, and docs/results.md anew.
 *
 *     await writeResult('optimizer', rows) // → 'bench/results/optimizer.json'
 *
 * @param rows the table; anything that JSON can hold
 * @param command how to run it again; `npx tsx bench/<name>.ts` unless given
 * @param more further parts of the result beside the table, such as goals that were missed
 */
export async function writeResult(
  name: string,
  rows: readonly ResultRow[],
  command = `npx tsx bench/${name}.ts`,
  more: ResultRow = {},
): Promise<string> {
  const file = `bench/results/${name}.json`
  const facts = resultFacts(command)
  await writeFileAtomic(`${root}${file}`, `${JSON.stringify({ name, ...facts, ...more, rows }, null, 2)}\n`)
  await writeFileAtomic(resultsPagePath, await resultsPage())
  return file
}

/** The middle of some numbers; NaN when there are none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return Number.NaN
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
