import { afterAll, beforeAll, expect, test } from 'vitest'
import { quantise } from '../../src/blocks/descendants/int8.ts'
import { analyseRanks, lowRank } from '../../src/blocks/descendants/low-rank.ts'
import { type LinearAlgebra, openLinearAlgebra, polish, verify } from '../../src/blocks/index.ts'
import { Builder } from './tiny-blocks.ts'

let algebra: LinearAlgebra
beforeAll(async () => {
  algebra = await openLinearAlgebra()
})
afterAll(() => algebra.close())

test('a layer that was split is solved again as it is: another window than the original has, and no stride', async () => {
  const builder = new Builder(3)
  builder.conv('x', 'first', 32, 32)
  builder.op('Relu', ['first'], 'h')
  builder.conv('h', 'y', 48, 32, 3, { stride: 2 })
  const { block, samples } = await builder.block([1, 32, 16, 16], 'y')
  const splits = await analyseRanks(block, samples, algebra)
  const made = (await lowRank(block, samples, splits, 0.4, algebra))!
  expect(made.parameters.layers).toContain('y')
  const options = { borders: new Map(), finalOutputs: new Set<string>(), sums: 'exact' } as const
  const integers = (await quantise(block, made, samples, options))!
  for (const { model } of [made, integers]) {
    const before = await verify(block, model, samples, false)
    const polished = await polish([{ original: block, student: model }], samples, { algebra, heldOut: 2, only: 'head' })
    expect(polished.layers).toHaveLength(1)
    expect(polished.layers[0]!.before).toBeGreaterThan(0.001)
    expect(polished.layers[0]!.after).toBeLessThanOrEqual(polished.layers[0]!.before)
    expect((await verify(block, polished.models[0]!, samples, false)).outputError).toBeLessThan(
      1.05 * before.outputError,
    )
  }
})
