import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { openSession } from '../../src/engine/index.ts'
import {
  type Effort,
  type Measurement,
  measureDescendants,
  measureWholes,
  openProfiles,
  thisDevice,
} from '../../src/profiles/index.ts'
import { latencies, ratioOf, sharedOut, undisturbed } from '../../src/profiles/latency.ts'
import { openZoo } from '../../src/zoo/index.ts'
import { describeWithAssets } from '../assets.ts'
import { buildSample, temporaryFolder } from '../zoo/sample.ts'
import { network, picture } from './network.ts'
import { sample } from './sample.ts'

const effort: Effort = { leastRounds: 7, mostRounds: 20, sliceMs: 15 }

describe('descendants on this machine', async () => {
  const zoo = openZoo(join(await temporaryFolder(), 'zoo'))
  const manifest = await buildSample(zoo, 'sample', 2, (block, descendant) =>
    network(32 << block, descendant === 'original' ? 128 : 16),
  )
  const jobs = manifest.blocks.map((block, b) => ({
    model: sample,
    block,
    size: [8, 8] as const,
    feeds: [{ x: picture(32 << b, 24) }],
  }))
  const device = thisDevice()
  let rows: Measurement[]
  beforeAll(async () => {
    rows = await measureDescendants(jobs, { zoo, device, effort })
  })

  it('every descendant of every block has its costs, and they fit into the database', () => {
    expect(rows.map(({ block, descendant }) => `${block} ${descendant}`)).toEqual([
      'b0 original',
      'b0 prune50',
      'b1 original',
      'b1 prune50',
    ])
    for (const row of rows) {
      expect(row.latencyP95Ms).toBeGreaterThanOrEqual(row.latencyP50Ms)
      expect(Math.min(row.latencyP50Ms, row.loadMs)).toBeGreaterThan(0)
      expect(row.samples).toBeGreaterThanOrEqual(2 * effort.leastRounds)
    }
    const store = openProfiles(zoo.profilesPath)
    store.saveModel(manifest)
    store.saveDevice(device)
    store.saveMeasurements(rows)
    expect(store.measurements({ model: sample, device: device.key })).toEqual(rows)
    store.close()
  })

  it('an eighth of the work takes clearly less time, and less memory by its weights', () => {
    for (const [original, small] of [rows.slice(0, 2), rows.slice(2)] as [Measurement, Measurement][]) {
      expect(small!.latencyP50Ms / original!.latencyP50Ms).toBeLessThan(0.5)
      if (original!.memoryMethod === 'rss') continue
      const channels = original!.block === 'b0' ? 32 : 64
      const weights = 4 * 2 * 9 * channels * (128 - 16)
      const memory = (row: Measurement): number => row.anonymousBytes + row.mappedBytes
      expect(memory(original!) - memory(small!)).toBeGreaterThan(0.9 * weights)
      expect(memory(original!)).toBeLessThan(8 * weights)
    }
  })

  it('the second time finds everything compiled', async () => {
    const folder = zoo.deviceFolder(device.key)
    const before = await readdir(folder)
    expect(before.filter((name) => name.endsWith('.ort'))).toHaveLength(4)
    await measureDescendants(jobs.slice(0, 1), { zoo, device, effort: { leastRounds: 1, mostRounds: 1, sliceMs: 1 } })
    expect(await readdir(folder)).toEqual(before)
  })

  it('a damaged file is refused before ONNX Runtime sees it', async () => {
    const path = zoo.path(sample, manifest.blocks[0]!.descendants[1]!.file)
    const whole = await readFile(path)
    await writeFile(path, Buffer.from(whole).fill(7, 900, 901))
    await expect(measureDescendants(jobs, { zoo, device, effort })).rejects.toMatchObject({ code: 'ZOO_DAMAGED' })
    await writeFile(path, whole)
  })

  it('can be given up', async () => {
    const stop = new AbortController()
    const measuring = measureDescendants(jobs, {
      zoo,
      device,
      effort: { leastRounds: 1000, mostRounds: 1000, sliceMs: 100 },
      signal: stop.signal,
    })
    setTimeout(() => stop.abort(), 300)
    await expect(measuring).rejects.toMatchObject({ name: 'AbortError' })
  })

  it('a network that cannot run is an error of the engine, with its reason', async () => {
    const wholes = [{ id: 'broken', model: new Uint8Array(100) }]
    await expect(measureWholes(wholes, [{ x: picture(32, 8) }])).rejects.toMatchObject({ code: 'ENGINE_FAILED' })
    const fine = [{ id: 'fine', model: network(32, 16) }]
    await expect(measureWholes(fine, [{ z: picture(32, 8) }])).rejects.toMatchObject({ code: 'ENGINE_FAILED' })
  })
})

describe('latencies from rounds', () => {
  it('a disturbance that hits all in a round changes no ratio', () => {
    const reference = [10, 10, 20, 20, 10].map((ms) => [ms * 1.1, ms, ms * 1.3])
    const half = reference.map((times) => times.map((ms) => ms / 2))
    expect(ratioOf(half, reference)).toBeCloseTo(0.5, 12)
    expect(undisturbed(reference)).toBeLessThan(13)
    const [first, second] = latencies([reference, half], 10)
    expect([first!.p50Ms, second!.p50Ms]).toEqual([10, 5])
    expect(second!.p95Ms).toBeCloseTo(6.5, 1)
  })

  it('one of several that alone was lucky in a round keeps its share of them all', () => {
    // The machine is slow but for one moment, in which the second had its turn.
    const [one, two] = [8, 4].map((ms) => Array.from({ length: 8 }, () => [ms, ms]))
    two![5] = [2, 2, 2, 2, 2, 2]
    const [first, second] = sharedOut([one!, two!])
    expect(second! / first!).toBeCloseTo(0.5, 12)
  })
})

describe('this device', () => {
  it('has a key that is the same each time and safe as a folder', () => {
    expect(thisDevice()).toEqual(thisDevice())
    expect(thisDevice().key).toMatch(/^[a-z0-9]+-[0-9a-f]{12}$/)
    expect(thisDevice().runtimeVersion).toMatch(/^\d+\.\d+/)
  })
})

describeWithAssets('a real model of 14 MB', (assets) => {
  it('takes the same memory each time it is measured', async () => {
    const model = await readFile(`${assets}/models/mobilenetv2.onnx`)
    const session = await openSession(model)
    const feeds = [{ [session.inputs[0]!]: picture(3, 224) }]
    await session.release()
    const wholes = ['one', 'two'].map((id) => ({ id, model }))
    const first = await measureWholes(wholes, feeds, { effort })
    const [one, two] = [first.get('one')!, first.get('two')!]
    for (const each of [one, two]) expect(each.latencyP50Ms).toBeGreaterThan(0)
    if (one.memoryMethod === 'rss') return
    expect(one.anonymousBytes / two.anonymousBytes).toBeGreaterThan(0.9)
    expect(one.anonymousBytes / two.anonymousBytes).toBeLessThan(1.1)
    expect(one.mappedBytes).toBeGreaterThan(0.9 * model.length)
    expect(one.mappedBytes).toBeLessThan(1.1 * model.length)
  })
})
