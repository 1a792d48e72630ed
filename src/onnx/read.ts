import { BlockscaleError } from '../base/index.ts'
import { allocate, elementCount, fromBytes, type NumericType, type Tensor, type TensorType } from '../tensor/index.ts'
import {
  type AttributeProto,
  AttributeType,
  dataTypes,
  type GraphProto,
  ModelMessage,
  type ModelProto,
  type TensorProto,
  type ValueInfoProto,
} from './format.ts'
import type { Attribute, Dim, Fact, Graph, Model, Node, ValueInfo } from './graph.ts'

const typeByCode = new Map<number, TensorType>(
  Object.entries(dataTypes).map(([type, code]) => [code, type as TensorType]),
)

/**
 * Reads an ONNX model. Weights are views of `bytes` where they are aligned, so keep `bytes` unchanged.
 *
 * @throws BlockscaleError MODEL_NOT_ONNX when the bytes are no ONNX model, MODEL_UNSUPPORTED when it needs what we refuse
 *   (external data, sparse or sub-byte initializers)
 */
export function readModel(bytes: Uint8Array): Model {
  let proto: ModelProto
  try {
    proto = ModelMessage.decode(bytes) as unknown as ModelProto
  } catch (cause) {
    throw new BlockscaleError('MODEL_NOT_ONNX', 'the file is not an ONNX model, or it is truncated', undefined, {
      cause,
    })
  }
  if (!proto.graph || (proto.graph.node ?? []).length === 0) {
    throw new BlockscaleError('MODEL_NOT_ONNX', 'the file holds no ONNX graph')
  }
  refuseOtherFiles(proto)
  const opsets = new Map<string, number>()
  for (const { domain, version } of proto.opsetImport ?? []) {
    // Some exporters list a domain twice; ONNX Runtime takes the last.
    opsets.set(standardDomain(domain), version ?? 1)
  }
  if (!opsets.has('')) {
    throw new BlockscaleError(
      'MODEL_UNSUPPORTED',
      'the model names no operator set version (opset_import is empty)',
      'export it again; every ONNX model has to say which operator set it uses',
    )
  }
  return {
    graph: readGraph(proto.graph),
    opsets,
    // Since version 4 weights need not be listed among the inputs, and we drop them there.
    irVersion: Math.max(proto.irVersion ?? 0, 4),
    producer: [proto.producerName, proto.producerVersion].filter(Boolean).join(' '),
    metadata: new Map((proto.metadataProps ?? []).map(({ key, value }) => [key ?? '', value ?? ''])),
    functions: proto.functions ?? [],
  }
}

/**
 * Tensors can name another file for their data, and they can sit where we do not read: in functions, lists of tensors,
 * sparse tensors. ONNX Runtime would open what they name.
 */
function refuseOtherFiles(part: unknown): void {
  const rest = [part]
  for (let each = rest.pop(); each !== undefined; each = rest.pop()) {
    const tensor = each as TensorProto
    if (tensor.dataLocation === 1 || (tensor.externalData ?? []).length > 0) {
      throw new BlockscaleError(
        'MODEL_UNSUPPORTED',
        `tensor ${tensor.name || '(unnamed)'} keeps its data in another file`,
        'save the model with its weights inside (onnx.save without save_as_external_data)',
      )
    }
    for (const value of Object.values(each as object)) {
      if (Array.isArray(value)) {
        if (typeof value[0] === 'object' && !ArrayBuffer.isView(value[0])) for (const item of value) rest.push(item)
      } else if (typeof value === 'object' && value !== null && !ArrayBuffer.isView(value)) rest.push(value)
    }
  }
}

const standardDomain = (domain: string | undefined): string => (domain === 'ai.onnx' ? '' : (domain ?? ''))

function readGraph(proto: GraphProto): Graph {
  if ((proto.sparseInitializer ?? []).length > 0) {
    throw new BlockscaleError(
      'MODEL_UNSUPPORTED',
      'the model holds sparse initializers',
      'export it with dense weights',
    )
  }
  const initializers = new Map<string, Tensor>()
  for (const each of proto.initializer ?? []) initializers.set(each.name ?? '', readTensor(each))
  const valueInfos = (proto.valueInfo ?? []).map(readValueInfo)
  return {
    name: proto.name || 'graph',
    // Old exporters list weights among the inputs as well; that would keep ONNX Runtime from folding them.
    inputs: (proto.input ?? []).map(readValueInfo).filter((input) => !initializers.has(input.name)),
    outputs: (proto.output ?? []).map(readValueInfo),
    nodes: (proto.node ?? []).map(
      (each): Node => ({
        name: each.name ?? '',
        op: each.opType ?? '',
        domain: standardDomain(each.domain),
        inputs: each.input ?? [],
        outputs: each.output ?? [],
        attributes: Object.fromEntries((each.attribute ?? []).map((a) => [a.name ?? '', readAttribute(a)])),
      }),
    ),
    initializers,
    facts: new Map(valueInfos.flatMap(({ name, fact }) => (fact ? [[name, fact]] : []))),
  }
}

function readValueInfo(proto: ValueInfoProto): ValueInfo {
  return { name: proto.name ?? '', fact: readFact(proto) }
}

function readFact(proto: ValueInfoProto): Fact | undefined {
  const tensorType = proto.type?.tensorType
  const type = typeByCode.get(tensorType?.elemType ?? 0)
  if (!tensorType || !type) return undefined
  const dims = tensorType.shape?.dim?.map(
    ({ dimValue, dimParam }): Dim => (dimParam ? dimParam : dimValue === undefined || dimValue <= 0 ? null : dimValue),
  )
  return tensorType.shape ? { type, dims: dims ?? [] } : { type }
}

// "To the end" is written as 2^63 - 1, which a number cannot hold: saturate below it, so that it can be written again.
const LARGEST_LONG = 2 ** 63 - 1024
const saturate = (value: number): number => Math.max(-LARGEST_LONG, Math.min(LARGEST_LONG, value))

function readAttribute(proto: AttributeProto): Attribute {
  const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? new Uint8Array()).toString('utf8')
  switch (attributeType(proto)) {
    case AttributeType.float:
      return { kind: 'float', value: proto.f ?? 0 }
    case AttributeType.int:
      return { kind: 'int', value: saturate(proto.i ?? 0) }
    case AttributeType.string:
      return { kind: 'string', value: text(proto.s) }
    case AttributeType.tensor:
      return { kind: 'tensor', value: readTensor(proto.t ?? {}) }
    case AttributeType.graph:
      return { kind: 'graph', value: readGraph(proto.g ?? {}) }
    case AttributeType.floats:
      return { kind: 'floats', value: proto.floats ?? [] }
    case AttributeType.ints:
      return { kind: 'ints', value: (proto.ints ?? []).map(saturate) }
    case AttributeType.strings:
      return { kind: 'strings', value: (proto.strings ?? []).map(text) }
    case AttributeType.graphs:
      return { kind: 'graphs', value: (proto.graphs ?? []).map(readGraph) }
    default:
      return { kind: 'raw', value: proto }
  }
}

/** The kind of an attribute; files of IR version 1 and 2 leave it out, and then the field that is set tells. */
function attributeType(proto: AttributeProto): number {
  if (proto.type) return proto.type
  const set = (key: string) => Object.hasOwn(proto, key)
  if (set('f')) return AttributeType.float
  if (set('i')) return AttributeType.int
  if (set('s')) return AttributeType.string
  if (set('t')) return AttributeType.tensor
  if (set('g')) return AttributeType.graph
  if (proto.ints?.length) return AttributeType.ints
  if (proto.floats?.length) return AttributeType.floats
  if (proto.strings?.length) return AttributeType.strings
  return 0
}

function readTensor(proto: TensorProto): Tensor {
  const name = proto.name || '(unnamed)'
  const type = typeByCode.get(proto.dataType ?? 0)
  if (!type) {
    throw new BlockscaleError(
      'MODEL_UNSUPPORTED',
      `tensor ${name} has data type ${proto.dataType}, which is not handled`,
    )
  }
  const dims = proto.dims ?? []
  const count = elementCount(dims)
  if (!Number.isSafeInteger(count) || dims.some((dim) => dim < 0)) {
    throw new BlockscaleError('MODEL_NOT_ONNX', `tensor ${name} has the impossible shape [${dims.join(', ')}]`)
  }
  if (type === 'string') {
    const data = (proto.stringData ?? []).map((bytes) => Buffer.from(bytes).toString('utf8'))
    return checked(name, { type, dims, data })
  }
  if (proto.rawData?.length) {
    if (proto.rawData.length % allocate(type, 0).BYTES_PER_ELEMENT !== 0) {
      throw new BlockscaleError('MODEL_NOT_ONNX', `tensor ${name} has ${proto.rawData.length} bytes, no whole elements`)
    }
    return checked(name, { type, dims, data: fromBytes(type, proto.rawData) } as Tensor)
  }
  return checked(name, { type, dims, data: typedData(proto, type) } as Tensor)
}

function typedData(proto: TensorProto, type: NumericType): Tensor['data'] {
  switch (type) {
    case 'float32':
      return Float32Array.from(proto.floatData ?? [])
    case 'float64':
      return Float64Array.from(proto.doubleData ?? [])
    case 'int64':
      return BigInt64Array.from(proto.int64Data ?? [], (value) => BigInt(saturate(value)))
    case 'uint64':
      return BigUint64Array.from(proto.uint64Data ?? [], BigInt)
    case 'uint32':
      return Uint32Array.from(proto.uint64Data ?? [])
    case 'int32':
      return Int32Array.from(proto.int32Data ?? [])
    case 'int16':
      return Int16Array.from(proto.int32Data ?? [])
    case 'uint16':
    case 'float16':
    case 'bfloat16':
      return Uint16Array.from(proto.int32Data ?? [])
    case 'int8':
      return Int8Array.from(proto.int32Data ?? [])
    case 'uint8':
    case 'bool':
      return Uint8Array.from(proto.int32Data ?? [])
  }
}

function checked(name: string, value: Tensor): Tensor {
  const count = elementCount(value.dims)
  if (value.data.length !== count) {
    throw new BlockscaleError(
      'MODEL_NOT_ONNX',
      `tensor ${name} has ${value.data.length} elements where its shape [${value.dims.join(', ')}] needs ${count}`,
    )
  }
  return value
}
