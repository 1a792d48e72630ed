import { type NumericType, type Tensor, toBytes } from '../tensor/index.ts'
import {
  type AttributeProto,
  AttributeType,
  dataTypes,
  type GraphProto,
  ModelMessage,
  type TensorProto,
  type ValueInfoProto,
} from './format.ts'
import type { Attribute, Fact, Graph, Model } from './graph.ts'

/** Serialises a model; the bytes are those of a `.onnx` file with its weights inside. */
export function writeModel(model: Model): Uint8Array {
  return ModelMessage.encode({
    irVersion: model.irVersion,
    producerName: 'blockscale',
    graph: writeGraph(model.graph),
    opsetImport: [...model.opsets].map(([domain, version]) => ({ domain, version })),
    metadataProps: [...model.metadata].map(([key, value]) => ({ key, value })),
    functions: model.functions,
  }).finish()
}

function writeGraph(graph: Graph): GraphProto {
  const valueInfo = (name: string, fact: Fact | undefined): ValueInfoProto =>
    fact ? { name, type: writeType(fact) } : { name }
  return {
    name: graph.name,
    node: graph.nodes.map((each) => ({
      name: each.name,
      opType: each.op,
      domain: each.domain,
      input: [...each.inputs],
      output: [...each.outputs],
      attribute: Object.entries(each.attributes).map(([name, attribute]) => writeAttribute(name, attribute)),
    })),
    initializer: [...graph.initializers].map(([name, value]) => writeTensor(name, value)),
    input: graph.inputs.map(({ name, fact }) => valueInfo(name, fact)),
    output: graph.outputs.map(({ name, fact }) => valueInfo(name, fact)),
    valueInfo: [...graph.facts].map(([name, fact]) => valueInfo(name, fact)),
  }
}

function writeType(fact: Fact): NonNullable<ValueInfoProto['type']> {
  const dim = fact.dims?.map((size) =>
    typeof size === 'number' ? { dimValue: size } : size === null ? {} : { dimParam: size },
  )
  return { tensorType: { elemType: dataTypes[fact.type], ...(dim ? { shape: { dim } } : {}) } }
}

function writeTensor(name: string, value: Tensor): TensorProto {
  const proto: TensorProto = { name, dims: [...value.dims], dataType: dataTypes[value.type] }
  if (value.type === 'string') {
    return { ...proto, stringData: (value.data as readonly string[]).map((text) => Buffer.from(text, 'utf8')) }
  }
  return { ...proto, rawData: toBytes(value as Tensor<NumericType>) }
}

function writeAttribute(name: string, attribute: Attribute): AttributeProto {
  const bytes = (text: string) => Buffer.from(text, 'utf8')
  switch (attribute.kind) {
    case 'float':
      return { name, type: AttributeType.float, f: attribute.value }
    case 'int':
      return { name, type: AttributeType.int, i: attribute.value }
    case 'string':
      return { name, type: AttributeType.string, s: bytes(attribute.value) }
    case 'tensor':
      return { name, type: AttributeType.tensor, t: writeTensor('', attribute.value) }
    case 'graph':
      return { name, type: AttributeType.graph, g: writeGraph(attribute.value) }
    case 'floats':
      return { name, type: AttributeType.floats, floats: [...attribute.value] }
    case 'ints':
      return { name, type: AttributeType.ints, ints: [...attribute.value] }
    case 'strings':
      return { name, type: AttributeType.strings, strings: attribute.value.map(bytes) }
    case 'graphs':
      return { name, type: AttributeType.graphs, graphs: attribute.value.map(writeGraph) }
    case 'raw':
      return attribute.value as AttributeProto
  }
}
