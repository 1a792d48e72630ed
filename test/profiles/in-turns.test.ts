import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, expect, it, vi } from 'vitest'
import { measureDescendants, measureWholesAtSizes } from '../../src/profiles/index.ts'
import type { Measuring } from '../../src/profiles/measuring.ts'
import { floats } from '../../src/tensor/index.ts'
import { openZoo } from '../../src/zoo/index.ts'
import { buildSample, temporaryFolder } from '../zoo/sample.ts'
import { device, sample } from './sample.ts'

/**
 * A machine whose state changes between two calls of the measuring process, and stays as it is during each: how fast it is, and
 * how much faster still the networks that are called `light`.
 */
const machine = vi.hoisted(() => ({ calls: 0, slower: 1, lightSlower: 1 }))

vi.mock('../../src/profiles/measuring.ts', () => ({
  startMeasuring(): Measuring {
    const light = new Set<string>()
    return {
      async compile(from, to) {
        const bytes = typeof from === 'string' ? await readFile(from) : from
        await writeFile(to, Buffer.from(bytes).includes('light') ? 'light' : 'heavy')
      },
      memory: async () => ({ anonymousBytes: 1e6, mappedBytes: 1e6, method: 'rss' }),
      async latency({ paths, feeds, effort }) {
        for (const path of paths) if ((await readFile(path, 'utf8')) === 'light') light.add(path)
        const [speed, lightSpeed] = [machine.slower ** machine.calls, machine.lightSlower ** machine.calls]
        machine.calls++
        return paths.map((path, i) => {
          const side = feeds[i % feeds.length]![0]!.x!.dims.at(-1)!
          const ms = speed * side ** 2 * (light.has(path) ? 0.5 * lightSpeed : 1)
          return { loadMs: 1, rounds: Array.from({ length: effort.mostRounds }, () => [ms, ms]) }
        })
      },
      close: async () => {},
    }
  },
}))

const feedsOf = (side: number) => [{ x: floats([1, 1, side, side], new Float32Array(side ** 2)) }]

beforeEach(() => Object.assign(machine, { calls: 0, slower: 1, lightSlower: 1 }))

it('a machine that gets slower meanwhile makes no input size dearer than another', async () => {
  machine.slower = 1.3
  const wholes = ['heavy', 'light'].map((id) => ({ id, model: Buffer.from(id) }))
  const [own, half] = await measureWholesAtSizes(wholes, [{ feeds: feedsOf(8) }, { feeds: feedsOf(4) }])
  const ms = own!.get('heavy')!.latencyP50Ms
  expect(half!.get('heavy')!.latencyP50Ms / ms).toBeCloseTo(1 / 4, 9)
  expect(half!.get('light')!.latencyP50Ms / ms).toBeCloseTo(1 / 8, 9)
  expect(own!.get('light')!.latencyP50Ms / ms).toBeCloseTo(1 / 2, 9)
})

it('a machine that gets worse at one kind of network meanwhile makes that kind dearer in every block alike', async () => {
  machine.lightSlower = 1.2
  const zoo = openZoo(join(await temporaryFolder(), 'zoo'))
  const manifest = await buildSample(zoo, 'sample', 2, (block, descendant) =>
    Buffer.from(`${block} ${descendant === 'original' ? 'heavy' : 'light'}`),
  )
  const jobs = manifest.blocks.map((block) => ({ model: sample, block, size: [8, 8] as const, feeds: feedsOf(8) }))
  const rows = await measureDescendants(jobs, { zoo, device })
  const shareIn = (block: string) => {
    const [original, light] = rows.filter((row) => row.block === block)
    return light!.latencyP50Ms / original!.latencyP50Ms
  }
  expect(shareIn('b1')).toBeCloseTo(shareIn('b0'), 9)
})
