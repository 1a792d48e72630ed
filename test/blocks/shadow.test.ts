import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { quantise } from '../../src/blocks/descendants/int8.ts'
import { readLayer, writeLayer } from '../../src/blocks/layer-weights.ts'
import { type LinearAlgebra, openLinearAlgebra } from '../../src/blocks/linear.ts'
import { layerParameters, shadowOf, withShadowWeights } from '../../src/blocks/shadow.ts'
import { openSession } from '../../src/engine/index.ts'
import { isOp, type Model, writeModel } from '../../src/onnx/index.ts'
import { floats, type Tensor } from '../../src/tensor/index.ts'
import { fire, inverted, residual, splitHead } from './tiny-blocks.ts'

let algebra: LinearAlgebra
beforeAll(async () => {
  algebra = await openLinearAlgebra()
})
afterAll(() => algebra.close())

/** Rounding to 8 bits, layer by layer: what a float shadow lacks. */
const ROUNDING = 0.02

async function run(model: Model, feeds: Readonly<Record<string, Tensor>>): Promise<Float32Array> {
  const session = await openSession(writeModel(model))
  try {
    return Object.values(await session.run(feeds))[0]!.data as Float32Array
  } finally {
    await session.release()
  }
}

/** ‖a − b‖² / ‖b‖² */
const difference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0) / b.reduce((sum, x) => sum + x * x, 0)

async function inInt8(make: typeof residual) {
  const { block, samples } = await make()
  const made = await quantise(block, { model: block.model, parameters: {} }, samples, algebra, {
    borders: new Map(),
    finalOutputs: new Set(),
    sums: 'exact',
  })
  return { block, sample: samples[0]!, int8: made!.model }
}

describe.each(Object.entries({ residual, inverted, fire, splitHead }))('%s in 8 bits', (_name, make) => {
  test('its shadow has no 8-bit operator and answers as it does, but for rounding', async () => {
    const { sample, int8 } = await inInt8(make)
    const shadow = shadowOf(int8)
    expect(shadow.graph.nodes.some((each) => isOp(each, 'QuantizeLinear', 'DequantizeLinear'))).toBe(false)
    expect(difference(await run(shadow, sample), await run(int8, sample))).toBeLessThan(ROUNDING)
  })

  test('weights go from a shadow back into 8 bits, and the answer follows them', async () => {
    const { sample, int8 } = await inInt8(make)
    const shadow = shadowOf(int8)
    const names = layerParameters(shadow)
    expect(names.length).toBeGreaterThan(1)
    const given = new Map(names.map((name) => [name, shadow.graph.initializers.get(name)!]))
    expect(withShadowWeights(int8, given)).toBe(int8)
    const halved = new Map(
      [...given].map(([name, value]) => [
        name,
        floats(
          value.dims,
          (value.data as Float32Array).map((w) => w * 0.9),
        ),
      ]),
    )
    const changed = withShadowWeights(int8, halved)
    const initializers = new Map([...shadow.graph.initializers, ...halved])
    const expected = await run({ ...shadow, graph: { ...shadow.graph, initializers } }, sample)
    expect(difference(await run(changed, sample), expected)).toBeLessThan(ROUNDING)
    expect(changed.graph.nodes.filter((each) => isOp(each, 'QuantizeLinear')).length).toBe(
      int8.graph.nodes.filter((each) => isOp(each, 'QuantizeLinear')).length,
    )
  })
})

test('a layer is read as it was written, in float and in 8 bits', async () => {
  const { block, int8 } = await inInt8(residual)
  for (const [model, digits] of [
    [block.model, 6],
    [int8, 2],
  ] as const) {
    const layer = model.graph.nodes.find((each) => each.op === 'Conv')!
    const own = readLayer(model.graph, layer)!
    const weights = floats(
      own.weights.dims,
      own.weights.data.map((w, i) => w * (1 + (i % 7) / 10)),
    )
    const bias = own.bias.map((b) => b + 0.25)
    const written = writeLayer(model, layer, weights, bias)
    const after = readLayer(written.graph, written.graph.nodes.find((each) => each.outputs[0] === layer.outputs[0])!)!
    expect(after.stored).toBe(own.stored)
    after.bias.forEach((b, i) => {
      expect(b).toBeCloseTo(bias[i]!, digits)
    })
    after.weights.data.forEach((w, i) => {
      expect(w).toBeCloseTo(weights.data[i]!, digits)
    })
  }
})
