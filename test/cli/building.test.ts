import { spawn } from 'node:child_process'
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '../../src/optimizer/index.ts'
import { describeWithAssets } from '../assets.ts'
import { call } from './calling.ts'
import { temporaryFolder, tinyModel, writePictures } from './tiny-model.ts'

const folder = await temporaryFolder()
const zoo = join(folder, 'zoo')
const file = join(folder, 'tiny.onnx')
const images = join(folder, 'pictures')

beforeAll(async () => {
  await writeFile(file, tinyModel())
  await writePictures(images, 60)
  await writeFile(join(images, 'zzz-broken.jpg'), 'no picture')
})

interface Report {
  readonly model: string
  readonly blocks: readonly {
    readonly block: string
    readonly descendants: readonly { readonly descendant: string }[]
  }[]
  readonly options: number
  readonly skipped: readonly { readonly path: string }[]
  readonly resumed: number
}

describe('a bare .onnx, from file to answers', () => {
  test('build prints everything that is guessed, what came of it, and what was left out', async () => {
    const { code, stdout, stderr } = await call(
      'build',
      file,
      '--images',
      images,
      '--zoo',
      zoo,
      '--blocks',
      '2',
      '--recipes',
      'int8',
    )
    expect(stderr).not.toContain('error:')
    expect(code).toBe(0)
    expect(stdout).toMatch(/has no model\.json, so this was guessed/)
    expect(stdout).toMatch(/the input is taken as RGB/)
    expect(stdout).toMatch(/taken as classification: one output of 4 values/)
    expect(stdout).toMatch(/1 left out: .*zzz-broken\.jpg/)
    expect(stdout).toMatch(/tiny: 2 blocks, \d+ models to choose from/)
    expect(stdout).toMatch(/quality of the original: top1-agreement 1/)
    expect(stderr).toMatch(/make descendants \(2\)/)
  })

  test('it is then known by its name, and plans are verified on the pictures of the build', async () => {
    const rows = (await call('models', '--zoo', zoo, '--json')).json<{ model: string; where: string }[]>()
    expect(rows.find(({ model }) => model === 'tiny')).toMatchObject({ where: 'file', built: true })
    const { code, json, stderr } = await call(
      'plan',
      'tiny',
      '--objective',
      'memory',
      '--zoo',
      zoo,
      '--verify',
      '--json',
    )
    expect(stderr).not.toContain('error')
    expect(code).toBe(0)
    const [planned] = json<Plan>().models
    expect(planned!.verified).toEqual({
      quality: expect.any(Number),
      latencyMs: expect.any(Number),
      memoryBytes: expect.any(Number),
    })
    const [kept] = (await call('inspect', 'plans', '--zoo', zoo, '--json')).json<Record<string, unknown>[]>()
    expect(kept).toMatchObject({ model: 'tiny', objective: 'memory', verified_quality: planned!.verified!.quality })
    const why = "SELECT why FROM combinations WHERE why = 'verify'"
    expect((await call('inspect', '--sql', why, '--zoo', zoo, '--json')).json()).toHaveLength(1)
  })

  test('profile measures it again', async () => {
    const { code, json } = await call('profile', 'tiny', '--zoo', zoo, '--json')
    expect(code).toBe(0)
    const measured = json<{ block: string; latencyP50Ms: number }[]>()
    expect(new Set(measured.map(({ block }) => block)).size).toBe(2)
    expect(measured.every(({ latencyP50Ms }) => latencyP50Ms > 0)).toBe(true)
  })

  test('init writes a model.json that build takes, and does not write over one', async () => {
    const out = join(folder, 'package')
    const { code, stdout } = await call('init', file, '--out', out)
    expect(code).toBe(0)
    expect(stdout).toMatch(/This was guessed:\n {2}the input/)
    const card = JSON.parse(await readFile(join(out, 'model.json'), 'utf8')) as Record<string, unknown>
    expect(card).toMatchObject({ id: 'tiny', task: 'classification', file: 'tiny.onnx' })
    expect((await call('init', file, '--out', out)).code).toBe(2)
    expect((await call('init', file, '--out', out, '--force')).code).toBe(0)
    expect((await call('run', out, join(images, '000.png'), '--zoo', join(folder, 'none'))).code).toBe(0)
  })
})

describe('what cannot be built is refused, and nothing is left behind', () => {
  const other = join(folder, 'other-zoo')
  const refused = async (model: string, pictures = images) => {
    const { code, stdout, stderr } = await call('build', model, '--images', pictures, '--zoo', other)
    expect(stdout).toBe('')
    await expect(readdir(other)).rejects.toThrow('ENOENT')
    return `${code} ${stderr}`
  }

  test('a file that is not ONNX, by content and by name', async () => {
    await writeFile(join(folder, 'text.onnx'), 'Once upon a time')
    expect(await refused(join(folder, 'text.onnx'))).toMatch(
      /^1 [\s\S]*error: .*text\.onnx.* not an ONNX model[\s\S]*hint: /,
    )
    await writeFile(join(folder, 'notes.txt'), 'Once upon a time')
    expect(await refused(join(folder, 'notes.txt'))).toMatch(/^1 [\s\S]*notes\.txt is no \.onnx file/)
    expect(await refused(join(folder, 'gone.onnx'))).toMatch(/^1 [\s\S]*there is no file/)
  })

  test('a truncated one', async () => {
    const bytes = await readFile(file)
    await writeFile(join(folder, 'half.onnx'), bytes.subarray(0, bytes.length / 2))
    expect(await refused(join(folder, 'half.onnx'))).toMatch(/^1 [\s\S]*half\.onnx.* truncated/)
  })

  test('a folder without pictures, and one that is not there', async () => {
    const empty = join(folder, 'empty')
    await mkdir(empty, { recursive: true })
    expect(await refused(file, empty)).toMatch(/^1 [\s\S]*empty holds no JPEG, PNG or WebP picture/)
    expect(await refused(file, join(folder, 'nowhere'))).toMatch(/^1 [\s\S]*there is no folder/)
    const { code, stderr } = await call('build', file, '--zoo', other)
    expect([code, stderr]).toEqual([2, expect.stringMatching(/no pictures are given for tiny[\s\S]*--images/)])
  })

  describeWithAssets('with the broken models of the assets folder', (assets) => {
    test('no operator set, and operators that nobody has', async () => {
      expect(await refused(join(assets, 'models/broken/no-opset.onnx'))).toMatch(/^1 [\s\S]*names no operator set/)
      expect(await refused(join(assets, 'models/broken/custom-ops.onnx'))).toMatch(
        /^1 [\s\S]*DecodeImage[\s\S]*not a registered/,
      )
    })
  })
})

test('an interrupted build says so and ends with 130; the next one takes over what was finished', async () => {
  const zoo = join(folder, 'interrupted-zoo')
  const again = join(folder, 'again.onnx')
  await copyFile(file, again)
  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
  const build = ['build', again, '--images', images, '--zoo', zoo, '--blocks', '3', '--jobs', '1', '--recipes', 'prune']
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), main, ...build], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (text) => {
    stderr += text
    // as soon as a few descendants are there
    if ((stderr.match(/^ {2}b\d /gm) ?? []).length >= 2) child.kill('SIGINT')
  })
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
    child.once('close', (...how) => resolve(how)),
  )
  expect([code, signal]).toEqual([130, null])
  expect(stderr).toMatch(/interrupted: .*the next build of the same model goes on from there/)
  const report = await call(...build, '--json')
  expect(report.code).toBe(0)
  expect(report.json<Report>().resumed).toBeGreaterThanOrEqual(1)
  expect(report.json<Report>().skipped.map(({ path }) => path)).toEqual([join(images, 'zzz-broken.jpg')])
  const left = await readdir(zoo, { recursive: true })
  expect(left.filter((name) => name.endsWith('.tmp'))).toEqual([])
})
