import { copyFile, cp, mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { expect } from 'vitest'
import { seededRandom, sha256 } from '../../src/base/index.ts'
import { openRuntime, type Runtime } from '../../src/runtime/index.ts'
import { black, buildMini, sumOf } from './mini-zoo.ts'

/** A zoo with two models, compiled as they are served, and a copy of it as it was before anything was damaged. */
export interface DamagedZoo {
  readonly dir: string
  readonly runtime: Runtime
  /** Damages one place of model `one` or of the device cache. @returns what was done, to which file */
  damage(random: () => number): Promise<Damaged>
  /** Puts everything back as it was. */
  mend(): Promise<void>
}

export interface Damaged {
  readonly how: string
  readonly file: string
}

const pick = <T>(random: () => number, items: readonly T[]): T => items[Math.floor(random() * items.length)]!

/** @param dir an empty folder */
export async function openDamagedZoo(dir: string): Promise<DamagedZoo> {
  const zoo = join(dir, 'zoo')
  const kept = join(dir, 'kept')
  await buildMini(zoo, 'one')
  await buildMini(zoo, 'two')
  const first = await openRuntime({ zoo, workers: 1, models: ['one', 'two'] })
  await first.close()
  await rm(join(zoo, 'workloads.json'))
  await cp(zoo, kept, { recursive: true })
  const runtime = await openRuntime({ zoo, workers: 1, models: ['two'] })
  return {
    dir: zoo,
    runtime,
    async damage(random) {
      const own = await filesBelow(join(zoo, 'one'))
      const cache = await filesBelow(join(zoo, '.device'))
      const manifest = join(zoo, 'one', 'manifest.json')
      const file = random() < 0.15 ? manifest : pick(random, random() < 0.6 ? own : cache)
      const how = pick(random, file === manifest ? Object.keys(forManifests) : Object.keys(forFiles))
      await { ...forFiles, ...forManifests }[how]!(file, random, [...own, ...cache])
      // A descendant is only asked for where nothing compiled of it is left.
      if (file.endsWith('.onnx') && random() < 0.8) await removeBusy(join(zoo, '.device'))
      return { how, file: relative(zoo, file) }
    },
    async mend() {
      await rm(join(zoo, 'one'), { recursive: true, force: true })
      await removeBusy(join(zoo, '.device'))
      await copyBusy(join(kept, 'one'), join(zoo, 'one'))
      await copyBusy(join(kept, '.device'), join(zoo, '.device'))
    },
  }
}

/** A folder into which what is compiled in the background may be written meanwhile. */
export const removeBusy = (path: string): Promise<void> =>
  rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })

/** Into a folder of that kind: file by file, each put in its place in one step. */
export async function copyBusy(from: string, to: string): Promise<void> {
  for (const file of await filesBelow(from)) {
    const path = join(to, relative(from, file))
    await mkdir(dirname(path), { recursive: true })
    await copyFile(file, `${path}.copied`)
    await rename(`${path}.copied`, path)
  }
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort()
}

type Change = (file: string, random: () => number, others: readonly string[]) => Promise<void>

const forFiles: Readonly<Record<string, Change>> = {
  async 'a bit flipped'(file, random) {
    const bytes = await readFile(file)
    if (bytes.length > 0) bytes[Math.floor(random() * bytes.length)]! ^= 1 << Math.floor(random() * 8)
    await writeFile(file, bytes)
  },
  'cut off': async (file, random) => truncate(file, Math.floor(random() * (await stat(file)).size)),
  emptied: (file) => truncate(file, 0),
  gone: (file) => rm(file),
  async 'another file in its place'(file, random, others) {
    await cp(
      pick(
        random,
        others.filter((other) => other !== file),
      ),
      file,
    )
  },
  async 'more at its end'(file) {
    await writeFile(file, Buffer.concat([await readFile(file), Buffer.alloc(16, 1)]))
  },
  async 'a folder in its place'(file) {
    await rm(file)
    await mkdir(file)
  },
}

/** Manifests that are as their own checksum says, and wrong all the same. */
const forManifests: Readonly<Record<string, Change>> = {
  'a bit flipped': forFiles['a bit flipped']!,
  'cut off': forFiles['cut off']!,
  gone: forFiles.gone!,
  'another checksum in it': rewritten((manifest) => {
    for (const { descendants } of manifest.blocks) descendants[0]!.file.sha256 = 'f'.repeat(64)
  }),
  'a path that leads out': rewritten((manifest) => {
    manifest.blocks[0]!.descendants[0]!.file.path = '../two/original.onnx'
  }),
  'the files of two blocks changed over': rewritten(({ blocks }) => {
    const [a, b] = [blocks[0]!.descendants[0]!, blocks[1]!.descendants[0]!]
    ;[a.file, b.file] = [b.file, a.file]
  }),
  'a block missing': rewritten((manifest) => {
    manifest.blocks.pop()
  }),
}

interface LooseManifest {
  blocks: { descendants: { file: { path: string; sha256: string } }[] }[]
}

function rewritten(change: (manifest: LooseManifest) => void): Change {
  return async (file) => {
    const { checksum: _, ...manifest } = JSON.parse(await readFile(file, 'utf8')) as LooseManifest & {
      checksum: string
    }
    change(manifest)
    await writeFile(file, JSON.stringify({ ...manifest, checksum: sha256(JSON.stringify(manifest)) }))
  }
}

/** Whether a model gives the answer of the descendants that are said to have given it. */
export async function answersRightly(runtime: Runtime, model: string): Promise<boolean> {
  const { answer, choices } = await runtime.predict(model, black)
  return answer.task === 'generic' && Number(answer.outputs.y?.data[0]) === sumOf(choices)
}

/**
 * Damages one place after another. Each time model `one` is served rightly or refused by name, and model `two` goes on.
 *
 * @returns how many of them were served all the same
 */
export async function expectDetected(zoo: DamagedZoo, places: number, seed: number): Promise<number> {
  let served = 0
  const random = seededRandom(seed)
  for (let place = 0; place < places; place++) {
    await zoo.runtime.unload('one')
    await zoo.mend()
    const { how, file } = await zoo.damage(random)
    const outcome = await zoo.runtime.load('one').then(
      async () => ((await answersRightly(zoo.runtime, 'one')) ? 'served' : 'wrong answer'),
      (error: { code: string; message: string }) => `${error.code} ${error.message}`,
    )
    if (outcome === 'served') served++
    expect(outcome, `${file}: ${how}`).toMatch(
      /^served$|^(ZOO_DAMAGED|MODEL_UNKNOWN|GRAPH_INVALID|PLAN_INVALID) .*\bone\b/,
    )
    expect(await answersRightly(zoo.runtime, 'two'), `${file}: ${how}`).toBe(true)
  }
  return served
}
