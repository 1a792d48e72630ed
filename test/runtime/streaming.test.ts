import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ProblemBlock, solve } from '../../src/optimizer/index.ts'
import { openProfiles } from '../../src/profiles/index.ts'
import { openRuntime, type Runtime, type RuntimeEvent } from '../../src/runtime/index.ts'
import { readSpeed } from '../../src/runtime/read-speed.ts'
import { choiceOf, type StreamCost, type StreamStep, streamed, streamedLatency } from '../../src/runtime/streaming.ts'
import { black, buildMini, sumOf } from './mini-zoo.ts'

const step = (memoryBytes: number, latencyMs: number, isStreamed = true): StreamStep => ({
  latencyMs,
  loadMs: 1,
  memoryBytes,
  anonymousBytes: 0,
  fileBytes: memoryBytes,
  streamed: isStreamed,
})

describe('the latency of a streamed model', () => {
  it('hides reading behind what runs, as far as the window has room for it', () => {
    const steps = [step(100, 10), step(100, 10)]
    // 100 bytes take 10 ms: read while the other block runs, or after it was let go.
    expect(streamedLatency(steps, 200, 10)).toBe(22)
    expect(streamedLatency(steps, 100, 10)).toBe(42)
    expect(streamedLatency(steps, 150, 10)).toBe(32)
  })

  it('reads several blocks ahead where there is room for them', () => {
    const steps = [step(100, 30), step(50, 1), step(50, 1)]
    // Both of the small ones in the 30 ms of the large one, which is read from when the first of them is mapped.
    expect(streamedLatency(steps, 200, 10)).toBe(31 + 1 + 10)
    // For the second of them there is no room beside the large one, which is read after it.
    expect(streamedLatency(steps, 150, 10)).toBe(31 + 1 + 5 + 10)
  })

  it('leaves a block that stays loaded the memory that it runs in', () => {
    const stays = { ...step(500, 10, false), anonymousBytes: 80 }
    expect(streamedLatency([step(100, 10), stays], 180, 10)).toBe(10 + 1 + 10)
    expect(streamedLatency([step(100, 10), stays], 130, 10)).toBe(10 + 1 + 10 + 5)
  })

  it('hides it behind blocks that stay loaded', () => {
    expect(streamedLatency([step(100, 10), step(500, 30, false), step(100, 10)], 100, 10)).toBe(10 + 30 + 10 + 2 + 10)
    expect(streamedLatency([step(100, 10), step(500, 30, false)], 100, 10)).toBe(41)
  })

  const steps = fc.array(
    fc
      .tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 0, max: 20 }), fc.boolean())
      .map(([bytes, ms, isStreamed]) => step(bytes, ms, isStreamed)),
    { minLength: 1, maxLength: 6 },
  )

  it('is never above that of loading each block when it is its turn, nor below that of running and mapping alone', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 50, max: 100 }), fc.integer({ min: 1, max: 20 }), (chain, window, speed) => {
        const run = chain.reduce((sum, each) => sum + each.latencyMs + (each.streamed ? each.loadMs : 0), 0)
        const read = chain.reduce((sum, each) => sum + (each.streamed ? each.fileBytes / speed : 0), 0)
        const found = streamedLatency(chain, window, speed)
        expect(found).toBeGreaterThanOrEqual(run - 1e-9)
        expect(found).toBeLessThanOrEqual(run + read + 1e-9)
      }),
    )
  })
})

describe('a plan that streams', () => {
  const parts = fc.tuple(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 1, max: 30 }))
  const sizes = fc.array(fc.array(parts, { minLength: 1, maxLength: 3 }), {
    minLength: 1,
    maxLength: 5,
  })

  /** Blocks of which the larger descendants lose less. */
  function asked(model: readonly (readonly (readonly [anonymous: number, mapped: number])[])[]) {
    const costs = new Map<string, StreamCost>()
    const blocks = model.map((choices, b): ProblemBlock => {
      const id = `b${b}`
      return {
        id,
        choices: choices.map(([anonymousBytes, fileBytes], d) => {
          const memoryBytes = anonymousBytes + fileBytes
          costs.set(`${id}/d${d}`, { latencyMs: 1, loadMs: 1, memoryBytes, anonymousBytes, fileBytes })
          return { id: `d${d}`, loss: 0.01 * (60 - memoryBytes), latencyMs: 1, memoryBytes, swapMs: 1 }
        }),
      }
    })
    return { costs, ...streamed({ id: 'm', quality: 1, blocks }, () => costs, 10) }
  }

  it('keeps the limit with every block that runs, and what is read ahead of it', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 150 }), (model, memoryBytes) => {
        const { costs, problem, variants } = asked(model)
        const plan = solve({ memoryBytes, models: [problem] })
        if (plan.status === 'infeasible') {
          // Streaming whole needs room for the largest of the smallest.
          const needs = Math.max(...model.map((choices) => Math.min(...choices.map(([a, b]) => a + b))))
          expect(memoryBytes).toBeLessThan(needs)
          return
        }
        const [found] = plan.models
        const chosen = found!.choices.map(choiceOf)
        const { windowBytes } = variants.get(found!.variant!)!
        const blocks = chosen.map(({ block, descendant, streamed: isStreamed = false }) => ({
          ...costs.get(`${block}/${descendant}`)!,
          isStreamed,
        }))
        const most = (of: (cost: StreamCost & { isStreamed: boolean }) => number) => Math.max(0, ...blocks.map(of))
        if (windowBytes !== undefined) {
          expect(most((each) => (each.isStreamed ? each.memoryBytes : 0))).toBeLessThanOrEqual(windowBytes)
          const running = most((each) => (each.isStreamed ? each.memoryBytes : each.anonymousBytes))
          const stays = blocks.reduce((sum, each) => sum + (each.isStreamed ? 0 : each.fileBytes), 0)
          expect(stays + running).toBeLessThanOrEqual(memoryBytes)
        } else {
          expect(blocks.reduce((sum, each) => sum + each.memoryBytes, 0)).toBeLessThanOrEqual(memoryBytes)
        }
      }),
    )
  })

  it('streams nothing where everything fits', () => {
    const { problem } = asked([
      [
        [5, 5],
        [10, 10],
      ],
      [[15, 15]],
    ])
    const [found] = solve({ memoryBytes: 50, models: [problem] }).models
    expect(found!.choices.map(choiceOf)).toEqual([
      { block: 'b0', descendant: 'd1' },
      { block: 'b1', descendant: 'd0' },
    ])
  })

  it('streams nothing where everything fits once blocks run in the same memory', () => {
    const { problem, variants } = asked([[[40, 1]], [[50, 2]], [[30, 3]]])
    const [found] = solve({ memoryBytes: 62, models: [problem] }).models
    expect(found!.choices.map(choiceOf).some((choice) => choice.streamed)).toBe(false)
    expect(variants.get(found!.variant!)!.windowBytes).toBeDefined()
    expect(found!.predicted.memoryBytes).toBeLessThanOrEqual(62)
  })
})

describe('a model that does not fit its limit', () => {
  const zoo = mkdtempSync(join(tmpdir(), 'streaming-'))
  const events: RuntimeEvent[] = []
  let runtime: Runtime
  beforeAll(async () => {
    await buildMini(zoo, 'one')
    runtime = await openRuntime({ zoo, workers: 1 })
    runtime.events((event) => events.push(event))
  })
  afterAll(async () => {
    await runtime.close()
    rmSync(zoo, { recursive: true })
  })
  const ask = async () => {
    const { answer, choices } = await runtime.predict('one', black)
    expect(answer.task === 'generic' && Number(answer.outputs.y?.data[0])).toBe(sumOf(choices))
  }
  const streams = () => runtime.live().models[0]!.blocks.map((block) => block.streamed ?? false)

  it('is streamed where its quality allows no smaller descendants', async () => {
    await runtime.putWorkload('door', { model: 'one', minQuality: 0.8999 })
    await ask()
    expect(streams()).toEqual([false, false, false])
    const { plan, swap } = await runtime.setBudget({ memoryBytes: 9e6 })
    // 12 MB of originals: one of 4 MB stays, two share a window of 4 MB.
    expect(streams().filter((each) => each)).toHaveLength(2)
    expect(plan.models[0]).toMatchObject({
      predicted: { quality: 0.9, memoryBytes: 8e6 },
      streaming: { windowBytes: 4e6 },
    })
    expect(runtime.budget().usedBytes).toBe(8e6)
    const blocks = plan.models[0]!.choices.filter(({ streamed: each }) => each).map(({ block }) => block)
    expect(events).toContainEqual(expect.objectContaining({ kind: 'streaming', model: 'one', blocks }))
    expect(swap).not.toBeNull()
    for (let i = 0; i < 20; i++) await ask()
  })

  it('answers every request while it goes from streaming to loaded and back', async () => {
    let changing = true
    const camera = (async () => {
      while (changing) await ask()
    })()
    for (const memoryBytes of [5e6, 20e6, 9e6, 4e6, 12e6]) {
      await runtime.setBudget({ memoryBytes })
      expect(runtime.budget().usedBytes).toBeLessThanOrEqual(memoryBytes)
      await ask()
    }
    changing = false
    await camera
    expect(streams()).toEqual([false, false, false])
  })

  it('stays as it is when it is planned again', async () => {
    await runtime.setBudget({ memoryBytes: 9e6 })
    const before = runtime.live()
    expect((await runtime.setBudget({ memoryBytes: 9.1e6 })).swap).toBeNull()
    expect(runtime.live().id).toBe(before.id)
  })

  it('says what it would take where even streaming does not fit', async () => {
    const refused = runtime.setBudget({ memoryBytes: 3e6 })
    // The second best of each block, through a window of 3 MB.
    await expect(refused).rejects.toMatchObject({
      plan: { infeasible: { constraint: 'quality', needs: expect.closeTo(0.87, 3) } },
    })
    await ask()
  })

  it('is written down with the speed of the disk that it is reckoned with', () => {
    const store = openProfiles(join(zoo, 'profiles.db'), { readOnly: true })
    const written = store.inspect('decisions').find(({ action }) => action === 'stream')
    store.close()
    expect(written?.why).toMatch(/^one does not fit as a whole: b\d, b\d are streamed \(the budget is now 9.0 MB\)$/)
    expect(written?.readings).toMatch(/read_bytes_per_second=\d/)
  })
})

it('the speed of the disk is measured once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'read-speed-'))
  const found = await readSpeed(folder, [process.execPath])
  expect(found).toBeGreaterThan(0)
  expect(await readSpeed(folder, [])).toBe(found)
  rmSync(folder, { recursive: true })
})
