import { describe, expect, test } from 'vitest'
import { compose, type Fact, type Model, node } from '../../src/onnx/index.ts'
import { sample } from '../../src/onnx/normalise/samples.ts'
import { floats, type Tensor } from '../../src/tensor/index.ts'
import { run, tinyModel } from './runner.ts'

const map: Fact = { type: 'float32', dims: [1, 4, 6, 10] }
const border = (name: string) => ({ name, fact: map })
const ends = { inputs: [border('x')], outputs: [border('y')], name: 'whole' }

const byte = (value: number): Tensor => ({ type: 'uint8', dims: [], data: Uint8Array.of(value) })

/** Both blocks use the same names inside, and quantise at their ends. */
function block(input: string, output: string, scales: readonly [number, number], extra?: string): Model {
  const initializers = { s0: floats([], [scales[0]]), s1: floats([], [scales[1]]), z: byte(128) }
  const nodes = [
    node('QuantizeLinear', [input, 's0', 'z'], ['q']),
    node('DequantizeLinear', ['q', 's0', 'z'], ['d']),
    node('Relu', ['d'], ['r']),
    node('QuantizeLinear', ['r', 's1', 'z'], ['p']),
    node('DequantizeLinear', ['p', 's1', 'z'], [output]),
    ...(extra ? [node('Relu', ['d'], [extra])] : []),
  ]
  const outputs = [border(output), ...(extra ? [border(extra)] : [])]
  return tinyModel({ inputs: [border(input)], outputs, nodes, initializers })
}

const ops = ({ graph }: Model): string[] => graph.nodes.map(({ op }) => op)

describe('at a border of equal quantisation', () => {
  const chain = [block('x', 'm', [0.01, 0.02]), block('m', 'y', [0.02, 0.01])]

  test('the 8-bit tensor itself is handed over, and the outputs are those of the chain', async () => {
    const whole = compose(chain, ends)
    const [q, d] = ['QuantizeLinear', 'DequantizeLinear']
    expect(ops(whole)).toEqual([q, d, 'Relu', q, d, 'Relu', q, d])
    const x = sample('float32', map.dims as number[], 3)
    const { m } = await run(chain[0]!, { x }, ['m'])
    const { y } = await run(chain[1]!, { m: m! }, ['y'])
    expect((await run(whole, { x }, ['y'])).y?.data).toEqual(y?.data)
  })

  test('a float consumer beside it still gets floats', async () => {
    const beside = tinyModel({ inputs: [border('m')], outputs: [border('f')], nodes: [node('Sigmoid', ['m'], ['f'])] })
    const last = tinyModel({
      inputs: [border('n'), border('f')],
      outputs: [border('y')],
      nodes: [node('Add', ['n', 'f'], ['y'])],
    })
    const blocks = [chain[0]!, beside, block('m', 'n', [0.02, 0.01]), last]
    const whole = compose(blocks, ends)
    expect(ops(whole).filter((op) => op === 'QuantizeLinear').length).toBe(3)
    const x = sample('float32', map.dims as number[], 3)
    const values: Record<string, Tensor> = { x }
    for (const { graph, ...rest } of blocks) {
      Object.assign(
        values,
        await run(
          { ...rest, graph },
          Object.fromEntries(graph.inputs.map(({ name }) => [name, values[name]!])),
          graph.outputs.map(({ name }) => name),
        ),
      )
    }
    expect((await run(whole, { x }, ['y'])).y?.data).toEqual(values.y?.data)
  })

  test('with another scale both steps stay', () => {
    const whole = compose([block('x', 'm', [0.01, 0.02]), block('m', 'y', [0.021, 0.01])], ends)
    expect(ops(whole).filter((op) => op === 'QuantizeLinear').length).toBe(4)
  })
})

test('a value that no later block reads is left out', () => {
  const whole = compose([block('x', 'm', [0.01, 0.02], 'unread'), block('m', 'y', [0.02, 0.01])], ends)
  expect(whole.graph.nodes.flatMap(({ outputs }) => outputs)).not.toContain('unread')
})

test('a block that is missing is named by the value that nothing makes', () => {
  expect(() => compose([block('m', 'y', [0.02, 0.01])], ends)).toThrow(/reads m, which nothing before it makes/)
})

test('blocks of different operator sets are joined where their operators mean the same, and refused where not', () => {
  const simple = (input: string, output: string, opset: number, op: string) =>
    tinyModel({ inputs: [border(input)], outputs: [border(output)], nodes: [node(op, [input], [output])] }, opset)
  const joined = compose([simple('x', 'm', 13, 'Relu'), simple('m', 'y', 17, 'Relu')], ends)
  expect(joined.opsets.get('')).toBe(17)
  expect(() => compose([simple('x', 'm', 13, 'ReduceMean'), simple('m', 'y', 18, 'Relu')], ends)).toThrow(
    /block 0 has ReduceMean .* of operator set 13, which means something else in 18/,
  )
})
