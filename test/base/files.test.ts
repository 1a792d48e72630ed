import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { sha256, sha256OfFile, writeFileAtomic } from '../../src/base/index.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blockscale-test-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

test('a write that fails leaves the old file and nothing beside it', async () => {
  const path = join(folder, 'a', 'b.bin')
  await writeFileAtomic(path, 'old')
  await expect(writeFileAtomic(path, 42 as unknown as string)).rejects.toThrow()
  expect(await readFile(path, 'utf8')).toBe('old')
  expect(await readdir(join(folder, 'a'))).toEqual(['b.bin'])
})

test('the checksum of a file is that of its bytes', async () => {
  const path = join(folder, 'x')
  await writeFileAtomic(path, new Uint8Array([1, 2, 3]))
  expect(await sha256OfFile(path)).toBe(sha256(new Uint8Array([1, 2, 3])))
})
