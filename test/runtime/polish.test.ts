import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { blockId, modelId } from '../../src/base/index.ts'
import { openRuntime, type Polisher, type Runtime, type RuntimeEvent } from '../../src/runtime/index.ts'
import { type Choices, openZoo, writePolish } from '../../src/zoo/index.ts'
import { adder, bytesOf } from '../engine/tiny.ts'
import { black, buildMini, DIMS, sumOf } from './mini-zoo.ts'

const folder = mkdtempSync(join(tmpdir(), 'runtime-polish-'))
const zoo = openZoo(folder)
afterAll(() => rmSync(folder, { recursive: true }))

/** Asks again and again: what nobody asks is not fused so soon. */
const until = async (happened: () => boolean, runtime: Runtime, model = 'one'): Promise<void> => {
  const deadline = Date.now() + 240_000
  while (!happened()) {
    await runtime.predict(model, black)
    if (Date.now() > deadline) throw new Error('it did not happen')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** What the better weights of the first block add to the answer, so that it shows which ones answered. */
const MORE = 5

/** Keeps, as better weights, a first block that adds more than the chosen one. */
const keeping = (asked: string[]): Polisher => ({
  async polish(model, choices, size) {
    asked.push(`${model} ${Object.values(choices).join(' ')}`)
    const manifest = await zoo.manifest(modelId(model))
    const figures = { divergence: 0.1, agreement: 1 }
    const about = { choices: choices as Choices, size, how: ['sequence'], pictures: 8, heldOut: 2, ms: 1 }
    const sum = sumOf({ b0: choices.b0! })
    await writePolish(
      zoo,
      manifest,
      { ...about, before: figures, after: figures },
      new Map([[blockId('b0'), bytesOf(adder('x', 'v1', sum + MORE, DIMS))]]),
    )
    return true
  },
})

async function answer(runtime: Runtime): Promise<{ sum: number; choices: Readonly<Record<string, string>> }> {
  const { answer: given, choices } = await runtime.predict('one', black)
  return { sum: given.task === 'generic' ? Number(given.outputs.y?.data[0]) : Number.NaN, choices }
}

it('a plan that stays is given better weights, once, and keeps them after a restart', async () => {
  await buildMini(folder, 'one')
  const asked: string[] = []
  const events: RuntimeEvent[] = []
  const budget = { memoryBytes: 8e6 }
  const runtime = await openRuntime({ zoo: folder, workers: 1, polisher: keeping(asked), budget, models: ['one'] })
  runtime.events((event) => events.push(event))
  try {
    const before = await answer(runtime)
    expect(before.sum).toBe(sumOf(before.choices))
    await until(
      () => events.some((event) => event.kind === 'gear' && /weights that were made/.test(event.why)),
      runtime,
    )
    const after = await answer(runtime)
    expect(after.choices).toEqual(before.choices)
    expect(after.sum).toBe(sumOf(after.choices) + MORE)
    expect(runtime.budget().usedBytes).toBeLessThanOrEqual(8e6)
    // Another plan is answered by its own blocks.
    await runtime.setBudget({ memoryBytes: 7e6 })
    const other = await answer(runtime)
    expect(other.sum).toBe(sumOf(other.choices))
    expect(new Set(asked).size).toBe(asked.length)
  } finally {
    await runtime.close()
  }
  const again = await openRuntime({ zoo: folder, workers: 1, budget })
  try {
    await until(() => again.live().models[0]?.gear === 'fused', again)
    const { sum, choices } = await answer(again)
    expect(sum).toBe(sumOf(choices) + MORE)
  } finally {
    await again.close()
  }
})

it('a plan for which no better weights are found stays as it is', async () => {
  await buildMini(folder, 'two')
  let asked = 0
  const polisher: Polisher = {
    async polish() {
      asked++
      return false
    },
  }
  const runtime = await openRuntime({
    zoo: folder,
    workers: 1,
    polisher,
    budget: { memoryBytes: 16e6 },
    models: ['two'],
  })
  try {
    await until(() => asked > 0, runtime, 'two')
    const { answer: given, choices } = await runtime.predict('two', black)
    expect(given.task === 'generic' && Number(given.outputs.y?.data[0])).toBe(sumOf(choices))
  } finally {
    await runtime.close()
  }
})

it('while better weights for one model are looked for, another one is loaded and fused', async () => {
  const other = mkdtempSync(join(folder, 'other-'))
  await buildMini(other, 'three')
  await buildMini(other, 'four')
  const asked: string[] = []
  const give: ((kept: boolean) => void)[] = []
  const polisher: Polisher = {
    polish(model) {
      asked.push(model)
      return new Promise((resolve) => give.push(resolve))
    },
  }
  const runtime = await openRuntime({
    zoo: other,
    workers: 1,
    polisher,
    budget: { memoryBytes: 11e6 },
    models: ['three'],
  })
  try {
    await until(() => asked.length === 1, runtime, 'three')
    await runtime.setBudget({ memoryBytes: 22e6 })
    await runtime.load('four')
    await until(() => asked.length === 2, runtime, 'four')
    expect(asked).toEqual(['three', 'four'])
    expect(runtime.live().models.find(({ model }) => model === 'four')!.gear).toBe('fused')
  } finally {
    for (const end of give) end(false)
    await runtime.close()
  }
})

it('a plan that came while weights were looked for another one has its turn after it', async () => {
  const other = mkdtempSync(join(folder, 'turns-'))
  await buildMini(other, 'five')
  const asked: string[] = []
  let give: (kept: boolean) => void = () => {}
  const polisher: Polisher = {
    polish(_model, choices) {
      asked.push(Object.values(choices).join(' '))
      return new Promise((resolve) => {
        give = resolve
      })
    },
  }
  const budget = { memoryBytes: 11e6 }
  const runtime = await openRuntime({ zoo: other, workers: 1, polisher, budget, models: ['five'] })
  try {
    await until(() => asked.length === 1, runtime, 'five')
    await runtime.setBudget({ memoryBytes: 8e6 })
    await until(() => runtime.live().models[0]?.gear === 'fused', runtime, 'five')
    await new Promise((resolve) => setTimeout(resolve, 1000))
    expect(asked).toHaveLength(1)
    give(false)
    await until(() => asked.length === 2, runtime, 'five')
    expect(asked[1]).not.toBe(asked[0])
  } finally {
    give(false)
    await runtime.close()
  }
})
