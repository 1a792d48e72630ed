import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { BlockscaleError } from '../../src/base/index.ts'
import { Engine } from '../../src/engine/index.ts'
import { DescendantDamaged } from '../../src/runtime/damage.ts'
import { acquireAll, type Stage } from '../../src/runtime/stage.ts'
import { swap } from '../../src/runtime/swap.ts'
import type { Unit } from '../../src/runtime/unit.ts'
import { ask, openStage, type Toy, targetOf, toy } from './blocks.ts'

const folder = mkdtempSync(join(tmpdir(), 'loading-'))
let a: Toy
beforeAll(async () => {
  a = await toy(folder, 'a', 4, 2)
})
const engine = new Engine()
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

/** What was done, in its order. */
const log: string[] = []
let first: Promise<void> | undefined
let isLoaded = () => {}
let stage: Stage
beforeEach(() => {
  log.length = 0
  first = undefined
  stage = openStage([engine])
  stage.residents.acquire = new Proxy(stage.residents.acquire.bind(stage.residents), {
    async apply(acquire, _, [core, unit]: [number, Unit]) {
      const resident = await acquire(core, unit)
      log.push(`loaded ${unit.block}`)
      if (unit.block === 'b0') isLoaded()
      return resident
    },
  })
})

const damaged = new DescendantDamaged(
  { model: 'a', block: 'b2', descendant: 'd1', file: { path: '', bytes: 0, sha256: '' } },
  new BlockscaleError('ZOO_DAMAGED', 'b2/d1.onnx is cut off'),
)

/** A chain whose files are each compared with their checksums once, whoever asks. */
function target(wrong?: string) {
  const found = targetOf(a, [1, 1, 1, 1])
  const chain = found.chain.map((unit): Unit => {
    let comparing: Promise<void> | undefined
    const compare = async () => {
      log.push(`compare ${unit.block}`)
      // The last file is as slow as it takes for the first block to be loaded meanwhile.
      if (unit.block === 'b3') await first
      log.push(`compared ${unit.block}`)
      if (unit.block === wrong) throw damaged
    }
    return { ...unit, whole: () => (comparing ??= compare()) }
  })
  return { ...found, chain }
}

it('a block is loaded when its file is found whole, while the next file is being compared', async () => {
  first = new Promise((resolve) => {
    isLoaded = resolve
  })
  const wanted = target()
  const residents = await acquireAll(stage, wanted, wanted.chain)
  for (const block of ['b0', 'b1', 'b2', 'b3']) {
    expect(log.indexOf(`loaded ${block}`)).toBeGreaterThan(log.indexOf(`compared ${block}`))
  }
  expect(log.indexOf('compare b1')).toBeLessThan(log.indexOf('loaded b0'))
  expect(log.indexOf('loaded b0')).toBeLessThan(log.indexOf('compared b3'))
  for (const resident of residents) await stage.residents.release(resident)
})

it('when a block in the middle is damaged, those before it are let go and those after it are never loaded', async () => {
  const wanted = target('b2')
  await expect(swap(stage, [wanted], undefined)).rejects.toBe(damaged)
  expect(log.filter((line) => line.startsWith('loaded'))).toEqual(['loaded b0', 'loaded b1'])
  expect(engine.sessions).toEqual([])
  expect(stage.residents.bytes).toBe(0)
  expect(stage.live.size).toBe(0)
})

it('blocks that are exchanged one by one are all found whole before a request has to wait', async () => {
  const before = targetOf(a, [2, 2, 2, 2])
  await swap(stage, [before], undefined)
  log.length = 0
  await expect(swap(stage, [target('b2')], 8000)).rejects.toBe(damaged)
  expect(log.filter((line) => line.startsWith('loaded'))).toEqual([])
  expect(await ask(stage, 'a')).toMatchObject({ plan: 'p2222', answer: 2222 })
  expect((await swap(stage, [target()], 8000)).method).toBe('exchange')
  expect(log.indexOf('loaded b0')).toBeGreaterThan(log.indexOf('compared b3'))
  expect(await ask(stage, 'a')).toMatchObject({ plan: 'p1111', answer: 1111 })
  await swap(stage, [], undefined)
  await Promise.all(stage.retiring)
})
