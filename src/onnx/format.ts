import protobuf from 'protobufjs'

/**
 * The part of ONNX's protobuf format that models use, by field number (onnx.proto3 of ONNX 1.x).
 *
 * Integers of 64 bits are read as numbers: `long` is switched off, and values beyond 2^53 only occur as "to the end"
 * markers of Slice, for which any large number serves.
 */
const schema = {
  nested: {
    Entry: { fields: { key: { type: 'string', id: 1 }, value: { type: 'string', id: 2 } } },
    Opset: { fields: { domain: { type: 'string', id: 1 }, version: { type: 'int64', id: 2 } } },
    Model: {
      fields: {
        irVersion: { type: 'int64', id: 1 },
        producerName: { type: 'string', id: 2 },
        producerVersion: { type: 'string', id: 3 },
        domain: { type: 'string', id: 4 },
        modelVersion: { type: 'int64', id: 5 },
        docString: { type: 'string', id: 6 },
        graph: { type: 'Graph', id: 7 },
        opsetImport: { rule: 'repeated', type: 'Opset', id: 8 },
        metadataProps: { rule: 'repeated', type: 'Entry', id: 14 },
        functions: { rule: 'repeated', type: 'Function', id: 25 },
      },
    },
    Function: {
      fields: {
        name: { type: 'string', id: 1 },
        input: { rule: 'repeated', type: 'string', id: 4 },
        output: { rule: 'repeated', type: 'string', id: 5 },
        attribute: { rule: 'repeated', type: 'string', id: 6 },
        node: { rule: 'repeated', type: 'Node', id: 7 },
        docString: { type: 'string', id: 8 },
        opsetImport: { rule: 'repeated', type: 'Opset', id: 9 },
        domain: { type: 'string', id: 10 },
        attributeProto: { rule: 'repeated', type: 'Attribute', id: 11 },
        valueInfo: { rule: 'repeated', type: 'ValueInfo', id: 12 },
        overload: { type: 'string', id: 13 },
      },
    },
    Graph: {
      fields: {
        node: { rule: 'repeated', type: 'Node', id: 1 },
        name: { type: 'string', id: 2 },
        initializer: { rule: 'repeated', type: 'Tensor', id: 5 },
        docString: { type: 'string', id: 10 },
        input: { rule: 'repeated', type: 'ValueInfo', id: 11 },
        output: { rule: 'repeated', type: 'ValueInfo', id: 12 },
        valueInfo: { rule: 'repeated', type: 'ValueInfo', id: 13 },
        sparseInitializer: { rule: 'repeated', type: 'SparseTensor', id: 15 },
      },
    },
    Node: {
      fields: {
        input: { rule: 'repeated', type: 'string', id: 1 },
        output: { rule: 'repeated', type: 'string', id: 2 },
        name: { type: 'string', id: 3 },
        opType: { type: 'string', id: 4 },
        attribute: { rule: 'repeated', type: 'Attribute', id: 5 },
        domain: { type: 'string', id: 7 },
        overload: { type: 'string', id: 8 },
      },
    },
    Attribute: {
      fields: {
        name: { type: 'string', id: 1 },
        f: { type: 'float', id: 2 },
        i: { type: 'int64', id: 3 },
        s: { type: 'bytes', id: 4 },
        t: { type: 'Tensor', id: 5 },
        g: { type: 'Graph', id: 6 },
        floats: { rule: 'repeated', type: 'float', id: 7 },
        ints: { rule: 'repeated', type: 'int64', id: 8 },
        strings: { rule: 'repeated', type: 'bytes', id: 9 },
        tensors: { rule: 'repeated', type: 'Tensor', id: 10 },
        graphs: { rule: 'repeated', type: 'Graph', id: 11 },
        tp: { type: 'Type', id: 14 },
        typeProtos: { rule: 'repeated', type: 'Type', id: 15 },
        type: { type: 'int32', id: 20 },
        refAttrName: { type: 'string', id: 21 },
        sparseTensor: { type: 'SparseTensor', id: 22 },
      },
    },
    Tensor: {
      fields: {
        dims: { rule: 'repeated', type: 'int64', id: 1 },
        dataType: { type: 'int32', id: 2 },
        floatData: { rule: 'repeated', type: 'float', id: 4 },
        int32Data: { rule: 'repeated', type: 'int32', id: 5 },
        stringData: { rule: 'repeated', type: 'bytes', id: 6 },
        int64Data: { rule: 'repeated', type: 'int64', id: 7 },
        name: { type: 'string', id: 8 },
        rawData: { type: 'bytes', id: 9 },
        doubleData: { rule: 'repeated', type: 'double', id: 10 },
        uint64Data: { rule: 'repeated', type: 'uint64', id: 11 },
        externalData: { rule: 'repeated', type: 'Entry', id: 13 },
        dataLocation: { type: 'int32', id: 14 },
      },
    },
    SparseTensor: {
      fields: {
        values: { type: 'Tensor', id: 1 },
        indices: { type: 'Tensor', id: 2 },
        dims: { rule: 'repeated', type: 'int64', id: 3 },
      },
    },
    ValueInfo: { fields: { name: { type: 'string', id: 1 }, type: { type: 'Type', id: 2 } } },
    Type: {
      fields: {
        tensorType: { type: 'TensorTypeInfo', id: 1 },
        sequenceType: { type: 'ElementType', id: 4 },
        optionalType: { type: 'ElementType', id: 9 },
        denotation: { type: 'string', id: 6 },
      },
    },
    ElementType: { fields: { elemType: { type: 'Type', id: 1 } } },
    TensorTypeInfo: { fields: { elemType: { type: 'int32', id: 1 }, shape: { type: 'Shape', id: 2 } } },
    Shape: { fields: { dim: { rule: 'repeated', type: 'Dimension', id: 1 } } },
    Dimension: { fields: { dimValue: { type: 'int64', id: 1 }, dimParam: { type: 'string', id: 2 } } },
  },
}

// 64-bit integers as numbers, also where another package has installed `long`.
protobuf.util.Long = null as never
protobuf.configure()

export const ModelMessage = protobuf.Root.fromJSON(schema).lookupType('Model')

export interface EntryProto {
  key?: string
  value?: string
}
export interface OpsetProto {
  domain?: string
  version?: number
}
export interface TensorProto {
  dims?: number[]
  dataType?: number
  floatData?: number[]
  int32Data?: number[]
  stringData?: Uint8Array[]
  int64Data?: number[]
  name?: string
  rawData?: Uint8Array
  doubleData?: number[]
  uint64Data?: number[]
  externalData?: EntryProto[]
  dataLocation?: number
}
export interface TypeProto {
  tensorType?: { elemType?: number; shape?: { dim?: { dimValue?: number; dimParam?: string }[] } | null } | null
  sequenceType?: unknown
  optionalType?: unknown
}
export interface ValueInfoProto {
  name?: string
  type?: TypeProto | null
}
export interface AttributeProto {
  name?: string
  f?: number
  i?: number
  s?: Uint8Array
  t?: TensorProto | null
  g?: GraphProto | null
  floats?: number[]
  ints?: number[]
  strings?: Uint8Array[]
  tensors?: TensorProto[]
  graphs?: GraphProto[]
  type?: number
  [other: string]: unknown
}
export interface NodeProto {
  input?: string[]
  output?: string[]
  name?: string
  opType?: string
  attribute?: AttributeProto[]
  domain?: string
  overload?: string
}
export interface GraphProto {
  node?: NodeProto[]
  name?: string
  initializer?: TensorProto[]
  input?: ValueInfoProto[]
  output?: ValueInfoProto[]
  valueInfo?: ValueInfoProto[]
  sparseInitializer?: unknown[]
}
export interface FunctionProto {
  name?: string
  domain?: string
  [other: string]: unknown
}
export interface ModelProto {
  irVersion?: number
  producerName?: string
  producerVersion?: string
  graph?: GraphProto | null
  opsetImport?: OpsetProto[]
  metadataProps?: EntryProto[]
  functions?: FunctionProto[]
}

/** AttributeProto.type */
export const AttributeType = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
  strings: 8,
  tensors: 9,
  graphs: 10,
} as const

/** TensorProto.DataType of the element types that we hold. */
export const dataTypes = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
} as const
