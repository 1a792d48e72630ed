import { afterAll, beforeAll, expect, test } from 'vitest'
import { quantise } from '../../src/blocks/descendants/int8.ts'
import { analyseRanks, lowRank } from '../../src/blocks/descendants/low-rank.ts'
import { type LinearAlgebra, openLinearAlgebra, polish, verify } from '../../src/blocks/index.ts'
import { openSession } from '../../src/engine/index.ts'
import { type Model, writeModel } from '../../src/onnx/index.ts'
import { floats } from '../../src/tensor/index.ts'
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
  const integers = (await quantise(block, made, samples, algebra, options))!
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

test('what is solved again keeps more of its spread than least squares leaves', async () => {
  const builder = new Builder(5)
  builder.conv('x', 'first', 24, 8)
  builder.op('Relu', ['first'], 'h')
  builder.conv('h', 'y', 8, 24, 1)
  const { block, samples } = await builder.block([1, 8, 12, 12], 'y')
  // Most of what the last layer reads is gone: it can only follow a part.
  const weights = block.model.graph.initializers.get('first.w')!
  const left = (weights.data as Float32Array).map((weight, i) => (i < weights.data.length / 6 ? weight : 0))
  const initializers = new Map(block.model.graph.initializers).set('first.w', floats(weights.dims, left))
  const student = { ...block.model, graph: { ...block.model.graph, initializers } }
  const spreadOf = async (model: Model) => {
    const session = await openSession(writeModel(model))
    const values: number[][] = Array.from({ length: 8 }, () => [])
    for (const feeds of samples) {
      const y = (await session.run(feeds)).y!.data as Float32Array
      y.forEach((value, i) => {
        values[Math.floor(i / 144)]!.push(value)
      })
    }
    await session.release()
    return values.reduce((sum, channel) => {
      const mean = channel.reduce((a, b) => a + b, 0) / channel.length
      return sum + channel.reduce((a, b) => a + (b - mean) ** 2, 0)
    }, 0)
  }
  const options = { algebra, heldOut: 2, only: 'head', ridge: 1e-3 } as const
  const { models, layers } = await polish([{ original: block, student }], samples, options)
  expect(layers[0]).toMatchObject({ took: 'weights' })
  expect(layers[0]!.after).toBeLessThan(layers[0]!.before)
  // Least squares alone leaves a seventh of it.
  const kept = (await spreadOf(models[0]!)) / (await spreadOf(block.model))
  expect(kept).toBeGreaterThan(0.25)
  expect(kept).toBeLessThan(1)
})
