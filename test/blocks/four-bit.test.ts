import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { seededRandom } from '../../src/base/index.ts'
import { inFourBits } from '../../src/blocks/descendants/four-bit.ts'
import { quantise } from '../../src/blocks/descendants/int8.ts'
import { fourBitWeights } from '../../src/blocks/four-bit-weights.ts'
import {
  type Block,
  type KnownDescendant,
  type LinearAlgebra,
  type Made,
  makeDescendants,
  openLinearAlgebra,
  polish,
  type Samples,
  verify,
} from '../../src/blocks/index.ts'
import { compensationFor } from '../../src/blocks/integer-weights.ts'
import { layerParameters, shadowOf } from '../../src/blocks/shadow.ts'
import { outputError } from '../../src/blocks/verify.ts'
import { int, type Model, macs, node, weightBytes } from '../../src/onnx/index.ts'
import { Builder, inverted } from './tiny-blocks.ts'

let algebra: LinearAlgebra
beforeAll(async () => {
  algebra = await openLinearAlgebra()
})
afterAll(() => algebra.close())

const CLASSES = 250
const WIDTH = 192

/** A convolution, a pool, and a classifier that holds most weights: as a matrix, or as a convolution of the pooled map. */
function classifier(as: 'Gemm' | 'Conv', pool = true): Promise<{ block: Block; samples: Samples }> {
  const b = new Builder(8)
  b.conv('x', 'c', WIDTH, 16, 3)
  b.op('Relu', ['c'], 'r')
  if (pool) b.op('GlobalAveragePool', ['r'], 'pool')
  if (as === 'Conv') b.conv(pool ? 'pool' : 'r', 'y', CLASSES, WIDTH, 1)
  else {
    b.op('Flatten', ['pool'], 'flat')
    const weights = [b.weights('fc.w', [CLASSES, WIDTH]), b.weights('fc.b', [CLASSES])]
    b.nodes.push(node('Gemm', ['flat', ...weights], ['y'], { transB: int(1) }))
  }
  return b.block([1, 16, 8, 8], 'y')
}

const options = { borders: new Map(), finalOutputs: new Set(['y']), sums: 'exact' } as const

describe.each(['Gemm', 'Conv'] as const)('a head that is a %s', (as) => {
  test('takes half the bytes in 4 bits, gives nearly the same, and multiplies as much', async () => {
    const { block, samples } = await classifier(as)
    const int8 = (await quantise(block, { model: block.model, parameters: {} }, samples, algebra, options))!
    const small = (await inFourBits(int8, samples, algebra, 'heads'))!
    expect(small.id).toBe('int8-w4')
    expect(small.parameters).toMatchObject({ ranges: int8.parameters.ranges, fourBit: expect.stringMatching(/^y/) })
    expect(weightBytes(int8.model) - weightBytes(small.model)).toBeGreaterThan(0.35 * CLASSES * WIDTH)
    expect(macs(small.model, block.nominal)).toBe(macs(int8.model, block.nominal))
    // neither solved again nor trained: what is learned of 4-bit weights would be lost in rounding
    expect(layerParameters(shadowOf(small.model))).toHaveLength(2)
    for (const only of ['head', 'sequence'] as const) {
      const polished = await polish([{ original: block, student: small.model }], samples, { algebra, heldOut: 2, only })
      expect((await verify(block, polished.models[0]!, samples, false)).fault).toBeUndefined()
      expect(polished.models[0]!.graph.nodes.some(({ op }) => op === 'MatMulNBits')).toBe(true)
    }
    const verdict = await verify(block, small.model, samples, false)
    expect(verdict.fault).toBeUndefined()
    expect(verdict.outputError).toBeLessThan(0.02)
  })

  test('is done in float as well', async () => {
    const { block, samples } = await classifier(as)
    const from = { block: block.id, id: int8Id, kind: 'prune', parameters: {}, model: block.model } as const
    const small = (await inFourBits(from, samples, algebra, 'heads'))!
    expect((await verify(block, small.model, samples, false)).outputError).toBeLessThan(0.02)
    // what is trained in its place gives the same
    expect(await outputError(small.model, shadowOf(small.model), samples)).toBeLessThan(1e-9)
  })
})

/** Two wide 1×1 convolutions around a depthwise one, and one that strides. */
async function pointwise(): Promise<{ block: Block; samples: Samples }> {
  const b = new Builder(9)
  b.conv('x', 'e', 96, 80, 1)
  b.relu6('e', 'r')
  b.conv('r', 'd', 96, 96, 3, { group: 96 })
  b.conv('d', 'p', 80, 96, 1)
  b.conv('p', 'y', 96, 80, 1, { stride: 2 })
  return b.block([1, 80, 8, 6], 'y')
}

const anySize = (model: Model): Model => {
  const inputs = model.graph.inputs.map(({ name }) => ({
    name,
    fact: { type: 'float32', dims: [1, 80, null, null] } as const,
  }))
  return {
    ...model,
    graph: { ...model.graph, inputs, outputs: model.graph.outputs.map(({ name }) => ({ name })), facts: new Map() },
  }
}

describe('1×1 convolutions of maps', () => {
  test('take half the bytes in 4 bits, give nearly the same at every size, and multiply as much', async () => {
    const { block, samples } = await pointwise()
    const int8 = (await quantise(block, { model: block.model, parameters: {} }, samples, algebra, options))!
    const small = (await inFourBits(int8, samples, algebra, 'pointwise'))!
    expect(small.id).toBe('int8-w4p')
    expect(
      String(small.parameters.fourBit)
        .split(' ')
        .map((name) => name[0]),
    ).toEqual(['e', 'p'])
    // 62 bytes for the 96 of each output of the second, 60 for the 80 of the first
    expect(weightBytes(int8.model) - weightBytes(small.model)).toBeGreaterThan(0.25 * 2 * 80 * 96)
    expect(macs(small.model, block.nominal)).toBe(macs(int8.model, block.nominal))
    expect(layerParameters(shadowOf(small.model))).toHaveLength(4)
    const verdict = await verify(block, small.model, samples, false)
    expect(verdict.fault).toBeUndefined()
    expect(verdict.outputError).toBeLessThan(0.02)
    // what is trained in its place gives the same but for 8-bit rounding between layers
    expect(await outputError(small.model, shadowOf(small.model), samples)).toBeLessThan(1e-3)
    const turned: Samples = [{ x: { ...samples[0]!.x!, dims: [1, 80, 6, 8] } as Samples[0][string] }]
    expect(await outputError(anySize(block.model), anySize(small.model), turned)).toBeLessThan(0.05)
  })

  test('are offered of what is pruned little, not of what is dropped or split', async () => {
    const { block, samples } = await pointwise()
    const ids: string[] = []
    const how = { recipes: ['int8', 'prune-int8', 'low-rank'], borders: new Map(), ends: new Set<string>() } as const
    for await (const each of makeDescendants(block, samples, algebra, { ...how, sums: 'exact' })) {
      ids.push(each.kind === 'made' ? each.descendant.id : each.id)
    }
    expect(ids.filter((id) => id.endsWith('-w4p'))).toEqual(['int8-w4p', 'prune25-int8-w4p', 'prune50-int8-w4p'])
    expect(ids.filter((id) => id.endsWith('-w4'))).toEqual([])
  })
})

const int8Id = 'prune25' as Parameters<typeof inFourBits>[0]['id']

test('a convolution of a map, and a block without one, have no head', async () => {
  for (const { block, samples } of [await classifier('Conv', false), await inverted()]) {
    const from = { block: block.id, id: int8Id, kind: 'prune', parameters: {}, model: block.model } as const
    expect(await inFourBits(from, samples, algebra, 'heads')).toBeUndefined()
  }
})

test('the menu offers it beside the form in 8 bits, also after an interruption between the two', async () => {
  const { block, samples } = await classifier('Gemm')
  const menu = async (known: readonly KnownDescendant[]) => {
    const all: Made[] = []
    const how = { recipes: ['int8'], borders: new Map(), ends: new Set(['y']), sums: 'exact' } as const
    for await (const each of makeDescendants(block, samples, algebra, { ...how, known })) all.push(each)
    return all
  }
  const idsOf = (all: readonly Made[]) => all.map((each) => (each.kind === 'made' ? each.descendant.id : each.id))
  const all = await menu([])
  expect(idsOf(all)).toEqual(['int8', 'int8-w4'])
  const [first] = all
  if (first?.kind !== 'made') throw new Error('not made')
  const { latencyShare, outputError } = first.verdict
  const offer = { latencyShare, outputError, weightBytes: first.weightBytes }
  const { parameters } = first.descendant
  expect(idsOf(await menu([{ id: 'int8', parameters, offer }]))).toEqual(['int8-w4'])
  expect(await menu([{ id: 'int8', parameters, offer }, { id: 'int8-w4' }])).toEqual([])
  expect(await menu([{ id: 'int8' }])).toEqual([])
})

describe('weights in 4 bits', () => {
  const random = seededRandom(4)
  const [outputs, inputs] = [12, 100]
  const weights = Float32Array.from({ length: outputs * inputs }, () => random() - 0.5)
  const even = new Float64Array(inputs).fill(1)

  test('are stored two to a byte, with a scale for each group, padded with zeros', () => {
    const { stored, scales, real, group } = fourBitWeights(weights, inputs, even, undefined)
    const groups = Math.ceil(inputs / group)
    expect(stored.dims).toEqual([outputs, groups, group / 2])
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i < groups * group; i++) {
        const byte = stored.data[(o * groups * group + i) >> 1]!
        const number = (i % 2 ? byte >> 4 : byte & 15) - 8
        const value = number * scales.data[o * groups + Math.floor(i / group)]!
        if (i < inputs) {
          expect(value).toBeCloseTo(real[o * inputs + i]!, 6)
          // half a step, or what the least scale that is tried clips
          expect(Math.abs(value - weights[o * inputs + i]!)).toBeLessThan(0.5 * (1 - (7 / 8) * 0.64))
        } else expect(number).toBe(0)
      }
    }
  })

  test('rounded in turn, errors make up for one another', () => {
    const common = Float64Array.from({ length: inputs }, () => random())
    const gram = new Float64Array(inputs * inputs)
    for (let i = 0; i < inputs; i++) {
      for (let j = 0; j < inputs; j++) gram[i * inputs + j] = common[i]! * common[j]! + (i === j ? 0.05 : 0)
    }
    const powers = even.map((_, i) => gram[i * inputs + i]!)
    const costOf = (real: Float32Array): number => {
      let sum = 0
      for (let o = 0; o < outputs; o++) {
        const e = even.map((_, i) => weights[o * inputs + i]! - real[o * inputs + i]!)
        for (let i = 0; i < inputs; i++) for (let j = 0; j < inputs; j++) sum += e[i]! * gram[i * inputs + j]! * e[j]!
      }
      return sum
    }
    const alone = fourBitWeights(weights, inputs, powers, undefined).real
    const together = fourBitWeights(weights, inputs, powers, compensationFor(gram, inputs)).real
    expect(costOf(together)).toBeLessThan(0.5 * costOf(alone))
  })

  test('a row of nothing stays nothing', () => {
    expect(fourBitWeights(new Float32Array(8), 8, even, undefined).real.every((value) => value === 0)).toBe(true)
  })
})
