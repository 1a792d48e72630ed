import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { modelId, seededRandom } from '../../src/base/index.ts'
import { openZoo } from '../../src/zoo/index.ts'
import { tinyModel, writePictures } from '../cli/tiny-model.ts'
import { compilePackage } from './compiled.ts'

const KILLS = 50
const compiled = compilePackage()
let folder: string
let file: string
let images: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blockscale-interrupted-'))
  file = join(folder, 'tiny.onnx')
  images = join(folder, 'pictures')
  await writeFile(file, tinyModel())
  await writePictures(images, 40)
})
afterAll(() => {
  compiled.remove()
  return rm(folder, { recursive: true, force: true })
})

const buildArgs = (zoo: string) => [
  'build',
  file,
  '--images',
  images,
  '--blocks',
  '3',
  '--jobs',
  '1',
  '--zoo',
  zoo,
  '--json',
]

interface Ended {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command as a process of its own, at the head of a group of processes; `meanwhile` gets it as it runs. */
function command(argv: readonly string[], meanwhile: (child: ChildProcess) => void = () => {}): Promise<Ended> {
  const options = { cwd: folder, detached: true }
  const child = spawn(process.execPath, [compiled.main, ...argv], options)
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (text) => {
    stdout += text
  })
  child.stderr.on('data', (text) => {
    stderr += text
  })
  meanwhile(child)
  return new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr })))
}

/** CPU time of a process and of all that it has started, in ticks of 10 ms; 0 when it is gone. */
function ticksOf(pid: number): number {
  try {
    // Behind the name, which may hold anything: the 14th to 17th fields, own time and that of children that have ended.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')
    const own = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
    return children.split(' ').reduce((sum, child) => sum + (child ? ticksOf(Number(child)) : 0), own)
  } catch {
    return 0
  }
}

/** Kills a process, and nothing that it has started, once so much CPU time was used: the same moment of its work on a busy machine. */
function killAfter(child: ChildProcess, ticks: number): void {
  const timer = setInterval(() => {
    if (ticksOf(child.pid!) >= ticks) child.kill('SIGKILL')
  }, 20)
  child.once('exit', () => clearInterval(timer))
}

/** What a command has started ends soon after it, however it was ended itself. */
async function expectGroupGone(leader: number): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    try {
      process.kill(-leader, 0)
    } catch {
      return
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  throw new Error('processes of a command that was killed live on after 20 s')
}

/** Names of finished descendants, with the time at which each file was written. */
async function finished(zoo: string): Promise<Map<string, number>> {
  const text = await readFile(join(zoo, 'tiny', 'build.json'), 'utf8').catch(() => '')
  const { entries } = text
    ? (JSON.parse(text.split('\n')[1]!) as { entries: [string, { files: { path: string }[] }][] })
    : { entries: [] }
  const done = new Map<string, number>()
  for (const [key, { files }] of entries) {
    for (const { path } of key.startsWith('made/') ? files : []) {
      done.set(path, (await stat(join(zoo, 'tiny', path))).mtimeMs)
    }
  }
  return done
}

/** Everything that a zoo says it holds is there and whole. */
async function expectValid(dir: string): Promise<number> {
  const zoo = openZoo(dir)
  const models = await zoo.models()
  for (const model of models) {
    const { original, blocks } = await zoo.manifest(model)
    const files = [original, ...blocks.flatMap(({ descendants }) => descendants.map((each) => each.file))]
    for (const each of files) await zoo.verified(model, each)
  }
  if (await stat(zoo.profilesPath).catch(() => undefined)) {
    const database = new Database(zoo.profilesPath)
    expect(database.pragma('integrity_check', { simple: true })).toBe('ok')
    expect(database.pragma('foreign_key_check')).toEqual([])
    database.close()
  }
  return models.length
}

const halfWritten = async (zoo: string) =>
  (await readdir(zoo, { recursive: true })).filter((name) => /\.tmp(\.ort)?$|\.lock$/.test(name))

test(`a build killed at ${KILLS} random moments: the zoo is valid, and what was finished is not made again`, async () => {
  const random = seededRandom(3)
  const whole = join(folder, 'whole')
  let wholeTicks = 0
  const undisturbed = await command(buildArgs(whole), (child) => {
    const timer = setInterval(() => {
      wholeTicks = Math.max(wholeTicks, ticksOf(child.pid!))
    }, 20)
    child.once('exit', () => clearInterval(timer))
  })
  expect(undisturbed).toMatchObject({ code: 0 })
  const expected = await openZoo(whole).manifest(modelId('tiny'))
  const shas = new Map(
    expected.blocks.flatMap(({ id, descendants }) => descendants.map((each) => [`${id}/${each.id}`, each.file.sha256])),
  )

  let zoo = join(folder, 'killed0')
  let kills = 0
  let builds = 0
  let resumedFrom = 0
  while (kills < KILLS) {
    const before = await finished(zoo)
    // Before the first fifth it only reads its own code; beyond the end it is not killed.
    let leader = 0
    const { signal, code } = await command(buildArgs(zoo), (child) => {
      leader = child.pid!
      killAfter(child, wholeTicks * (0.2 + 0.85 * random()))
    })
    await expectGroupGone(leader)
    const isBuilt =
      (await expectValid(zoo).catch((error) => Promise.reject(new Error(`after kill ${kills}: ${error}`)))) > 0
    const after = await finished(zoo)
    if (signal === 'SIGKILL') kills++
    else expect(code).toBe(0)
    if (isBuilt) {
      const { blocks } = await openZoo(zoo).manifest(modelId('tiny'))
      for (const { id, descendants } of blocks) {
        for (const each of descendants) {
          const sha = shas.get(`${id}/${each.id}`)
          if (sha) expect(each.file.sha256, `${id}/${each.id}`).toBe(sha)
        }
      }
      builds++
      zoo = join(folder, `killed${builds}`)
      continue
    }
    if (before.size > 0) resumedFrom++
    for (const [path, writtenAt] of before) expect(after.get(path), `${path} was made again`).toBe(writtenAt)
  }
  const last = await command(buildArgs(zoo))
  expect(last).toMatchObject({ code: 0 })
  expect(await expectValid(zoo)).toBe(1)
  expect(await halfWritten(zoo)).toEqual([])
  console.log(
    `${kills} kills, ${builds} builds finished between them, ${resumedFrom} times resumed; an undisturbed build took ${wholeTicks / 100} s of CPU`,
  )
})

test('two builds at once: the second says who is building, the first ends well', async () => {
  const zoo = join(folder, 'two')
  let second: Promise<Ended> | undefined
  const first = await command(buildArgs(zoo), (child) => {
    child.stderr!.on('data', (text: string) => {
      if (String(text).includes('make descendants')) second ??= command(buildArgs(zoo))
    })
  })
  expect(first).toMatchObject({ code: 0 })
  expect(await second).toMatchObject({ code: 1, stderr: expect.stringMatching(/has been building tiny/) })
  expect(await expectValid(zoo)).toBe(1)
})

/** A small file system of its own, where this machine allows it. */
function mountable(): boolean {
  try {
    const at = join(tmpdir(), `blockscale-mount-${process.pid}`)
    execFileSync('mkdir', ['-p', at])
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=100k', 'blockscale', at], { stdio: 'ignore' })
    execFileSync('umount', [at])
    execFileSync('rmdir', [at])
    return true
  } catch {
    return false
  }
}

describe.skipIf(!mountable())('on a file system of its own (needs the right to mount)', () => {
  test.each([60, 300, 700, 1200])(
    'a disk that is full at %d kB: said plainly, and the next build goes on when there is room',
    async (kB) => {
      const zoo = join(folder, `full${kB}`)
      await mkdir(zoo)
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kB}k`, 'blockscale', zoo])
      try {
        const full = await command(buildArgs(zoo))
        expect(full).toMatchObject({
          code: 1,
          stderr: expect.stringMatching(/disk is full|ZOO_NOT_WRITABLE|DATABASE_FAILED/),
        })
        expect(full.stderr).not.toMatch(/INTERNAL/)
        await expectValid(zoo).catch((error: Error) => expect(error.message).toMatch(/full/))
        const before = await finished(zoo)
        execFileSync('mount', ['-o', 'remount,size=100m', zoo])
        const again = await command(buildArgs(zoo))
        expect(again).toMatchObject({ code: 0 })
        expect((JSON.parse(again.stdout) as { resumed: number }).resumed).toBeGreaterThanOrEqual(before.size)
        expect(await expectValid(zoo)).toBe(1)
        expect(await halfWritten(zoo)).toEqual([])
      } finally {
        execFileSync('umount', ['-l', zoo])
      }
    },
  )

  test('a zoo that cannot be written: what reads goes on, what writes says so', async () => {
    const zoo = join(folder, 'read-only')
    await mkdir(zoo)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=100m', 'blockscale', zoo])
    try {
      expect(await command(buildArgs(zoo))).toMatchObject({ code: 0 })
      execFileSync('mount', ['-o', 'remount,ro', zoo])
      for (const argv of [
        ['models'],
        ['plan', 'tiny'],
        ['inspect', 'descendants'],
        ['eval', 'tiny', '--images', images],
        ['run', 'tiny', images],
      ]) {
        expect(await command([...argv, '--zoo', zoo, '--json']), argv[0]).toMatchObject({ code: 0 })
      }
      const built = await command(buildArgs(zoo))
      expect(built).toMatchObject({ code: 1, stderr: expect.stringMatching(/read-only/) })
      const served = await command(['serve', '--port', '0', '--zoo', zoo, '--json'])
      expect(served).toMatchObject({ code: 1, stderr: expect.stringMatching(/read-only|readonly/) })
    } finally {
      execFileSync('umount', ['-l', zoo])
    }
  })
})

describe('the database', () => {
  let zoo: string
  beforeAll(async () => {
    zoo = join(folder, 'database')
    expect(await command(buildArgs(zoo))).toMatchObject({ code: 0 })
  })

  test('that another process writes to: waited for, and after a while said', async () => {
    const other = new Database(join(zoo, 'profiles.db'))
    other.exec('BEGIN IMMEDIATE')
    try {
      const busy = await command(['profile', 'tiny', '--zoo', zoo, '--json'])
      expect(busy).toMatchObject({ code: 1, stderr: expect.stringMatching(/another process is writing/) })
      expect(await command(['plan', 'tiny', '--zoo', zoo, '--json'])).toMatchObject({ code: 0 })
      const waiting = command(['profile', 'tiny', '--zoo', zoo, '--json'])
      setTimeout(() => other.exec('COMMIT'), 5000)
      expect(await waiting).toMatchObject({ code: 0 })
    } finally {
      other.close()
    }
  })

  test('of a newer version is refused and left as it is', async () => {
    const path = join(zoo, 'profiles.db')
    const version = (set?: number) => {
      const database = new Database(path)
      if (set !== undefined) database.pragma(`user_version = ${set}`)
      const now = database.pragma('user_version', { simple: true }) as number
      database.pragma('wal_checkpoint(TRUNCATE)')
      database.close()
      return now
    }
    const own = version()
    version(999)
    for (const argv of [
      ['plan', 'tiny'],
      ['profile', 'tiny'],
      ['inspect', 'models'],
      ['serve', '--port', '0'],
    ]) {
      const refused = await command([...argv, '--zoo', zoo, '--json'])
      expect(refused, argv[0]).toMatchObject({ code: 1, stderr: expect.stringMatching(/DATABASE_NEWER/) })
    }
    expect(version(own)).toBe(own)
    expect(await command(['plan', 'tiny', '--zoo', zoo, '--json'])).toMatchObject({ code: 0 })
  })
})
