import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { quantise } from '../../src/blocks/descendants/int8.ts'
import { analysePruning, prune } from '../../src/blocks/descendants/prune.ts'
import { type LinearAlgebra, makeDescendants, openLinearAlgebra, type Samples, verify } from '../../src/blocks/index.ts'
import { removeChannels } from '../../src/blocks/remove.ts'
import { macs } from '../../src/onnx/index.ts'
import { fire, gated, inverted, residual, shuffled, splitHead } from './tiny-blocks.ts'

let algebra: LinearAlgebra
beforeAll(async () => {
  algebra = await openLinearAlgebra()
})
afterAll(() => algebra.close())

const blocks = { residual, inverted, fire, gated, splitHead, shuffled }

describe.each(Object.entries(blocks))('%s', (_name, make) => {
  test('every descendant keeps the border, runs, is finite, and computes less or in integers', async () => {
    const { block, samples } = await make()
    const ends = new Set<string>()
    const made: string[] = []
    for await (const each of makeDescendants(block, samples, algebra, {
      recipes: ['prune', 'int8', 'prune-int8'],
      borders: new Map(),
      ends,
      weightBits: 8,
    })) {
      if (each.kind === 'dropped') {
        expect(each.why).toMatch(/same widths|nothing can be removed/)
        continue
      }
      made.push(each.descendant.id)
      const { graph } = each.descendant.model
      expect(graph.inputs.map(({ name }) => name)).toEqual(block.inputs.map(({ name }) => name))
      expect(graph.outputs.map(({ name }) => name)).toEqual(block.outputs.map(({ name }) => name))
      expect(each.verdict.outputError).toBeLessThan(0.9)
      const cheaper = each.macs < macs(block.model, block.nominal)
      expect(cheaper || each.verdict.integerLayers > 0).toBe(true)
    }
    expect(made).toContain('int8')
    expect(made.filter((id) => id.startsWith('prune')).length).toBeGreaterThan(1)
  })

  test('solving the readers again loses less than only removing the channels', async () => {
    const { block, samples } = await make()
    const [train, held] = [samples.slice(0, 72), samples.slice(72)] as [Samples, Samples]
    const analysis = await analysePruning(block, train, algebra)
    const pruned = await prune(block, train, analysis, 0.5, algebra)
    const { channels, rankings } = analysis
    const widths = String(pruned!.parameters.widths).split(' ').map(Number)
    const removed = new Set(
      channels.groups.flatMap((group, i) =>
        rankings[i]!.order.slice(0, group.classes.length - widths[i]!).map((rank) => group.classes[rank]!),
      ),
    )
    const plain = removeChannels(block.model, channels, block.nominal, removed)
    const [with_, without] = [await verify(block, pruned!.model, held, false), await verify(block, plain, held, false)]
    expect(with_.fault).toBeUndefined()
    expect(with_.outputError).toBeLessThan(without.outputError)
  })
})

test('removing channels that carry nothing changes nothing', async () => {
  const { block, samples } = await inverted()
  const { channels } = await analysePruning(block, samples.slice(0, 16), algebra)
  const weights = block.model.graph.initializers.get('project.w')!
  const data = Float32Array.from(weights.data as Float32Array)
  const removed = new Set(channels.groups[0]!.classes.slice(0, 32))
  const layout = channels.layout.get('d6')!
  for (const [c, each] of layout.entries()) {
    if (removed.has(each)) for (let o = 0; o < 16; o++) data[o * 96 + c] = 0
  }
  const initializers = new Map([...block.model.graph.initializers, ['project.w', { ...weights, data }]])
  const silent = { ...block, model: { ...block.model, graph: { ...block.model.graph, initializers } } }
  const smaller = removeChannels(silent.model, channels, silent.nominal, removed)
  const { outputError } = await verify(silent as typeof block, smaller, samples, false)
  expect(outputError).toBeLessThan(1e-9)
})

test('int8 keeps to the range of a shared border, so that neighbours can hand their bytes over', async () => {
  const { block, samples } = await residual()
  const shared = { scale: 0.031, zeroPoint: 0 }
  const made = await quantise(block, { model: block.model, parameters: {} }, samples, {
    borders: new Map([['y', shared]]),
    finalOutputs: new Set(),
  })
  const last = made!.model.graph.nodes.find((node) => node.outputs[0] === 'y')!
  expect(last.op).toBe('DequantizeLinear')
  const scale = made!.model.graph.initializers.get(last.inputs[1]!)!
  expect(scale.dims).toEqual([])
  expect(Number(scale.data[0])).toBeCloseTo(shared.scale, 6)
})

test('a block whose channels are all tied to its borders is left as it is, with the reason', async () => {
  const { Builder } = await import('./tiny-blocks.ts')
  const b = new Builder(9)
  b.conv('x', 'c', 16, 16)
  b.op('Add', ['c', 'x'], 'y')
  const { block, samples } = await b.block([1, 16, 8, 8], 'y', 16)
  const results = []
  for await (const each of makeDescendants(block, samples, algebra, {
    recipes: ['prune'],
    borders: new Map(),
    ends: new Set(),
    weightBits: 8,
  }))
    results.push(each)
  expect(results).toEqual([{ kind: 'dropped', id: 'prune', why: expect.stringContaining('tied') }])
})
