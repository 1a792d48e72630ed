import { seededRandom } from '../../src/base/index.ts'
import {
  type AttributeProto,
  AttributeType,
  type GraphProto,
  ModelMessage,
  type ModelProto,
  type NodeProto,
  type TensorProto,
} from '../../src/onnx/format.ts'

/** A model that was damaged, or made to do harm, and how. */
export interface Mutant {
  readonly how: string
  readonly bytes: Uint8Array
}

type Random = () => number
const whole = (random: Random, below: number): number => Math.floor(random() * below)
const pick = <T>(random: Random, items: readonly T[]): T => items[whole(random, items.length)]!

/** The `seed`-th mutant of a real model; equal seeds give equal bytes. All kinds take turns. */
export function mutantOf(bytes: Uint8Array, seed: number): Mutant {
  const random = seededRandom(seed)
  const names = Object.keys(kinds)
  const how = names[seed % names.length]!
  return { how, bytes: kinds[how]!(bytes, random) }
}

export const kindsOfMutants = (): number => Object.keys(kinds).length

const ofBytes = (change: (bytes: Buffer, random: Random) => Uint8Array) => (bytes: Uint8Array, random: Random) =>
  change(Buffer.from(bytes), random)

interface Parts {
  readonly model: ModelProto
  readonly graph: GraphProto
  readonly nodes: NodeProto[]
  readonly weights: TensorProto[]
  readonly random: Random
}

/** Changes the message that the bytes stand for, so that what is wrong is the meaning and not the coding. */
const ofMeaning = (change: (parts: Parts) => void) => (bytes: Uint8Array, random: Random) => {
  const model = ModelMessage.decode(bytes) as unknown as ModelProto
  const graph = model.graph!
  graph.node ??= []
  graph.initializer ??= []
  change({ model, graph, nodes: graph.node, weights: graph.initializer, random })
  return ModelMessage.encode(model).finish()
}

/** A node that takes the place of the graph's end: it gets `inputs` beside the graph's first output. */
function appended({ graph, nodes }: Parts, op: string, inputs: string[], attribute: AttributeProto[] = []): void {
  const end = graph.output![0]!
  const before = `${end.name}_before`
  for (const node of nodes) node.output = node.output?.map((name) => (name === end.name ? before : name)) ?? []
  nodes.push({ opType: op, name: `bomb_${op}`, input: [before, ...inputs], output: [end.name!], attribute })
  end.type = { tensorType: { elemType: 1 } }
}

const longTensor = (name: string, ...values: number[]): TensorProto => ({
  name,
  dataType: 7,
  dims: [values.length],
  int64Data: values,
})

const HUGE = [2 ** 31, 2 ** 33 + 1, 2 ** 40, 2 ** 52, 100_000, 46_341, 65_536]
const ELSEWHERE = ['../secret.bin', '/etc/passwd', '..\\secret.bin', './x/../../secret.bin', 'file:///etc/passwd']

const external = (random: Random, name: string): TensorProto => ({
  name,
  dataType: 2,
  dims: [64],
  dataLocation: 1,
  externalData: [
    { key: 'location', value: pick(random, ELSEWHERE) },
    { key: 'length', value: '64' },
  ],
})

/** A part of a message in its coding: its number, its length and what is in it. */
function field(number: number, ...content: readonly Uint8Array[]): Buffer {
  const inner = Buffer.concat(content)
  const head = [(number << 3) | 2]
  for (let length = inner.length; ; length >>>= 7) {
    head.push(length > 127 ? (length & 127) | 128 : length)
    if (length <= 127) break
  }
  return Buffer.concat([Buffer.from(head), inner])
}

const kinds: Readonly<Record<string, (bytes: Uint8Array, random: Random) => Uint8Array>> = {
  'bits flipped': ofBytes((bytes, random) => {
    for (let i = 0; i <= whole(random, 32); i++) bytes[whole(random, bytes.length)]! ^= 1 << whole(random, 8)
    return bytes
  }),
  'bits of the structure flipped': ofBytes((bytes, random) => {
    // Names, sizes and tags are where letters are: weights hardly look like text.
    const places = [...bytes.keys()].filter((i) => bytes[i]! >= 97 && bytes[i]! < 123 && bytes[i + 1]! < 123)
    for (let i = 0; i < 4; i++) bytes[pick(random, places) + whole(random, 5) - 2]! = whole(random, 256)
    return bytes
  }),
  'cut off': ofBytes((bytes, random) => bytes.subarray(0, whole(random, bytes.length))),
  'a part missing': ofBytes((bytes, random) => {
    const from = whole(random, bytes.length)
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + 1 + whole(random, 400))])
  }),
  'a part twice': ofBytes((bytes, random) => {
    const from = whole(random, bytes.length)
    const part = bytes.subarray(from, from + whole(random, 4000))
    return Buffer.concat([bytes.subarray(0, from), part, bytes.subarray(from)])
  }),
  'noise in it': ofBytes((bytes, random) => {
    const from = whole(random, bytes.length)
    for (let i = from; i < Math.min(bytes.length, from + 64); i++) bytes[i] = whole(random, 256)
    return bytes
  }),
  'ones in it': ofBytes((bytes, random) => bytes.fill(255, whole(random, bytes.length)).subarray(0, bytes.length)),
  'two models in one': ofBytes((bytes) => Buffer.concat([bytes, bytes])),
  'a cycle': ofMeaning(({ nodes, random }) => {
    const at = whole(random, nodes.length)
    const later = nodes[at + whole(random, nodes.length - at)]!
    nodes[at]!.input = [later.output![0]!, ...(nodes[at]!.input ?? []).slice(1)]
  }),
  'a value made twice': ofMeaning(({ nodes, random }) => {
    nodes[whole(random, nodes.length)]!.output = [pick(random, nodes).output![0]!]
  }),
  'weights of the same name': ofMeaning(({ weights, random }) => {
    if (weights.length > 0) pick(random, weights).name = pick(random, weights).name!
  }),
  'nodes of the same name': ofMeaning(({ nodes }) => {
    for (const node of nodes) node.name = 'same'
  }),
  'strange names': ofMeaning(({ nodes, weights, graph, random }) => {
    const names = ['', '\0', '../../x', '__proto__', 'constructor', 'x'.repeat(1 << 20), '\ud83d\ude00', 'a\nb']
    const from = pick(random, [...nodes.flatMap(({ output }) => output ?? []), ...weights.map(({ name }) => name!)])
    const to = pick(random, names)
    const renamed = (name: string) => (name === from ? to : name)
    for (const node of nodes) {
      node.input = (node.input ?? []).map(renamed)
      node.output = (node.output ?? []).map(renamed)
      if (random() < 0.2) node.name = to
    }
    for (const weight of weights) weight.name = renamed(weight.name!)
    for (const { name } of graph.output ?? []) if (name === from) graph.output![0]!.name = to
  }),
  'a strange attribute': ofMeaning(({ nodes, random }) => {
    const name = pick(random, ['__proto__', 'toString', 'kernel_shape', 'group', 'axis', 'to', 'pads'])
    const value = pick(random, [-1, 0, 2 ** 31, 2 ** 53, 7])
    pick(random, nodes).attribute = [{ name, type: AttributeType.int, i: value }]
  }),
  'attributes of other kinds': ofMeaning(({ nodes, random }) => {
    const all = nodes.flatMap(({ attribute }) => attribute ?? [])
    for (let i = 0; i < 3 && all.length > 0; i++) pick(random, all).type = whole(random, 16)
  }),
  'numbers of layers changed': ofMeaning(({ nodes, random }) => {
    const all = nodes.flatMap(({ attribute }) => (attribute ?? []).filter(({ ints }) => ints?.length))
    for (let i = 0; i < 2 && all.length > 0; i++) {
      const chosen = pick(random, all)
      chosen.ints = chosen.ints!.map((each) => pick(random, [each, 0, -1, 2 ** 31 - 1, 2 ** 40, 1000]))
    }
  }),
  'weights of impossible shape': ofMeaning(({ weights, random }) => {
    if (weights.length === 0) return
    const dims = pick(random, weights).dims ?? []
    dims[whole(random, Math.max(1, dims.length))] = pick(random, [...HUGE, -1, 0, -(2 ** 31)])
  }),
  'weights of another type': ofMeaning(({ weights, random }) => {
    if (weights.length > 0) pick(random, weights).dataType = whole(random, 30)
  }),
  'weights gone': ofMeaning(({ weights, random }) => {
    weights.splice(whole(random, weights.length), 1)
  }),
  'weights that are no numbers': ofMeaning(({ weights, random }) => {
    const raw = pick(
      random,
      weights.filter(({ rawData }) => rawData?.length),
    )?.rawData
    if (!raw) return
    const filled = Buffer.alloc(raw.length)
    const bits = pick(random, [0x7fc00000, 0x7f800000, 0x7f7fffff])
    for (let i = 0; i + 4 <= raw.length; i += 4) filled.writeUInt32LE(bits, i)
    raw.set(filled)
  }),
  'an input of huge size': ofMeaning(({ graph, random }) => {
    const dims = graph.input![0]!.type!.tensorType!.shape!.dim!
    for (const dim of dims.slice(-2)) {
      delete dim.dimParam
      dim.dimValue = pick(random, HUGE)
    }
  }),
  'an input of another shape': ofMeaning(({ graph, random }) => {
    const shape = graph.input![0]!.type!.tensorType!.shape!
    shape.dim = Array.from({ length: whole(random, 7) }, () => ({ dimValue: pick(random, [1, 3, 0, 17, 224, -5]) }))
  }),
  'an input of another type': ofMeaning(({ graph, random }) => {
    graph.input![0]!.type!.tensorType!.elemType = whole(random, 24)
  }),
  'inputs or outputs gone': ofMeaning(({ graph, random }) => {
    if (random() < 0.5) graph.input = []
    else graph.output = random() < 0.5 ? [] : [{ name: 'nowhere' }]
  }),
  'weights in another file': ofMeaning(({ weights, random }) => {
    Object.assign(pick(random, weights), {
      ...external(random, ''),
      name: pick(random, weights).name,
      rawData: undefined,
    })
  }),
  'a constant in another file': ofMeaning((parts) => {
    parts.nodes.unshift({
      opType: 'Constant',
      output: ['stolen'],
      attribute: [{ name: 'value', type: AttributeType.tensor, t: external(parts.random, 'stolen') }],
    })
  }),
  'a list of tensors in another file': ofMeaning(({ nodes, random }) => {
    pick(random, nodes).attribute = [{ name: 'all', type: 9, tensors: [external(random, 'stolen')] }]
  }),
  'a sparse tensor in another file': ofMeaning(({ nodes, random }) => {
    const sparse = { values: external(random, 'stolen'), indices: longTensor('', 1), dims: [64] }
    nodes.unshift({
      opType: 'Constant',
      output: ['stolen'],
      attribute: [{ name: 'sparse_value', type: 11, sparseTensor: sparse }],
    })
  }),
  'another file inside a function': ofMeaning(({ model, nodes, random }) => {
    const value = { name: 'value', type: AttributeType.tensor, t: external(random, 'stolen') }
    model.opsetImport!.push({ domain: 'mine', version: 1 })
    model.functions = [
      {
        name: 'Steal',
        domain: 'mine',
        output: ['y'],
        node: [{ opType: 'Constant', output: ['y'], attribute: [value] }],
        opsetImport: [{ domain: '', version: 13 }],
      },
    ]
    nodes.unshift({ opType: 'Steal', domain: 'mine', output: ['stolen'] })
  }),
  'nested deeply': (bytes, random) => {
    // Written by hand from the inside out: no library writes what is nested so deeply.
    const text = (number: number, value: string) => field(number, Buffer.from(value))
    const branch = (name: string, graph: Uint8Array) =>
      field(5, text(1, name), field(6, graph), Buffer.from([0xa0, 1, AttributeType.graph]))
    const node = (op: string, ...attributes: Buffer[]) =>
      field(1, text(1, 'c'), text(2, 'o'), text(4, op), ...attributes)
    const graphOf = (inner: Buffer) => Buffer.concat([inner, text(2, 'g'), field(12, text(1, 'o'))])
    let graph = graphOf(node('Identity'))
    for (let depth = pick(random, [20, 200, 3000]); depth > 0; depth--) {
      // Both branches on every level would double the file each time.
      graph = graphOf(node('If', branch('then_branch', graph), branch('else_branch', text(2, 'e'))))
    }
    // What is there twice of a message is merged: this is one more node of the graph.
    return Buffer.concat([bytes, field(7, node('If', branch('then_branch', graph)))])
  },
  'a loop without end': ofMeaning((parts) => {
    parts.weights.push(longTensor('times', 2 ** 53), { name: 'true', dataType: 9, dims: [], int32Data: [1] })
    const end = parts.graph.output![0]!.name!
    const state = (name: string) => ({ name, type: { tensorType: { elemType: 1 } } })
    const body: GraphProto = {
      name: 'body',
      input: [
        { name: 'i', type: { tensorType: { elemType: 7, shape: { dim: [] } } } },
        { name: 'go', type: { tensorType: { elemType: 9, shape: { dim: [] } } } },
        state('v'),
      ],
      node: [
        { opType: 'Identity', input: ['go'], output: ['go2'] },
        { opType: 'Identity', input: ['v'], output: ['v2'] },
      ],
      output: [{ name: 'go2', type: { tensorType: { elemType: 9, shape: { dim: [] } } } }, state('v2')],
    }
    const before = `${end}_looped`
    for (const node of parts.nodes) node.output = node.output?.map((name) => (name === end ? before : name)) ?? []
    parts.weights[parts.weights.length - 2]!.dims = []
    parts.nodes.push({
      opType: 'Loop',
      input: ['times', 'true', before],
      output: [end],
      attribute: [{ name: 'body', type: AttributeType.graph, g: body }],
    })
  }),
  'a value larger than any memory': ofMeaning((parts) => {
    const rank = pick(parts.random, [2, 4])
    parts.weights.push(longTensor('sizes', ...Array.from({ length: rank }, (_, i) => (i < 2 ? 200_000 : 1))))
    parts.weights.push({ name: 'axes', dataType: 7, dims: [1], int64Data: [0] })
    const end = parts.graph.output![0]!.name!
    parts.nodes.push(
      { opType: 'ConstantOfShape', input: ['sizes'], output: ['bomb'] },
      { opType: 'ReduceMax', input: ['bomb'], output: ['peak'], attribute: [{ name: 'keepdims', type: 2, i: 0 }] },
    )
    const before = `${end}_before`
    for (const node of parts.nodes) node.output = node.output?.map((name) => (name === end ? before : name)) ?? []
    parts.nodes.push({ opType: 'Add', input: [before, 'peak'], output: [end] })
  }),
  'a value that grows without measure': ofMeaning((parts) => {
    const rank = parts.graph.output![0]!.type?.tensorType?.shape?.dim?.length ?? 4
    const widths = Array.from({ length: 2 * rank }, (_, i) =>
      i % rank === rank - 1 ? pick(parts.random, [3e5, 1e9]) : 0,
    )
    parts.weights.push(longTensor('widths', ...widths))
    appended(parts, 'Pad', ['widths'])
  }),
  'text without measure': ofMeaning((parts) => {
    parts.weights.push(longTensor('one', -1), longTensor('times', pick(parts.random, [3, 3e6, 3e8])))
    const end = parts.graph.output![0]!
    parts.nodes.push(
      {
        opType: 'Cast',
        input: [end.name!],
        output: ['text'],
        attribute: [{ name: 'to', type: AttributeType.int, i: 8 }],
      },
      { opType: 'Reshape', input: ['text', 'one'], output: ['line'] },
      { opType: 'Tile', input: ['line', 'times'], output: ['lines'] },
    )
    parts.graph.output = [{ name: 'lines', type: { tensorType: { elemType: 8 } } }]
  }),
  'a hundred thousand nodes': ofMeaning(({ graph, nodes }) => {
    const end = graph.output![0]!.name!
    for (const node of nodes) node.output = node.output?.map((name) => (name === end ? 'n0' : name)) ?? []
    const count = 100_000
    for (let i = 0; i < count; i++) {
      nodes.push({ opType: 'Abs', input: [`n${i}`], output: [i === count - 1 ? end : `n${i + 1}`] })
    }
  }),
  'operator sets that nobody has': ofMeaning(({ model, random }) => {
    for (const opset of model.opsetImport ?? []) opset.version = pick(random, [0, -1, 1, 9999, 2 ** 52])
    model.irVersion = pick(random, [0, 1, 3, 999, 2 ** 50])
  }),
  'operators that nobody has': ofMeaning(({ nodes, random }) => {
    const node = pick(random, nodes)
    node.opType = pick(random, ['', 'EPContext', 'Conv2', 'PythonOp', 'RandomNormal', 'Loop', 'If', 'Scan'])
    node.domain = pick(random, ['', 'com.microsoft', 'ai.onnx.ml', 'nobody'])
  }),
  'layers wired to others': ofMeaning(({ nodes, random }) => {
    for (let i = 0; i < 3; i++) {
      const to = 1 + whole(random, nodes.length - 1)
      nodes[to]!.input![0] = nodes[whole(random, to)]!.output![0]!
    }
  }),
}
