import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { modelId, seededRandom } from '../../src/base/index.ts'
import { openZoo } from '../../src/zoo/index.ts'
import { tinyModel, writePictures } from '../cli/tiny-model.ts'

const KILLS = 50
const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
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
afterAll(() => rm(folder, { recursive: true, force: true }))

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

/** Runs a command as a process of its own; `meanwhile` gets it as it runs. */
function command(argv: readonly string[], meanwhile: (child: ChildProcess) => void = () => {}): Promise<Ended> {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), main, ...argv], { cwd: folder })
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
  const started = Date.now()
  expect(await command(buildArgs(whole))).toMatchObject({ code: 0 })
  const wholeMs = Date.now() - started
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
    const ms = wholeMs * (0.25 + 0.8 * random())
    const { signal, code } = await command(buildArgs(zoo), (child) => setTimeout(() => child.kill('SIGKILL'), ms))
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
    `${kills} kills, ${builds} builds finished between them, ${resumedFrom} times resumed; an undisturbed build took ${wholeMs} ms`,
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
