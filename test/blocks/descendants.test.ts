import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { quantise } from '../../src/blocks/descendants/int8.ts'
import { leastWeightsRemoved, pruneByL1 } from '../../src/blocks/descendants/l1.ts'
import { analyseRanks, lowRank } from '../../src/blocks/descendants/low-rank.ts'
import { analysePruning, prune } from '../../src/blocks/descendants/prune.ts'
import { analyseReplacements, replaceBranches } from '../../src/blocks/descendants/replace.ts'
import { rankClasses } from '../../src/blocks/importance.ts'
import {
  defaultRecipes,
  type KnownDescendant,
  type LinearAlgebra,
  type Made,
  makeDescendants,
  openLinearAlgebra,
  type Samples,
  verify,
} from '../../src/blocks/index.ts'
import { removeChannels } from '../../src/blocks/remove.ts'
import { macs } from '../../src/onnx/index.ts'
import { floats, type Tensor } from '../../src/tensor/index.ts'
import { Builder, fire, gated, inverted, residual, shuffled, splitHead } from './tiny-blocks.ts'

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
      recipes: defaultRecipes,
      borders: new Map(),
      ends,
      sums: 'exact',
    })) {
      if (each.kind === 'dropped') {
        expect(each.why).toMatch(
          /same widths|nothing can be removed|would miss|would save|wide enough|gains from it|faster, smaller|lighter form/,
        )
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

test('channels go where the output of the block misses them least', async () => {
  const b = new Builder(12)
  for (const side of ['quiet', 'loud']) {
    b.conv('x', `${side}.a`, 64, 16, 3)
    b.op('Relu', [`${side}.a`], `${side}.r`)
    b.conv(`${side}.r`, side, 16, 64, 3)
  }
  // one side is a tenth of what it would be, so that errors of equal share matter little there
  const weights = b.initializers.get('quiet.w')!
  b.initializers.set('quiet.w', {
    ...weights,
    data: Float32Array.from(weights.data as Float32Array, (w) => w / 10),
  } as Tensor)
  b.op('Add', ['quiet', 'loud'], 'y')
  const { block, samples } = await b.block([1, 16, 8, 8], 'y', 32)
  const pruned = await prune(block, samples, await analysePruning(block, samples, algebra), 0.5, algebra)
  const [quiet, loud] = String(pruned!.parameters.widths).split(' ').map(Number)
  expect(quiet!).toBeLessThan(loud! - 16)
})

describe('channels that are ranked', () => {
  const [d, outputs] = [4, 2]
  // 0 and 1 always rise and fall together, 2 and 3 go against each other
  const gram = Float32Array.of(1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1.21, -1.21, 0, 0, -1.21, 1.21)
  const weights = Float32Array.of(1, 1, 1, 1, 1, 1, 1, 1)
  const columnsOf = [[0], [1], [2], [3]]
  const reader = { gram, weights, outputs, columnLength: d, columnsOf, power: 8 }

  test('by few rows: those that cancel go together before one of those that add up', async () => {
    const { order, loss } = await rankClasses([{ ...reader, rows: 8 }], algebra)
    expect(order).toEqual([0, 2, 3, 1])
    // what is left of the output when 0, 2 and 3 are gone, and when nothing is there: a quarter of the power is missing, then all
    expect(loss.map((each) => Math.round(100 * each) / 100)).toEqual([0, 0.25, 0.55, 0.55, 1])
  })

  test('by many rows: of two that are the same, the other one makes up for the first', async () => {
    const { order, loss } = await rankClasses([{ ...reader, rows: 8000 }], algebra)
    expect(new Set(order.slice(0, 2)).size).toBe(2)
    expect(loss[1]).toBeLessThan(0.01)
    const twice = await rankClasses(
      [
        { ...reader, rows: 8000 },
        { ...reader, rows: 8000 },
      ],
      algebra,
    )
    expect(twice.order).toEqual(order)
    twice.loss.slice(0, 3).forEach((each, n) => {
      expect(each).toBeCloseTo(loss[n]!, 6)
    })
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
  const made = await quantise(block, { model: block.model, parameters: {} }, samples, algebra, {
    borders: new Map([['y', shared]]),
    finalOutputs: new Set(),
    sums: 'exact',
  })
  const last = made!.model.graph.nodes.find((node) => node.outputs[0] === 'y')!
  expect(last.op).toBe('DequantizeLinear')
  const scale = made!.model.graph.initializers.get(last.inputs[1]!)!
  expect(scale.dims).toEqual([])
  expect(Number(scale.data[0])).toBeCloseTo(shared.scale, 6)
})

test('by least weights, the filters of nothing go first, and learning does not make it worse', async () => {
  const { block, samples } = await residual()
  const { channels } = await analysePruning(block, samples.slice(0, 16), algebra)
  const [group] = channels.groups
  const silenced = new Set(group!.classes.slice(0, 8))
  const maker = block.model.graph.nodes.find(({ outputs }) => outputs[0] === group!.id)!
  const weights = block.model.graph.initializers.get(maker.inputs[1]!)!
  const data = Float32Array.from(weights.data as Float32Array)
  const each = data.length / weights.dims[0]!
  channels.layout.get(group!.id)!.forEach((id, channel) => {
    if (silenced.has(id)) data.fill(0, channel * each, (channel + 1) * each)
  })
  const initializers = new Map([...block.model.graph.initializers, [maker.inputs[1]!, { ...weights, data }]])
  const quiet = { ...block, model: { ...block.model, graph: { ...block.model.graph, initializers } } }
  const wanted = channels.groups.map(({ classes }, i) => classes.length - (i === 0 ? 8 : 0))
  const removed = leastWeightsRemoved(quiet, channels, wanted)
  const same = removeChannels(quiet.model, channels, quiet.nominal, silenced)
  expect((await verify(quiet, removed, samples, false)).outputError).toBeCloseTo(
    (await verify(quiet, same, samples, false)).outputError,
    9,
  )

  const widths = (await pruneByL1(block, samples, 0.5))!
  const start = leastWeightsRemoved(block, channels, String(widths.parameters.widths).split(' ').map(Number))
  const [learnt, before] = [
    await verify(block, widths.model, samples, false),
    await verify(block, start, samples, false),
  ]
  expect(learnt.fault).toBeUndefined()
  expect(learnt.outputError).toBeLessThan(before.outputError)
})

test('what a build that was interrupted has made counts for the rest: its manner of 8 bits, its widths, and what it offers', async () => {
  const { block, samples } = await residual()
  const rest = async (known: readonly KnownDescendant[]) => {
    const options = {
      recipes: ['int8', 'prune-int8'],
      borders: new Map(),
      ends: new Set<string>(),
      sums: 'exact',
    } as const
    const all: Made[] = []
    for await (const each of makeDescendants(block, samples, algebra, { ...options, known })) all.push(each)
    return all
  }
  const made = (all: readonly Made[]) => all.flatMap((each) => (each.kind === 'made' ? [each.descendant] : []))
  const manner = { ranges: '{"x":1,"r1":0.56,"c2":0.75,"y":1}', equalised: 0 }
  const after = made(await rest([{ id: 'int8', parameters: manner }]))
  expect(after.length).toBeGreaterThan(1)
  for (const { parameters } of after) expect(parameters).toMatchObject(manner)

  const twin = { id: 'prune50-int8', parameters: { ...manner, widths: after[0]!.parameters.widths! } }
  expect(await rest([{ id: 'int8', parameters: manner }, twin])).toContainEqual({
    kind: 'dropped',
    id: 'prune25',
    why: 'it has the same widths as prune50',
  })

  const best = { latencyShare: 0.001, weightBytes: 1, outputError: 0 }
  expect(made(await rest([{ id: 'int8', parameters: manner, offer: best }]))).toEqual([])
})

test('a block whose channels are all tied to its borders is left as it is, with the reason', async () => {
  const b = new Builder(9)
  b.conv('x', 'c', 16, 16)
  b.op('Add', ['c', 'x'], 'y')
  const { block, samples } = await b.block([1, 16, 8, 8], 'y', 16)
  const results = []
  for await (const each of makeDescendants(block, samples, algebra, {
    recipes: ['prune'],
    borders: new Map(),
    ends: new Set(),
    sums: 'exact',
  }))
    results.push(each)
  expect(results).toEqual([{ kind: 'dropped', id: 'prune', why: expect.stringContaining('tied') }])
})

test('a branch that is linear is replaced without loss, and so is a layer whose output has few directions', async () => {
  const b = new Builder(11)
  b.conv('x', 'down', 64, 32, 1)
  b.conv('down', 'up', 32, 64, 1)
  b.op('Add', ['up', 'x'], 'sum')
  b.conv('sum', 'y', 16, 32, 1)
  const linear = await b.block([1, 32, 8, 8], 'y')
  const [branch] = await analyseReplacements(linear.block, linear.samples, 'drop', algebra)
  expect(branch!.branch).toMatchObject({ from: 'x', output: 'up', residual: true })
  const dropped = await replaceBranches(linear.block, linear.samples, [branch!], algebra)
  expect((await verify(linear.block, dropped.model, linear.samples, false)).outputError).toBeLessThan(1e-5)

  const flat = new Builder(12)
  flat.conv('x', 'wide', 64, 32)
  const weights = flat.initializers.get('wide.w')!
  // Every output channel repeats one of eight.
  const repeated = Float32Array.from(weights.data as Float32Array, (_, i) => {
    const [o, rest] = [Math.floor(i / 288), i % 288]
    return (weights.data as Float32Array)[(o % 8) * 288 + rest]!
  })
  flat.initializers.set('wide.w', floats(weights.dims, repeated))
  flat.op('Relu', ['wide'], 'y')
  const { block, samples } = await flat.block([1, 32, 8, 8], 'y')
  const splits = await analyseRanks(block, samples, algebra)
  const made = await lowRank(block, samples, splits, 0.4, algebra)
  expect((await verify(block, made!.model, samples, false)).outputError).toBeLessThan(1e-5)
})

test('a layer whose filters are separable becomes one along columns and one along rows, with stride and padding, and loses nothing', async () => {
  const builder = new Builder(13)
  builder.conv('x', 'h', 32, 32)
  builder.op('Relu', ['h'], 'r')
  builder.conv('r', 'y', 48, 32, 3, { stride: 2 })
  const weights = builder.initializers.get('y.w')!
  // Each filter is the sum of eight products of a column and a row.
  const [columns, rows] = [() => builder.random() - 0.5, () => builder.random() - 0.5]
  const factor = (length: number, make: () => number) => Float32Array.from({ length }, make)
  const [down, along] = [factor(8 * 32 * 3, columns), factor(48 * 8 * 3, rows)]
  const separable = Float32Array.from(weights.data as Float32Array, (_, at) => {
    const [o, c, y, x] = [Math.floor(at / 288), Math.floor(at / 9) % 32, Math.floor(at / 3) % 3, at % 3]
    let sum = 0
    for (let r = 0; r < 8; r++) sum += down[(r * 32 + c) * 3 + y]! * along[(o * 8 + r) * 3 + x]!
    return sum
  })
  builder.initializers.set('y.w', floats(weights.dims, separable))
  const { block, samples } = await builder.block([1, 32, 10, 12], 'y')
  const layers = await analyseRanks(block, samples, algebra)
  const last = layers.find((ways) => ways.some(({ reference }) => reference.output === 'y'))!
  const made = (await lowRank(block, samples, [last], 0.4, algebra))!
  expect(made.parameters).toMatchObject({ layers: 'y', ways: 'spatial' })
  expect((await verify(block, made.model, samples, false)).outputError).toBeLessThan(1e-5)
  expect(macs(made.model, new Map([...block.nominal, ...made.added!]))).toBeLessThan(macs(block.model, block.nominal))
})
