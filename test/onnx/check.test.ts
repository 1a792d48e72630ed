import { describe, expect, test } from 'vitest'
import { check, type Model, node, normalise, sortNodes, withGraph } from '../../src/onnx/index.ts'
import { floats } from '../../src/tensor/index.ts'
import { run, tinyModel } from './runner.ts'

const x = { name: 'x', fact: { type: 'float32', dims: [1, 2] } } as const
const chain = tinyModel({
  inputs: [x],
  outputs: [{ name: 'c', fact: { type: 'float32' } }],
  nodes: [node('Relu', ['x'], ['a']), node('Sigmoid', ['a'], ['b']), node('Add', ['a', 'b'], ['c'])],
})
const withNodes = (change: (nodes: Model['graph']['nodes']) => Model['graph']['nodes']): Model =>
  withGraph(chain, { nodes: change(chain.graph.nodes) })

describe('check names the culprit of', () => {
  test('a value that is read before it is made', () => {
    expect(() => check(withNodes((nodes) => [...nodes].reverse()))).toThrow(/reads a, which nothing before it makes/)
  })
  test('a value that is made twice', () => {
    expect(() => check(withNodes((nodes) => [...nodes, { ...node('Relu', ['x'], ['b']), name: 'twin' }]))).toThrow(
      /value b is made twice, the second time by node twin/,
    )
  })
  test('an output that nothing makes', () => {
    expect(() => check(withGraph(chain, { outputs: [{ name: 'nothing' }] }))).toThrow(
      /nothing makes the output nothing/,
    )
  })
  test('two nodes of one name', () => {
    expect(() => check(withNodes((nodes) => nodes.map((each) => ({ ...each, name: 'same' }))))).toThrow(/called same/)
  })
  test('an initializer whose shape lies', () => {
    const initializers = new Map([['w', { ...floats([2], [1, 2]), dims: [3] }]])
    expect(() => check(withGraph(chain, { initializers }))).toThrow(/initializer w has 2 elements for the shape \[3\]/)
  })
  test('a fraction as an integer attribute', () => {
    const attributes = { axis: { kind: 'int', value: 1.5 } } as const
    expect(() => check(withNodes((nodes) => [{ ...nodes[0]!, attributes }, ...nodes.slice(1)]))).toThrow(
      /axis of node a/,
    )
  })
  test('an operator of a domain that the model does not import', () => {
    expect(() => check(withNodes((nodes) => nodes.map((each) => ({ ...each, domain: 'strange' }))))).toThrow(/strange/)
  })
})

test('nodes in the wrong order are sorted, and a sorted graph stays as it is', () => {
  const shuffled = withNodes((nodes) => [nodes[2]!, nodes[0]!, nodes[1]!])
  expect(sortNodes(shuffled.graph).nodes).toEqual(chain.graph.nodes)
  expect(sortNodes(chain.graph).nodes).toEqual(chain.graph.nodes)
})

test('a graph of thousands of nodes in reverse order is sorted without overflowing the stack', () => {
  const nodes = Array.from({ length: 20_000 }, (_, i) => node('Relu', [i === 0 ? 'x' : `v${i - 1}`], [`v${i}`]))
  const sorted = sortNodes({ ...chain.graph, nodes: [...nodes].reverse() })
  expect(sorted.nodes).toEqual(nodes)
})

test('a file with a cycle, or with a value that nothing makes, is refused as damaged', async () => {
  const cyclic = withNodes((nodes) => [{ ...nodes[0]!, inputs: ['c'] }, ...nodes.slice(1)])
  await expect(normalise(cyclic, run)).rejects.toMatchObject({ code: 'MODEL_NOT_ONNX', message: /cycle/ })
  const dangling = withNodes((nodes) => [{ ...nodes[0]!, inputs: ['lost'] }, ...nodes.slice(1)])
  await expect(normalise(dangling, run)).rejects.toMatchObject({ code: 'MODEL_NOT_ONNX', message: /lost/ })
})
