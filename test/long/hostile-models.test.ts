import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import type * as Pipeline from '../../src/pipeline/index.ts'
import { assets } from '../assets.ts'
import { tinyModel, writePictures } from '../cli/tiny-model.ts'
import { DESERVED, guardedFolder, LIMITS, openMutants, watchChildren } from '../pipeline/hostile.ts'
import { compilePackage } from './compiled.ts'

const MUTANTS = 500
const compiled = compilePackage()
afterAll(() => compiled.remove())

/** Small real networks: those that ship, and those of the assets folder where it is there. */
async function originals(): Promise<Uint8Array[]> {
  const bundled = ['road-signs', 'sign-detector', 'upscaler-x2'].map((name) =>
    fileURLToPath(new URL(`../../model-zoo/${name}/model.onnx`, import.meta.url)),
  )
  const others = ['mnist', 'cifar10-resnet20', 'fsrcnn-x2', 'yunet-n-320', 'fastestdet'].map((name) =>
    join(assets ?? '', 'models', `${name}.onnx`),
  )
  const files = [...bundled, ...others.filter((file) => assets && existsSync(file))]
  return [tinyModel(), ...(await Promise.all(files.map(async (file) => new Uint8Array(await readFile(file)))))]
}

/** What the command `build` ends with for a file: its exit code, or the signal that ended it. */
function buildOf(file: string, pictures: string, zoo: string): Promise<number | string | null> {
  const argv = ['build', file, '--images', pictures, '--zoo', zoo, '--recipes', 'int8', '--time-limit', '20s']
  const child = spawn(process.execPath, [compiled.main, ...argv], { stdio: 'ignore' })
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)))
}

test(`${MUTANTS} damaged and hostile models: refused with a reason or harmless`, async () => {
  const guarded = await guardedFolder()
  const pictures = join(guarded.folder, 'pictures')
  await writePictures(pictures, 24)
  const ended: (number | string | null)[] = []
  const started = Date.now()
  // Those that could be built are built, a few of them: nothing that comes after the first opening crashes either.
  const buildSome = async (file: string, seed: number) => {
    if (seed % 4 !== 0 || ended.length >= 15) return
    const zoo = join(guarded.folder, `zoo${seed}`)
    ended.push(await buildOf(file, pictures, zoo))
    await rm(zoo, { recursive: true, force: true })
  }
  const seeds = Array.from({ length: MUTANTS }, (_, seed) => seed)
  const peakOfChildren = watchChildren()
  // As compiled: its processes start in a third of the time.
  const { prepareApart } = (await import(join(compiled.folder, 'dist/pipeline/index.js'))) as typeof Pipeline
  const how = new Map<string, number>()
  const prepare: typeof prepareApart = async (...given) => {
    const outcome = await prepareApart(...given).then(
      (prepared) => ({ prepared, code: 'harmless' }),
      (error) => ({ error, code: String(error.code) }),
    )
    how.set(outcome.code, (how.get(outcome.code) ?? 0) + 1)
    const opened = [...how.values()].reduce((sum, count) => sum + count, 0)
    if (opened % 50 === 0) console.log(`${opened} opened: ${[...how].map((each) => each.join(' ')).join(', ')}`)
    if ('error' in outcome) throw outcome.error
    return outcome.prepared
  }
  const outcomes = await openMutants(guarded.folder, await originals(), seeds, LIMITS, buildSome, prepare)
  const peakBytes = peakOfChildren()
  expect(outcomes.filter(({ code }) => !DESERVED.has(code))).toEqual([])
  expect(outcomes).toHaveLength(MUTANTS)
  // Stopping a process takes a moment more than its limit.
  expect(outcomes.filter(({ ms }) => ms > LIMITS.timeMs + 10_000)).toEqual([])
  // Between two looks of the process at itself it may take some more.
  expect(peakBytes).toBeLessThan(1.3 * LIMITS.memoryBytes)
  const wasRead = await guarded.wasRead()
  expect(wasRead).not.toBe(true)
  expect(ended.filter((how) => how !== 0 && how !== 1)).toEqual([])
  const harmless = outcomes.filter(({ code }) => code === undefined).length
  const stopped = outcomes.filter(({ message }) => message?.includes('and was stopped')).length
  const crashed = outcomes.filter(({ message }) => message?.includes('crashed')).length
  console.log(
    `${outcomes.length} mutants: ${harmless} harmless, ${stopped} stopped at a limit, ${crashed} crashed their own process, ` +
      `the rest refused; at most ${Math.round(peakBytes / 1e6)} MB; the file beside them ${wasRead === undefined ? 'cannot be watched here' : 'was not read'}; builds ended with ${ended.join(' ')}; ${Math.round((Date.now() - started) / 1000)} s`,
  )
  await guarded.remove()
})
