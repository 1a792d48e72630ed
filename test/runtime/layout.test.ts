import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { seededRandom } from '../../src/base/index.ts'
import { openCompiled, type PortFact, type Tensors } from '../../src/engine/index.ts'
import { ints, type Model, node, writeModel } from '../../src/onnx/index.ts'
import type { BlockedBorders } from '../../src/runtime/blocked-layout.ts'
import { compileUnit, feedsOf } from '../../src/runtime/compile-unit.ts'
import { eligibleValues } from '../../src/runtime/layout.ts'
import { chooseLayout } from '../../src/runtime/measure-layout.ts'
import { floats, numbersOf } from '../../src/tensor/index.ts'
import type { Manifest } from '../../src/zoo/index.ts'
import { tinyModel } from '../onnx/runner.ts'

const folder = mkdtempSync(join(tmpdir(), 'layout-'))
afterAll(() => rmSync(folder, { recursive: true }))

const C = 32
const random = seededRandom(5)
const weights = floats(
  [C, C, 3, 3],
  Float32Array.from({ length: C * C * 9 }, () => (random() - 0.5) / C),
)
const fact = { type: 'float32' as const, dims: [1, C, 10, 10] }
const port = (name: string): PortFact => ({ name, type: 'float32', dims: [1, C, 10, 10] })

/** conv, ReLU and what was before them added again, as at the border of two residual units */
const residual = (input: string, output: string): Model =>
  tinyModel({
    inputs: [{ name: input, fact }],
    outputs: [{ name: output, fact }],
    nodes: [
      node('Conv', [input, 'w'], ['c'], { pads: ints([1, 1, 1, 1]) }),
      node('Relu', ['c'], ['r']),
      node('Add', ['r', input], [output]),
    ],
    initializers: { w: weights },
  })
const blocks = [residual('x', 'v0'), residual('v0', 'v1'), residual('v1', 'y')]
const values = ['x', 'v0', 'v1', 'y']

async function answer(blocked: readonly string[]): Promise<Tensors[string]> {
  const among = (name: string) => new Map(blocked.includes(name) ? [[name, C] as const] : [])
  let feeds = feedsOf([port('x')])!
  for (const [i, block] of blocks.entries()) {
    const borders: BlockedBorders = { inputs: among(values[i]!), outputs: among(values[i + 1]!) }
    const path = join(folder, `${blocked.join('')}-${i}.ort`)
    await compileUnit(writeModel(block), path, borders, [port(values[i]!)])
    const session = await openCompiled(path)
    feeds = await session.run(feeds)
    await session.release()
  }
  return feeds.y!
}

describe('blocked borders', () => {
  it('change no answer, wherever they are', async () => {
    const plain = await answer([])
    for (const blocked of [['v0', 'v1'], ['v0'], ['v1']]) {
      const other = await answer(blocked)
      const [one, two] = [numbersOf(plain), numbersOf(other)]
      const difference = Math.max(...one.map((value, i) => Math.abs(value - two[i]!)))
      expect(difference).toBeLessThan(1e-5)
    }
  })

  it('are chosen where the blocks on both sides together gain', () => {
    const side = (inputs: string[], outputs: string[]): BlockedBorders => ({
      inputs: new Map(inputs.map((name) => [name, C])),
      outputs: new Map(outputs.map((name) => [name, C])),
    })
    const measured = [
      { borders: side([], ['v0']), times: [1, 0.8] as const },
      { borders: side(['v0'], ['v1']), times: [1, 1.1] as const },
      { borders: side(['v1'], []), times: [1, 1.2] as const },
    ]
    const eligible = new Map(values.slice(1, 3).map((name) => [name, C]))
    expect([...chooseLayout(eligible, measured).keys()]).toEqual(['v0'])
    // What could not be measured stays as it is.
    const blind = measured.map(({ borders }) => ({ borders }))
    expect(chooseLayout(eligible, blind).size).toBe(0)
  })

  it('are possible for values between blocks whose channels fill whole groups', () => {
    const border = (name: string, dims: (number | null)[]) => ({ name, fact: { type: 'float32' as const, dims } })
    const manifest = {
      inputs: [border('x', [1, 3, 10, 10])],
      outputs: [border('y', [1, C, 10, 10])],
      blocks: [
        { inputs: [], outputs: [border('wide', [1, C, null, null]), border('odd', [1, 24, 10, 10])] },
        { inputs: [], outputs: [border('flat', [1, C]), border('y', [1, C, 10, 10])] },
      ],
    } as unknown as Manifest
    expect([...eligibleValues(manifest)]).toEqual([['wide', C]])
  })
})
