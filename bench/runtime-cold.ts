import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { ResultRow } from './result.ts'
import { type BenchModel, fused, targetOf } from './runtime-models.ts'

const ROUNDS = 7
const round = (value: number, digits = 3) => Number(value.toFixed(digits))

interface Time {
  /** from the first call to the first answer, and from the start of the process */
  readonly ms: number
  readonly withProcessMs: number
}

/**
 * Time to the first answer in fresh processes: `InferenceSession.create` on the original file and one run, against what the runtime keeps
 * of a plan (the fused graph, mapped) and against its blocks, each run as soon as it is mapped. Files are in the page cache for all.
 */
export async function cold(folder: string, model: BenchModel): Promise<ResultRow> {
  const ones = model.units.map(() => 0)
  const whole = await fused(folder, model, ones)
  const ways = {
    original: [model.file],
    fused: [whole.path],
    chain: targetOf(model, ones, 0).chain.map(({ path }) => path),
  }
  const times: Record<keyof typeof ways, Time[]> = { original: [], fused: [], chain: [] }
  const common = { feeds: model.inputs, outputs: model.outputs.map(({ name }) => name) }
  for (let i = 0; i < ROUNDS; i++) {
    for (const way of Object.keys(ways) as (keyof typeof ways)[]) {
      times[way].push(child({ way, files: ways[way], ...common }))
    }
  }
  const least = (way: keyof typeof ways, of: keyof Time) => Math.min(...times[way].map((time) => time[of]))
  const ratio = (way: keyof typeof ways, of: keyof Time) => round(least(way, of) / least('original', of))
  return {
    part: 'cold',
    model: model.name,
    originalMs: round(least('original', 'ms')),
    fusedRatio: ratio('fused', 'ms'),
    chainRatio: ratio('chain', 'ms'),
    originalWithProcessMs: round(least('original', 'withProcessMs')),
    fusedWithProcessRatio: ratio('fused', 'withProcessMs'),
    chainWithProcessRatio: ratio('chain', 'withProcessMs'),
  }
}

/** The whole runtime on a built zoo whose compiled files are there: database, plan, checksums, loading, pre-processing, first answer. */
export function coldRuntime(zoo: string, model: string, picture: string): ResultRow {
  const ask = () => child({ way: 'runtime', files: [picture], zoo, model })
  ask() // compiles
  const times = Array.from({ length: 3 }, ask)
  return {
    part: 'cold-runtime',
    model,
    openAndFirstAnswerMs: round(Math.min(...times.map(({ ms }) => ms)), 1),
    withProcessMs: round(Math.min(...times.map(({ withProcessMs }) => withProcessMs)), 1),
  }
}

function child(argument: object): Time {
  const script = fileURLToPath(new URL('./runtime-cold-child.mjs', import.meta.url))
  return JSON.parse(execFileSync(process.execPath, [script, JSON.stringify(argument)], { encoding: 'utf8' }))
}
