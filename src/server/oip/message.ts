import { z } from 'zod'
import { BlockscaleError } from '../../base/index.ts'
import type { Tensors } from '../../tasks/index.ts'
import type { Tensor } from '../../tensor/index.ts'
import type { BorderValue } from '../../zoo/index.ts'
import { issueText } from '../failure.ts'
import { allDatatypes, datatypeOf, typeOf } from './datatypes.ts'
import { fromBinary, fromJson, toBinary, toJsonText } from './tensors.ts'

const parameters = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).meta({ id: 'InferParameters' })

/** Of a request: the ones that are known are checked where they are used, others are left to those who know them. */
const wishes = z.record(z.string(), z.unknown()).meta({ id: 'InferWishes' })

/** Not `z.array`: going through a picture's 150,000 numbers twice would cost more than reading them. */
const elements = z
  .custom<readonly unknown[]>(Array.isArray, 'must be an array')
  .meta({ type: 'array', items: {}, description: 'flat or nested, row-major' })

const requestInput = z
  .object({
    name: z.string(),
    shape: z.array(z.int().nonnegative()).max(16),
    datatype: z.enum(allDatatypes),
    parameters: wishes.nullish(),
    data: elements.nullish(),
  })
  .meta({ id: 'InferInput' })

const requestOutput = z.object({ name: z.string(), parameters: wishes.nullish() }).meta({ id: 'InferWantedOutput' })

/**
 * The JSON of an inference request; elements of `data` are checked when they become a tensor.
 *
 * Clients whose messages are objects with optional fields write `null` for what is absent.
 */
export const inferRequest = z
  .object({
    id: z.string().max(256).nullish(),
    parameters: wishes.nullish(),
    inputs: z.array(requestInput).min(1).max(64),
    outputs: z.array(requestOutput).max(64).nullish(),
  })
  .meta({ id: 'InferRequest' })

export const inferResponse = z
  .object({
    model_name: z.string(),
    model_version: z.string().optional(),
    id: z.string().optional(),
    parameters: parameters.optional(),
    outputs: z.array(
      z
        .object({
          name: z.string(),
          shape: z.array(z.int()),
          datatype: z.enum(allDatatypes),
          parameters: parameters.optional(),
          data: elements.optional(),
        })
        .meta({ id: 'InferOutput' }),
    ),
  })
  .meta({ id: 'InferResponse' })

export type InferRequest = z.infer<typeof inferRequest>

const invalid = (message: string): BlockscaleError => new BlockscaleError('TENSOR_INVALID', message)

/**
 * How many bytes of a body are JSON: all, unless the header says that raw tensors follow.
 *
 * @throws BlockscaleError USAGE when the header is no length
 */
export function jsonBytes(headerLength: string | undefined): number {
  if (headerLength === undefined) return Number.MAX_SAFE_INTEGER
  const length = Number(headerLength)
  if (!Number.isSafeInteger(length) || length < 0 || headerLength.trim() === '') {
    throw new BlockscaleError('USAGE', `Inference-Header-Content-Length "${headerLength}" is no length`)
  }
  return length
}

/** @throws BlockscaleError USAGE when the JSON is malformed */
export function parseRequest(json: Uint8Array): InferRequest {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString('utf8'))
  } catch (cause) {
    throw new BlockscaleError('USAGE', `the request is not JSON: ${(cause as Error).message}`)
  }
  const checked = inferRequest.safeParse(value)
  if (!checked.success) {
    const issue = checked.error.issues[0]!
    throw new BlockscaleError('USAGE', `${issue.path.join('.') || 'the request'}: ${issueText(issue)}`)
  }
  return checked.data
}

/**
 * The inputs of a request as tensors, checked against what the model takes.
 *
 * @throws BlockscaleError TENSOR_INVALID that names the input, what was given and what is expected
 */
export function readInputs(json: InferRequest, binary: Uint8Array, expected: readonly BorderValue[]): Tensors {
  const feeds: Record<string, Tensor> = {}
  let at = 0
  for (const input of json.inputs) {
    const border = expected.find((each) => each.name === input.name)
    if (!border) {
      throw invalid(`the model has no input ${input.name}; it takes ${expected.map((each) => each.name).join(', ')}`)
    }
    if (input.name in feeds) throw invalid(`input ${input.name} is given twice`)
    const type = typeOf(input.datatype)!
    checkFact(input, border)
    const size = input.parameters?.binary_data_size
    if (size == null) {
      if (input.data == null) throw invalid(`${input.name}: neither data nor binary_data_size is given`)
      feeds[input.name] = fromJson(input.name, type, input.shape, input.data)
      continue
    }
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0 || at + size > binary.length) {
      throw invalid(
        `${input.name}: binary_data_size ${size} does not fit the ${binary.length - at} bytes that are left`,
      )
    }
    feeds[input.name] = fromBinary(input.name, type, input.shape, binary.subarray(at, at + size))
    at += size
  }
  if (at !== binary.length) throw invalid(`${binary.length - at} bytes behind the last tensor belong to none`)
  const missing = expected.find((each) => !(each.name in feeds))
  if (missing) throw invalid(`input ${missing.name} is missing`)
  return feeds
}

function checkFact(input: InferRequest['inputs'][number], { name, fact }: BorderValue): void {
  if (typeOf(input.datatype) !== fact.type) {
    throw invalid(`${name} is ${datatypeOf(fact.type)}, not ${input.datatype}`)
  }
  const { dims } = fact
  if (!dims) return
  const fits =
    dims.length === input.shape.length &&
    dims.every((dim, axis) => typeof dim !== 'number' || dim < 0 || dim === input.shape[axis])
  if (!fits) {
    const takes = dims.map((dim) => (typeof dim === 'number' ? dim : -1)).join(', ')
    throw invalid(`${name} takes [${takes}], not [${input.shape.join(', ')}]`)
  }
}

/** Which outputs a request wants, and which of them as raw bytes. */
export function wantedOutputs(
  json: InferRequest,
  known: readonly BorderValue[],
): { names: readonly string[]; isBinary: (name: string) => boolean } {
  const all = json.parameters?.binary_data_output === true
  for (const { name, parameters: given } of json.outputs ?? []) {
    if (!known.some((each) => each.name === name)) {
      throw invalid(`the model has no output ${name}; it gives ${known.map((each) => each.name).join(', ')}`)
    }
    if (given?.classification != null) {
      throw new BlockscaleError('USAGE', `output ${name}: the classification extension is not offered`)
    }
  }
  const asked = new Map((json.outputs ?? []).map((each) => [each.name, each.parameters?.binary_data]))
  return {
    names: json.outputs?.length ? [...asked.keys()] : known.map((each) => each.name),
    isBinary: (name) => {
      const one = asked.get(name)
      return typeof one === 'boolean' ? one : all
    },
  }
}

/** A response: its JSON, and the raw tensors that follow it. They are sent one after the other, without a copy. */
export interface InferBody {
  readonly json: Buffer
  readonly raw: readonly Uint8Array[]
}

/** Writes outputs as JSON or raw bytes. The JSON is put together as text, so that no element passes through an object. */
export function writeResponse(
  head: {
    readonly model_name: string
    readonly model_version: string
    readonly id?: string | undefined
    readonly parameters: object
  },
  outputs: readonly (readonly [string, Tensor])[],
  isBinary: (name: string) => boolean,
): InferBody {
  const raw: Uint8Array[] = []
  const texts = outputs.map(([name, value]) => {
    const facts = `"name":${JSON.stringify(name)},"shape":${JSON.stringify(value.dims)},"datatype":"${datatypeOf(value.type)}"`
    if (!isBinary(name)) return `{${facts},"data":${toJsonText(value)}}`
    const bytes = toBinary(value)
    raw.push(bytes)
    return `{${facts},"parameters":{"binary_data_size":${bytes.byteLength}}}`
  })
  const json = Buffer.from(`${JSON.stringify(head).slice(0, -1)},"outputs":[${texts.join(',')}]}`)
  return { json, raw }
}
