import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import type { RuntimeEvent } from '../../src/runtime/index.ts'
import { answersRightly, type DamagedZoo, expectDetected, openDamagedZoo, removeBusy } from './damaging.ts'

let folder: string
let zoo: DamagedZoo
const events: RuntimeEvent[] = []
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blockscale-damage-'))
  zoo = await openDamagedZoo(folder)
  zoo.runtime.events((event) => events.push(event))
})
afterAll(async () => {
  await zoo.runtime.close()
  await rm(folder, { recursive: true, force: true })
})
beforeEach(async () => {
  await zoo.runtime.unload('one')
  await zoo.mend()
  events.length = 0
})

const block = (name: string, descendant: string) => join(zoo.dir, 'one', 'blocks', name, `${descendant}.onnx`)
const forgetCompiled = () => removeBusy(join(zoo.dir, '.device'))
const chosen = () =>
  zoo.runtime
    .live()
    .models.find(({ model }) => model === 'one')
    ?.blocks.map((each) => each.descendant)

it('a descendant that is damaged is named, and a sibling stands in until it is mended', async () => {
  await truncate(block('b1', 'original'), 40)
  await forgetCompiled()
  await zoo.runtime.load('one')
  expect(chosen()).toEqual(['original', 'd2', 'original'])
  expect(await answersRightly(zoo.runtime, 'one')).toBe(true)
  expect(events.filter(({ kind }) => kind === 'damaged')).toMatchObject([
    { model: 'one', block: 'b1', descendant: 'original', why: expect.stringContaining(join('b1', 'original.onnx')) },
  ])
  await zoo.mend()
  await zoo.runtime.setBudget({})
  expect(chosen()).toEqual(['original', 'original', 'original'])
})

it('a model of which no descendant of a block is whole is refused, and the others go on', async () => {
  for (const descendant of ['original', 'd2', 'd3', 'd4']) await writeFile(block('b2', descendant), 'not a network')
  await forgetCompiled()
  const refused = { code: 'ZOO_DAMAGED', message: expect.stringMatching(/every descendant of block b2 of one/) }
  await expect(zoo.runtime.load('one')).rejects.toMatchObject(refused)
  expect(await answersRightly(zoo.runtime, 'two')).toBe(true)
  await zoo.mend()
  await zoo.runtime.load('one')
  expect(await answersRightly(zoo.runtime, 'one')).toBe(true)
})

it('twenty random places: served rightly or refused by name, and the others go on', async () => {
  await expectDetected(zoo, 20, 1)
})
