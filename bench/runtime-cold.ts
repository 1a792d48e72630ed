import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { median, type ResultRow } from './result.ts'
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

interface RuntimeTime extends Time {
  /** milliseconds since the process began, at the end of each stage */
  readonly at: Readonly<Record<'process' | 'imports' | 'open' | 'answer', number>> & { readonly modules?: number }
  readonly gear?: string
  readonly remembered?: boolean
  readonly choices?: Readonly<Record<string, string>>
  readonly followedMs?: number
}

/**
 * The whole runtime on a built zoo, from opening to the first answer for a picture, against `create` on the original file and one run of
 * it on zeros: in turns, each in a fresh process, medians.
 *
 * It is started as a service is that ran before: its files are compiled and its plan is kept. `planned` is the same with the plan
 * forgotten, as after a change of wishes or profiles.
 *
 * @param zoo is copied, so that it serves this model alone
 */
export function coldRuntime(
  zoo: string,
  model: string,
  file: string,
  picture: string,
  feeds: readonly Feed[],
): ResultRow {
  const folder = mkdtempSync(join(tmpdir(), 'cold-zoo-'))
  try {
    // Where nothing was compiled yet the service that warms up does it.
    for (const name of [model, '.device', 'profiles.db'].filter((each) => existsSync(join(zoo, each)))) {
      cpSync(join(zoo, name), join(folder, name), { recursive: true })
    }
    const start = () => child({ way: 'runtime', files: [picture], zoo: folder, model }) as RuntimeTime
    const { gear } = child({ way: 'service', zoo: folder, model }) as RuntimeTime
    const times: Record<'original' | 'remembered' | 'planned', RuntimeTime[]> = {
      original: [],
      remembered: [],
      planned: [],
    }
    for (let i = 0; i < ROUNDS; i++) {
      times.original.push(child({ way: 'original', files: [file], feeds, outputs: [] }) as RuntimeTime)
      times.remembered.push(start())
      forgetPlans(folder)
      times.planned.push(start())
    }
    const wrong =
      times.remembered.find(({ remembered }) => !remembered) ?? times.planned.find((time) => time.remembered)
    if (wrong) throw new Error(`${model}: a start ${wrong.remembered ? 'remembered' : 'did not remember'} its plan`)
    const middle = (way: keyof typeof times, of: (time: RuntimeTime) => number) => median(times[way].map(of))
    const ms = ({ ms }: Time) => ms
    const withProcessMs = (time: Time) => time.withProcessMs
    const ratio = (way: keyof typeof times, of: (time: Time) => number) =>
      round(middle(way, of) / middle('original', of))
    const stage = (way: keyof typeof times, of: (at: RuntimeTime['at']) => number) =>
      round(
        middle(way, ({ at }) => of(at)),
        1,
      )
    return {
      part: 'cold-runtime',
      model,
      gear: gear ?? '',
      rounds: ROUNDS,
      originalMs: round(middle('original', ms), 1),
      ms: round(middle('remembered', ms), 1),
      ratio: ratio('remembered', ms),
      plannedRatio: ratio('planned', ms),
      originalWithProcessMs: round(middle('original', withProcessMs), 1),
      withProcessMs: round(middle('remembered', withProcessMs), 1),
      withProcessRatio: ratio('remembered', withProcessMs),
      plannedWithProcessRatio: ratio('planned', withProcessMs),
      originalCreateMs: stage('original', (at) => at.open - at.imports),
      originalRunMs: stage('original', (at) => at.answer - at.open),
      processMs: stage('remembered', (at) => at.process),
      modulesMs: stage('remembered', (at) => at.modules! - at.process),
      decodeMs: stage('remembered', (at) => at.imports - at.modules!),
      openMs: stage('remembered', (at) => at.open - at.imports),
      openPlannedMs: stage('planned', (at) => at.open - at.imports),
      predictMs: stage('remembered', (at) => at.answer - at.open),
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** As of an SD card. */
const SLOW_BYTES_PER_SECOND = 20_000_000
const THROTTLE = '/sys/fs/cgroup/blkio'

/**
 * The same start where nothing of the zoo is in the system's cache and the disk gives 20 MB a second: with a plan to begin with, and waiting
 * for the planned one. The disk is made slow by the kernel (blkio of cgroup v1), which takes a system that has it and a user who may.
 *
 * @returns nothing where the disk cannot be made slow
 */
export function coldSlow(zoo: string, model: string, picture: string): ResultRow | undefined {
  const group = join(THROTTLE, `cold-${process.pid}`)
  const folder = mkdtempSync(join(tmpdir(), 'cold-zoo-'))
  try {
    const { dev } = statSync(folder)
    const device = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`
    try {
      mkdirSync(group)
      writeFileSync(join(group, 'blkio.throttle.read_bps_device'), `${device} ${SLOW_BYTES_PER_SECOND}`)
    } catch {
      return undefined
    }
    for (const name of [model, '.device', 'profiles.db'].filter((each) => existsSync(join(zoo, each)))) {
      cpSync(join(zoo, name), join(folder, name), { recursive: true })
    }
    forgetPlans(folder)
    for (const key of readdirSync(join(folder, '.device'))) {
      rmSync(join(folder, '.device', key, 'read-speed.json'), { force: true })
    }
    // How fast the disk is, is measured then as well.
    child({ way: 'service', zoo: folder, model, settles: true }, group)
    const start = (waits: boolean) => {
      forgetCached(folder)
      return child(
        { way: 'runtime', files: [picture], zoo: folder, model, waits, follows: !waits },
        group,
      ) as RuntimeTime
    }
    const times: Record<'begins' | 'waits', RuntimeTime[]> = { begins: [], waits: [] }
    for (let i = 0; i < ROUNDS; i++) {
      times.begins.push(start(false))
      times.waits.push(start(true))
    }
    const middle = (way: keyof typeof times, of: (time: RuntimeTime) => number) => round(median(times[way].map(of)), 1)
    const changed = times.begins.filter(({ choices }, i) => !isDeepStrictEqual(choices, times.waits[i]!.choices)).length
    return {
      part: 'cold-slow-disk',
      model,
      rounds: ROUNDS,
      bytesPerSecond: SLOW_BYTES_PER_SECOND,
      begunWithOthers: changed,
      ms: middle('begins', ({ ms }) => ms),
      waitingMs: middle('waits', ({ ms }) => ms),
      ratio: round(middle('begins', ({ ms }) => ms) / middle('waits', ({ ms }) => ms)),
      plannedAfterMs: middle('begins', ({ followedMs = 0, at }) => followedMs - at.imports),
    }
  } finally {
    rmSync(folder, { recursive: true })
    if (existsSync(group)) rmdirSync(group)
  }
}

/** Everything below a folder goes out of the system's cache. */
function forgetCached(folder: string): void {
  execFileSync('sync')
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((each) => join(folder, each))) {
    if (statSync(path).isFile()) execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'])
  }
}

export interface Feed {
  readonly name: string
  readonly dims: readonly number[]
}

function forgetPlans(zoo: string): void {
  for (const device of readdirSync(join(zoo, '.device')))
    rmSync(join(zoo, '.device', device, 'plans.json'), { force: true })
}

/** @param group in which the process runs, where it is not to run in that of this one */
function child(argument: object, group?: string): Time {
  const script = fileURLToPath(new URL('./runtime-cold-child.mjs', import.meta.url))
  const command = [process.execPath, script, JSON.stringify(argument)]
  const inGroup = ['/bin/sh', '-c', 'echo $$ > "$0"/cgroup.procs && exec "$@"', group!, ...command]
  const [file, ...args] = group ? inGroup : command
  return JSON.parse(execFileSync(file!, args, { encoding: 'utf8' }))
}
