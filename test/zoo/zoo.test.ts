import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { chmod, readdir, readFile, rename, symlink, utimes, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text as textOf } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { blockId, descendantId, modelId } from '../../src/base/index.ts'
import { type ManifestBlock, openZoo, type ZooFile } from '../../src/zoo/index.ts'
import { formatManifest } from '../../src/zoo/manifest-file.ts'
import { buildSample, temporaryFolder } from './sample.ts'

const sample = modelId('sample')
const b0 = blockId('b0')
const failsWith = (code: string, text?: RegExp) =>
  expect.objectContaining(text ? { code, message: expect.stringMatching(text) } : { code })

describe('a zoo gives back what was written, and nothing else', async () => {
  const zoo = openZoo(await temporaryFolder())
  const manifest = await buildSample(zoo)
  const file = manifest.blocks[0]!.descendants[0]!.file

  it('the manifest and every file', async () => {
    expect(await zoo.models()).toEqual(['sample'])
    expect(await zoo.manifest(sample)).toEqual(manifest)
    expect(Buffer.from(await zoo.load(sample, file)).toString()).toBe('block 0 as original')
    expect(await zoo.verified(sample, file)).toBe(join(zoo.dir, 'sample/blocks/b0/original.onnx'))
  })

  it('detects every damaged byte of a block file, also where it was read before', async () => {
    const path = zoo.path(sample, file)
    const whole = await readFile(path)
    for (let i = 0; i < whole.length; i++) {
      const bytes = Buffer.from(whole)
      bytes[i]! ^= 1 << (i % 8)
      await writeFile(path, bytes)
      await expect(zoo.load(sample, file)).rejects.toEqual(failsWith('ZOO_DAMAGED', /original\.onnx/))
      await expect(zoo.verified(sample, file)).rejects.toEqual(failsWith('ZOO_DAMAGED'))
      await writeFile(path, whole)
      await zoo.load(sample, file)
    }
  })

  it('detects a change after the file was found right and has settled, with its old times put back', async () => {
    const path = zoo.path(sample, file)
    await new Promise((done) => setTimeout(done, 2100))
    await zoo.verified(sample, file)
    const whole = await readFile(path)
    await writeFile(path, Buffer.from(whole).fill(0))
    await utimes(path, new Date(0), new Date(0))
    await expect(zoo.verified(sample, file)).rejects.toEqual(failsWith('ZOO_DAMAGED'))
    await writeFile(path, whole)
  })

  it('detects truncated, missing and swapped files, each by name', async () => {
    const path = zoo.path(sample, file)
    const other = manifest.blocks[1]!.descendants[0]!.file
    const whole = await readFile(path)
    await writeFile(path, whole.subarray(0, 5))
    await expect(zoo.load(sample, file)).rejects.toEqual(failsWith('ZOO_DAMAGED', /original\.onnx has 5 bytes/))
    await rename(path, `${path}.away`)
    await expect(zoo.load(sample, file)).rejects.toEqual(failsWith('ZOO_DAMAGED', /is missing/))
    await rename(zoo.path(sample, other), path)
    await expect(zoo.load(sample, file)).rejects.toEqual(failsWith('ZOO_DAMAGED', /checksum/))
    await rename(path, zoo.path(sample, other))
    await rename(`${path}.away`, path)
  })

  it('detects every damaged byte of a manifest that changes what it says', async () => {
    const path = join(zoo.dir, 'sample/manifest.json')
    const whole = await readFile(path)
    for (let i = 0; i < whole.length; i += 3) {
      const bytes = Buffer.from(whole)
      bytes[i]! ^= 4
      await writeFile(path, bytes)
      await expect(zoo.manifest(sample)).rejects.toEqual(failsWith('ZOO_DAMAGED', /manifest\.json/))
    }
    await writeFile(path, whole)
  })

  it('detects a manifest whose blocks make no whole model, although its checksum is right', async () => {
    const path = join(zoo.dir, 'sample/manifest.json')
    const whole = await readFile(path)
    const [first, second] = manifest.blocks as [ManifestBlock, ManifestBlock]
    for (const blocks of [[first], [second], [second, first], []]) {
      await writeFile(path, formatManifest({ ...manifest, blocks }))
      await expect(zoo.manifest(sample)).rejects.toEqual(failsWith('ZOO_DAMAGED', /manifest\.json/))
    }
    await writeFile(path, whole)
  })

  it('follows no path and no link out of the folder of the model', async () => {
    for (const path of ['../other/x.onnx', '/etc/passwd', 'blocks/../../x', 'a\\b', '', 'a//b', '.']) {
      const outside: ZooFile = { ...file, path }
      await expect(zoo.load(sample, outside)).rejects.toEqual(failsWith('ZOO_DAMAGED'))
    }
    await symlink('/etc/hostname', join(zoo.dir, 'sample/link.onnx'))
    await expect(zoo.load(sample, { ...file, path: 'link.onnx' })).rejects.toEqual(failsWith('ZOO_DAMAGED', /link/))
  })

  it('says of an unknown model what there is', async () => {
    await expect(zoo.manifest(modelId('absent'))).rejects.toMatchObject({
      code: 'MODEL_UNKNOWN',
      hint: expect.stringContaining('sample'),
    })
    await expect(zoo.manifest(modelId('../sample'))).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' })
    expect(await openZoo(join(zoo.dir, 'nowhere')).models()).toEqual([])
  })

  it('a manifest that could not be read back is not written', async () => {
    const broken = { ...manifest, blocks: [] }
    await expect(zoo.writeManifest(broken)).rejects.toEqual(failsWith('ZOO_DAMAGED'))
    expect(await zoo.manifest(sample)).toEqual(manifest)
  })
})

const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
const door = new URL('../../src/zoo/index.ts', import.meta.url).href
const run = (code: string) =>
  spawn(
    process.execPath,
    ['--import', tsx, '--input-type=module', '-e', `import { openZoo } from '${door}'\n${code}`],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )

describe('interrupted', () => {
  it('a killed write leaves the old file, and the next build removes what was half-written', async () => {
    const zoo = openZoo(await temporaryFolder())
    const { blocks } = await buildSample(zoo)
    const writer = run(`
      const zoo = openZoo(${JSON.stringify(zoo.dir)})
      process.stdout.write('go')
      for (;;) await zoo.writeBlock('sample', 'b9', 'd', new Uint8Array(64e6).fill(Math.random() * 256))`)
    await once(writer.stdout, 'data')
    const folder = join(zoo.dir, 'sample/blocks/b9')
    const pause = () => new Promise((done) => setTimeout(done, 5))
    // Held still while it is looked at, so that what is half-written then is so when the writer is killed.
    for (;;) {
      writer.kill('SIGSTOP')
      await pause()
      if (existsSync(folder) && (await readdir(folder)).some((name) => name.endsWith('.tmp'))) break
      writer.kill('SIGCONT')
      await pause()
    }
    writer.kill('SIGKILL')
    await once(writer, 'exit')
    const left = await readdir(folder)
    expect(left.some((name) => name.endsWith('.tmp'))).toBe(true)
    const lock = await zoo.lock(sample)
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([])
    await zoo.load(sample, blocks[0]!.descendants[0]!.file)
    await lock.release()
  })

  it('a journal goes on where it stopped, and not with a damaged file or other options', async () => {
    const zoo = openZoo(await temporaryFolder())
    const { blocks } = await buildSample(zoo)
    const file = blocks[0]!.descendants[1]!.file
    const first = await zoo.journal(sample, 'options A')
    await Promise.all([first.put('b0/prune50', { loss: 0.25 }, [file]), first.put('b0/drop', { why: 'too far' })])
    const again = await zoo.journal(sample, 'options A')
    expect(await again.get('b0/prune50')).toEqual({ loss: 0.25 })
    expect(await again.get('b0/drop')).toEqual({ why: 'too far' })
    expect(await again.get('b1/prune50')).toBeUndefined()
    expect(await (await zoo.journal(sample, 'options B')).get('b0/drop')).toBeUndefined()
    await writeFile(zoo.path(sample, file), 'damaged')
    expect(await again.get('b0/prune50')).toBeUndefined()
    const path = join(zoo.dir, 'sample/build.json')
    await writeFile(path, (await readFile(path, 'utf8')).replace('too far', 'too fat'))
    expect(await (await zoo.journal(sample, 'options A')).get('b0/drop')).toBeUndefined()
    await again.clear()
    expect(existsSync(path)).toBe(false)
  })
})

describe('two builds', () => {
  it('the second is refused, in this process and in another, until the first ends', async () => {
    const zoo = openZoo(await temporaryFolder())
    const lock = await zoo.lock(sample)
    await expect(zoo.lock(modelId('other'))).rejects.toEqual(failsWith('ZOO_LOCKED', /sample/))
    const other = run(
      `await openZoo(${JSON.stringify(zoo.dir)}).lock('sample').catch((e) => process.exit(e.code === 'ZOO_LOCKED' ? 42 : 1))`,
    )
    expect((await once(other, 'exit'))[0]).toBe(42)
    await lock.release()
    await (await zoo.lock(sample)).release()
  })

  it('of many that come at once at most one holds the lock at a time', async () => {
    const zoo = openZoo(await temporaryFolder())
    let held = 0
    let most = 0
    const attempts = Array.from({ length: 12 }, async () => {
      const lock = await zoo.lock(sample)
      most = Math.max(most, ++held)
      await new Promise((done) => setTimeout(done, 2))
      held--
      await lock.release()
    })
    const results = await Promise.allSettled(attempts)
    expect(most).toBe(1)
    expect(results.some(({ status }) => status === 'fulfilled')).toBe(true)
  })

  it('the lock of a builder that was killed is taken over', async () => {
    const zoo = openZoo(await temporaryFolder())
    const holder = run(`
      await openZoo(${JSON.stringify(zoo.dir)}).lock('sample')
      process.stdout.write('held')
      setInterval(() => {}, 1000)`)
    await once(holder.stdout, 'data')
    await expect(zoo.lock(sample)).rejects.toEqual(failsWith('ZOO_LOCKED', new RegExp(`process ${holder.pid}`)))
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    await (await zoo.lock(sample)).release()
  })
})

describe('compiled for a device', async () => {
  const zoo = openZoo(await temporaryFolder())
  const manifest = await buildSample(zoo)
  const file = manifest.blocks[0]!.descendants[0]!.file
  const compile = (to: string) => writeFile(to, 'compiled')

  it('is made once, and made anew when it is damaged', async () => {
    let made = 0
    const counted = (to: string) => {
      made++
      return compile(to)
    }
    expect(await zoo.compiled('x64-1', file)).toBeUndefined()
    const path = await zoo.compile('x64-1', file, counted)
    expect(await zoo.compile('x64-1', file, counted)).toBe(path)
    expect(made).toBe(1)
    await writeFile(path, 'compelled')
    expect(await zoo.compiled('x64-1', file)).toBeUndefined()
    await zoo.compile('x64-1', file, counted)
    expect([made, await readFile(path, 'utf8')]).toEqual([2, 'compiled'])
    expect(await readdir(zoo.deviceFolder('x64-1'))).toHaveLength(2)
  })

  it('leaves nothing when compiling fails, and goes with its model', async () => {
    const other = manifest.blocks[1]!.descendants[0]!.file
    await expect(zoo.compile('x64-1', other, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await readdir(zoo.deviceFolder('x64-1'))).toHaveLength(2)
    await zoo.remove(sample)
    expect(await readdir(zoo.deviceFolder('x64-1'))).toEqual([])
    expect(await zoo.models()).toEqual([])
    await expect(zoo.manifest(sample)).rejects.toEqual(failsWith('MODEL_UNKNOWN'))
  })
})

describe('a zoo that cannot be written', () => {
  it('a read-only folder: says so, and still reads', async () => {
    const zoo = openZoo(await temporaryFolder())
    const { blocks } = await buildSample(zoo)
    const folders = [zoo.dir, ...['', 'blocks', 'blocks/b0'].map((name) => join(zoo.dir, 'sample', name))]
    for (const folder of folders) await chmod(folder, 0o555)
    // The administrator may write everywhere, so the attempt is made by somebody else.
    const asNobody =
      process.getuid?.() === 0 ? 'process.setgroups([]); process.setgid(65534); process.setuid(65534)' : ''
    const child = run(`
      const zoo = openZoo(${JSON.stringify(zoo.dir)})
      ${asNobody}
      const code = (error) => error.code
      const file = ${JSON.stringify(blocks[0]!.descendants[0]!.file)}
      console.log(
        await zoo.writeBlock('sample', 'b0', 'd', new Uint8Array(4)).catch(code),
        await zoo.lock('sample').catch(code),
        (await zoo.load('sample', file)).length)`)
    const text = await textOf(child.stdout)
    expect(text.trim()).toBe('ZOO_NOT_WRITABLE ZOO_NOT_WRITABLE 19')
    for (const folder of folders) await chmod(folder, 0o755)
  })

  const disk = smallDisk()
  it.skipIf(!disk)('a full disk: says so, leaves nothing half-written, and keeps what was there', async () => {
    const zoo = openZoo(join(disk!, 'zoo'))
    const manifest = await buildSample(zoo)
    const big = zoo.writeBlock(sample, b0, descendantId('original'), new Uint8Array(4e6))
    await expect(big).rejects.toEqual(failsWith('ZOO_NOT_WRITABLE', /full/))
    expect(await readdir(join(zoo.dir, 'sample/blocks/b0'))).toEqual(['original.onnx', 'prune50.onnx'])
    await zoo.load(sample, manifest.blocks[0]!.descendants[0]!.file)
  })
})

/** A disk of one megabyte, where the tests may mount one. */
function smallDisk(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'blockscale-disk-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder]).status === 0
  afterAll(() => {
    if (mounted) spawnSync('umount', [folder])
    rmSync(folder, { recursive: true, force: true })
  })
  return mounted ? folder : undefined
}
