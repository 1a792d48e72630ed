import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { seededRandom } from '../../src/base/index.ts'
import { Engine } from '../../src/engine/index.ts'
import type { Stage } from '../../src/runtime/stage.ts'
import { shiftToFused, swap } from '../../src/runtime/swap.ts'
import type { Unit } from '../../src/runtime/unit.ts'
import { ask, fusedOf, openStage, type Toy, targetOf, toy } from './blocks.ts'

const folder = mkdtempSync(join(tmpdir(), 'swap-'))
afterAll(() => rmSync(folder, { recursive: true }))

let a: Toy
let b: Toy
beforeAll(async () => {
  a = await toy(folder, 'a', 4, 5)
  b = await toy(folder, 'b', 2, 5)
})

const engines = [new Engine(), new Engine()]
afterAll(() => Promise.all(engines.map((engine) => engine.close())))

let stage: Stage
beforeEach(() => {
  stage = openStage(engines)
})
afterEach(async () => {
  await stage.scheduler.close()
  await swap(stage, [], undefined)
  await Promise.all(stage.retiring)
  expect(stage.residents.bytes).toBe(0)
  expect(engines.flatMap(({ sessions }) => sessions)).toEqual([])
})

describe('a swap', () => {
  it('loads only the blocks that differ', async () => {
    await swap(stage, [targetOf(a, [1, 1, 1, 1])], undefined)
    const swapped = await swap(stage, [targetOf(a, [1, 3, 1, 1])], undefined)
    expect(swapped.models).toEqual([{ model: 'a', changed: [{ block: 'b1', from: 'd1', to: 'd3' }] }])
    expect(swapped.bytes).toBe(300)
    expect(await ask(stage, 'a')).toMatchObject({ plan: 'p1311', answer: 1131, mixed: false })
    await Promise.all(stage.retiring)
    expect(stage.residents.bytes).toBe(6000)
    expect(engines[0]!.sessions).toHaveLength(4)
  })

  it('to what is live loads and changes nothing', async () => {
    await swap(stage, [targetOf(a, [1, 2, 3, 4])], undefined)
    const swapped = await swap(stage, [targetOf(a, [1, 2, 3, 4])], undefined)
    expect(swapped).toMatchObject({ models: [], bytes: 0, method: 'beside' })
  })

  it('moves a model to another engine', async () => {
    await swap(stage, [targetOf(a, [1, 1, 1, 1])], undefined)
    await swap(stage, [targetOf(a, [1, 1, 1, 1], { core: 1 })], undefined)
    await Promise.all(stage.retiring)
    expect(engines.map(({ sessions }) => sessions.length)).toEqual([0, 4])
    expect((await ask(stage, 'a')).answer).toBe(1111)
  })

  it('that cannot load something changes nothing', async () => {
    await swap(stage, [targetOf(a, [1, 1, 1, 1]), targetOf(b, [1, 1])], undefined)
    const before = stage.live.get('a')
    const damaged = targetOf(b, [2, 2])
    const chain = [damaged.chain[0]!, { ...damaged.chain[1]!, key: 'damaged', path: join(folder, 'missing.ort') }]
    const failing = swap(stage, [targetOf(a, [2, 2, 2, 2]), { ...damaged, chain }], undefined)
    await expect(failing).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' })
    expect(stage.live.get('a')).toBe(before)
    expect(stage.residents.bytes).toBe(6000)
    expect(await ask(stage, 'b')).toMatchObject({ answer: 11, mixed: false })
  })

  it('learns the shapes between blocks from a first run where they depend on the input size', async () => {
    const free = (unit: Unit): Unit => {
      const unknown = (ports: Unit['inputs']) =>
        ports.map((port) => (['x', 'y'].includes(port.name) ? port : { ...port, dims: [1, null] }))
      return { ...unit, inputs: unknown(unit.inputs), outputs: unknown(unit.outputs) }
    }
    const target = targetOf(a, [1, 1, 1, 1])
    await swap(stage, [{ ...target, chain: target.chain.map(free) }], undefined)
    expect(stage.shapes.get('a 1x4')).toEqual({ x: [1, 4], 'a.1': [1, 4], 'a.2': [1, 4], 'a.3': [1, 4], y: [1, 4] })
    const other = targetOf(a, [1, 2, 1, 1])
    const wrong = { ...free(other.chain[1]!), path: a.units[3]![0]!.path, key: 'wrong' }
    await expect(swap(stage, [{ ...other, chain: other.chain.with(1, wrong) }], undefined)).rejects.toThrow()
    expect((await ask(stage, 'a')).answer).toBe(1111)
  })

  it('refuses a block that gives something else than its border says', async () => {
    const target = targetOf(a, [1, 1, 1, 1])
    const wrong = { ...target.chain[2]!, outputs: [{ name: 'a.3', type: 'float32' as const, dims: [1, 5] }] }
    const failing = swap(stage, [{ ...target, chain: target.chain.with(2, wrong) }], undefined)
    await expect(failing).rejects.toMatchObject({ code: 'GRAPH_INVALID' })
    expect(stage.residents.bytes).toBe(0)
    expect(engines[0]!.sessions).toEqual([])
  })
})

describe('a swap to another input size of the same files', () => {
  /** Takes half of the memory. */
  const smaller = () => {
    const target = targetOf(a, [1, 1, 1, 1])
    const chain = target.chain.map((unit) => ({ ...unit, memoryBytes: unit.memoryBytes / 2 }))
    return { ...target, plan: 'small', inputSize: [1, 2] as const, chain }
  }
  const settled = async () => {
    await Promise.all(stage.retiring)
    return stage.residents.bytes
  }

  it('loads nothing where there is room, and counts what the files keep from the larger one', async () => {
    await swap(stage, [targetOf(a, [1, 1, 1, 1])], 5000)
    expect(await swap(stage, [smaller()], 5000)).toMatchObject({ bytes: 0, method: 'beside' })
    expect(await settled()).toBe(4000)
    expect(await ask(stage, 'a')).toEqual({ plan: 'small', answer: 1111, mixed: false })
  })

  it('loads them again where the limit does not leave what they keep', async () => {
    await swap(stage, [targetOf(a, [1, 1, 1, 1])], 5000)
    await swap(stage, [smaller()], 2500)
    expect(stage.residents.bytes).toBe(2000)
    expect(await ask(stage, 'a')).toEqual({ plan: 'small', answer: 1111, mixed: false })
  })

  it.each([5000, 4000])('to the larger one counts what that takes, under a limit of %d', async (limit) => {
    await swap(stage, [smaller()], limit)
    expect(await settled()).toBe(2000)
    await swap(stage, [targetOf(a, [1, 1, 1, 1])], limit)
    expect(await settled()).toBe(4000)
    expect(stage.residents.takePeak()).toBeLessThanOrEqual(limit)
    expect((await ask(stage, 'a')).answer).toBe(1111)
  })
})

describe('under load, a hundred swaps', () => {
  const swaps = async (limitBytes: number | undefined) => {
    const random = seededRandom(7)
    const digit = () => 1 + Math.floor(random() * 5)
    let swapping = true
    const answers: { model: string; plan: string; mixed: boolean }[] = []
    const camera = async (model: string) => {
      while (swapping) answers.push({ model, ...(await ask(stage, model)) })
    }
    await swap(stage, [targetOf(a, [1, 1, 1, 1]), targetOf(b, [1, 1], { core: 1 })], limitBytes)
    const cameras = ['a', 'a', 'b', 'b'].map(camera)
    const methods = new Set<string>()
    let peak = 0
    for (let i = 0; i < 100; i++) {
      const targets = [targetOf(a, [digit(), digit(), digit(), digit()]), targetOf(b, [digit(), digit()], { core: 1 })]
      const needs = targets.flatMap(({ chain }) => chain).reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
      if (limitBytes !== undefined && needs > limitBytes) continue
      methods.add((await swap(stage, targets, limitBytes)).method)
      peak = Math.max(peak, stage.residents.takePeak())
    }
    swapping = false
    await Promise.all(cameras)
    return { answers, methods, peak }
  }

  it('fail no request and mix no two deployments', async () => {
    const { answers, methods } = await swaps(undefined)
    expect(answers.filter(({ mixed }) => mixed)).toEqual([])
    expect(new Set(answers.map(({ plan }) => plan)).size).toBeGreaterThan(20)
    expect([...methods]).toEqual(['beside'])
  })

  it('stay within a limit that old and new together would break', async () => {
    const limit = 20_000
    const { answers, methods, peak } = await swaps(limit)
    expect(answers.filter(({ mixed }) => mixed)).toEqual([])
    expect([...methods]).toContain('exchange')
    expect(peak).toBeLessThanOrEqual(limit)
    await Promise.all(stage.retiring)
    const live = [...stage.live.values()].reduce((sum, { target }) => sum + target.predicted.memoryBytes, 0)
    expect(stage.residents.bytes).toBe(live)
  })
})

describe('an exchange', () => {
  it('that fails halfway leaves the old deployments live', async () => {
    const limit = 6000
    await swap(stage, [targetOf(a, [1, 1, 1, 1]), targetOf(b, [1, 1])], limit)
    const target = targetOf(a, [1, 1, 1, 1], { plan: 'damaged' })
    const broken = { ...target.chain[1]!, key: 'gone', path: join(folder, 'missing.ort') }
    const other = { ...target.chain[2]!, key: 'other' }
    const failing = swap(
      stage,
      [{ ...target, chain: [target.chain[0]!, broken, other, target.chain[3]!] }, targetOf(b, [1, 1])],
      limit,
    )
    await expect(failing).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' })
    expect(await ask(stage, 'a')).toMatchObject({ plan: 'p1111', answer: 1111, mixed: false })
    expect(stage.residents.bytes).toBe(6000)
  })

  it('lets a model go whose memory another one needs', async () => {
    await swap(stage, [targetOf(a, [2, 2, 2, 2]), targetOf(b, [5, 5])], 18_000)
    const pending = ask(stage, 'b')
    const swapped = await swap(stage, [targetOf(a, [4, 4, 4, 4])], 18_000)
    expect(swapped.method).toBe('exchange')
    expect(await pending).toMatchObject({ answer: 55 })
    expect(stage.live.has('b')).toBe(false)
    expect(stage.residents.takePeak()).toBeLessThanOrEqual(18_000)
  })
})

describe('the fused gear', () => {
  it('gives the same answers and keeps the chain for the next swap of a block', async () => {
    await swap(stage, [targetOf(a, [1, 2, 3, 4])], undefined)
    expect(await shiftToFused(stage, 'a', await fusedOf(folder, a, [1, 2, 3, 4], 9000), undefined)).toBe('shifted')
    expect(stage.live.get('a')!.gear).toBe('fused')
    expect(await ask(stage, 'a')).toMatchObject({ answer: 4321, mixed: false })
    const swapped = await swap(stage, [targetOf(a, [1, 2, 3, 5])], undefined)
    expect(swapped.bytes).toBe(500)
    await Promise.all(stage.retiring)
    expect(stage.residents.bytes).toBe(11_000)
  })

  it('takes the place of the chain where both do not fit', async () => {
    await swap(stage, [targetOf(a, [1, 2, 3, 4])], 11_000)
    expect(await shiftToFused(stage, 'a', await fusedOf(folder, a, [1, 2, 3, 4], 9000), 11_000)).toBe('shifted')
    expect(stage.residents.takePeak()).toBeLessThanOrEqual(11_000)
    expect(stage.residents.bytes).toBe(9000)
    expect(await ask(stage, 'a')).toMatchObject({ answer: 4321, mixed: false })
    const back = await swap(stage, [targetOf(a, [1, 1, 1, 1])], 11_000)
    expect(back.method).toBe('exchange')
    expect(stage.residents.takePeak()).toBeLessThanOrEqual(11_000)
    expect(await ask(stage, 'a')).toMatchObject({ answer: 1111, mixed: false })
  })

  it('is left out where it does not fit at all', async () => {
    await swap(stage, [targetOf(a, [1, 2, 3, 4])], 11_000)
    expect(await shiftToFused(stage, 'a', await fusedOf(folder, a, [1, 2, 3, 4], 12_000), 11_000)).toBe('does-not-fit')
    expect(stage.live.get('a')!.gear).toBe('chain')
  })

  it('is given up for a lower limit only where it must be: the spare chain goes first', async () => {
    await swap(stage, [targetOf(a, [1, 2, 3, 4])], undefined)
    await shiftToFused(stage, 'a', await fusedOf(folder, a, [1, 2, 3, 4], 9000), undefined)
    await swap(stage, [targetOf(a, [1, 2, 3, 4])], 10_000)
    expect(stage.residents.bytes).toBe(9000)
    expect(stage.live.get('a')!.gear).toBe('fused')
  })

  it('is taken at once for a model that was not loaded', async () => {
    const fused = await fusedOf(folder, a, [1, 2, 3, 4], 9000)
    await swap(stage, [targetOf(a, [1, 2, 3, 4], { fused })], undefined)
    expect(stage.live.get('a')!.gear).toBe('fused')
    expect(await ask(stage, 'a')).toMatchObject({ answer: 4321 })
  })
})
