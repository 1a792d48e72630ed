import { existsSync, statSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { sha256 } from '../../src/base/index.ts'
import { findModel, listModels, pull } from '../../src/zoo/index.ts'
import { temporaryFolder } from './sample.ts'

const content = Buffer.alloc(300_000, 'a model of the catalogue ')
const cardOf = (id: string, source: object) => ({
  id,
  task: 'classification',
  file: 'model.onnx',
  source: { sha256: sha256(content), bytes: content.length, licence: 'MIT', ...source },
  input: { name: 'x', size: [8, 8] },
  output: { decoder: 'softmax', labels: 'names.txt' },
})

/** A server that knows ranges, and cuts the connection after `cutAfter` bytes, once some of them are in the file at `part`. */
async function serve(state: {
  cutAfter?: number | undefined
  part: string
  body: Buffer
  ranges: (string | undefined)[]
}) {
  const isKept = () => existsSync(state.part) && statSync(state.part).size > 0
  const server = createServer((request, response) => {
    const range = request.headers.range
    state.ranges.push(range)
    const start = range ? Number(/bytes=(\d+)-/.exec(range)![1]) : 0
    const rest = state.body.subarray(start)
    response.writeHead(range ? 206 : 200, { 'content-length': rest.length })
    if (state.cutAfter === undefined) response.end(rest)
    else {
      response.write(rest.subarray(0, state.cutAfter))
      const look = setInterval(() => isKept() && response.destroy(), 10)
      response.once('close', () => clearInterval(look))
    }
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  afterAll(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/net.onnx`
}

describe('models before they are built', async () => {
  const folder = await temporaryFolder()
  const places = { zoo: join(folder, 'zoo'), bundled: join(folder, 'model-zoo') }
  const part = join(places.zoo, 'models/net/model.onnx.part')
  const state = { cutAfter: undefined as number | undefined, part, body: content, ranges: [] as (string | undefined)[] }
  const url = await serve(state)
  await mkdir(join(places.bundled, 'catalog'), { recursive: true })
  await mkdir(join(places.bundled, 'shipped'))
  const catalogue = join(places.bundled, 'catalog')
  await writeFile(join(catalogue, 'names.txt'), 'cat\ndog\n')
  await writeFile(join(catalogue, 'net.json'), JSON.stringify(cardOf('net', { url })))
  await writeFile(join(catalogue, 'offline.json'), JSON.stringify(cardOf('offline', {})))
  const { source: _, ...shipped } = cardOf('shipped', {})
  await writeFile(join(places.bundled, 'shipped/model.json'), JSON.stringify({ ...shipped, sha256: sha256('x') }))
  await writeFile(join(places.bundled, 'shipped/names.txt'), 'cat\ndog\n')
  await writeFile(join(places.bundled, 'shipped/model.onnx'), 'x')

  it('are listed, installed or not', async () => {
    const list = await listModels(places)
    expect(list.map(({ id, where }) => `${id} ${where}`)).toEqual([
      'net catalogue',
      'offline catalogue',
      'shipped bundled',
    ])
    expect(await findModel('shipped', places)).toMatchObject({
      id: 'shipped',
      card: { output: { labels: ['cat', 'dog'] } },
    })
    await expect(findModel('net', places)).rejects.toMatchObject({
      code: 'MODEL_UNKNOWN',
      hint: expect.stringContaining('pull net'),
    })
    await expect(findModel('nothing', places)).rejects.toMatchObject({
      code: 'MODEL_UNKNOWN',
      hint: expect.stringContaining('shipped'),
    })
  })

  it('a download that breaks off goes on where it stopped', async () => {
    state.cutAfter = 100_000
    await expect(pull('net', places)).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED' })
    const { size } = await stat(part)
    expect(size).toBeGreaterThan(0)
    expect(size).toBeLessThan(content.length)
    state.cutAfter = undefined
    let fetched = 0
    const progress = {
      step() {},
      note() {},
      advance(bytes = 0) {
        fetched += bytes
      },
    }
    const found = await pull('net', { ...places, progress })
    expect(state.ranges.at(-1)).toBe(`bytes=${size}-`)
    expect(fetched).toBe(content.length)
    expect(content.equals(await readFile(found.file))).toBe(true)
    expect((await findModel('net', places)).card?.output).toMatchObject({ labels: ['cat', 'dog'] })
    expect((await listModels(places)).find(({ id }) => id === 'net')?.where).toBe('pulled')
    const asked = state.ranges.length
    await pull('net', places)
    expect(state.ranges.length).toBe(asked)
  })

  it('a wrong checksum is refused and removed', async () => {
    const zoo = join(folder, 'other')
    state.body = Buffer.from(content).fill(0, 5, 6)
    await expect(pull('net', { ...places, zoo })).rejects.toMatchObject({ code: 'CHECKSUM_MISMATCH' })
    expect(existsSync(join(zoo, 'models/net/model.onnx.part'))).toBe(false)
    await expect(findModel('net', { ...places, zoo })).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' })
    state.body = content
  })

  it('a file from a folder is known by its checksum, not its name', async () => {
    const from = join(folder, 'downloads')
    await mkdir(join(from, 'deep'), { recursive: true })
    await writeFile(join(from, 'net.onnx'), Buffer.from(content).fill(0, 5, 6))
    await expect(pull('offline', places)).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED' })
    await expect(pull('offline', { ...places, from })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await writeFile(join(from, 'deep/other-name.bin'), content)
    expect((await pull('offline', { ...places, from })).id).toBe('offline')
  })

  it('a package whose file is another one is refused, a damaged installed model is fetched again', async () => {
    const { file } = await findModel('net', places)
    await writeFile(file, 'short')
    await expect(findModel('net', places)).rejects.toMatchObject({ code: 'CHECKSUM_MISMATCH' })
    await pull('net', places)
    expect(content.equals(await readFile(file))).toBe(true)
  })

  it('a bare file is known by its name without the ending', async () => {
    const file = join(folder, 'My_net.v2.onnx')
    await writeFile(file, 'x')
    expect(await findModel(file)).toEqual({ id: 'My_net.v2', file, folder })
    await writeFile(join(folder, 'a b.onnx'), 'x')
    await expect(findModel(join(folder, 'a b.onnx'))).rejects.toMatchObject({ code: 'USAGE' })
    await expect(findModel(join(folder, 'none.onnx'))).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})
