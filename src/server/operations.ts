import type { OpenApiDocument } from './openapi.ts'
import { type Outline, outlineOf } from './schema-outline.ts'

type Json = Readonly<Record<string, unknown>>

/** Content types that hold the same. */
export interface Contents {
  readonly types: readonly string[]
  readonly outline: Outline
}

/** One call of the interface, as people read of it. */
export interface Operation {
  readonly tag: string
  readonly method: string
  readonly path: string
  readonly summary: string
  readonly description: string
  readonly parameters: readonly {
    readonly name: string
    /** `path` or `query` */
    readonly place: string
    readonly optional: boolean
    readonly description: string
  }[]
  readonly body: readonly Contents[]
  readonly answers: readonly {
    readonly status: string
    readonly description: string
    readonly contents: readonly Contents[]
  }[]
  /** a line for a shell, made of the examples in the schemas; none for what is no plain request */
  readonly curl: string | undefined
}

/** The calls of an OpenAPI document, in its order. */
export function operationsOf(document: OpenApiDocument): readonly Operation[] {
  const schemas = (document.components?.schemas ?? {}) as Record<string, Json>
  return Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    Object.entries(item as Json).map(([method, operation]) =>
      operationOf(path, method.toUpperCase(), operation as Json, schemas),
    ),
  )
}

interface Parameter {
  readonly name: string
  readonly in: string
  readonly required?: boolean
  readonly description?: string
  readonly schema?: Json
}

function operationOf(path: string, method: string, operation: Json, schemas: Record<string, Json>): Operation {
  const parameters = (operation.parameters ?? []) as Parameter[]
  const body = contentOf(operation.requestBody)
  const responses = operation.responses as Record<string, Json>
  const done = responses[200] && contentOf(responses[200])
  return {
    tag: String((operation.tags as string[])[0]),
    method,
    path,
    summary: String(operation.summary ?? ''),
    description: String(operation.description ?? ''),
    parameters: parameters.map((each) => ({
      name: each.name,
      place: each.in,
      optional: !each.required,
      description: each.description ?? String(each.schema?.description ?? ''),
    })),
    body: contentsOf(body),
    answers: Object.entries(responses).map(([status, response]) => ({
      status,
      description: String(response.description),
      contents: contentsOf(contentOf(response)),
    })),
    curl: done ? curlOf(path, method, parameters, dataOf(body, schemas), 'text/event-stream' in done) : undefined,
  }
}

const contentOf = (holder: unknown): Record<string, Json> =>
  ((holder as Json | undefined)?.content ?? {}) as Record<string, Json>

function contentsOf(content: Record<string, Json>): Contents[] {
  const byShape = new Map<string, { types: string[]; outline: Outline }>()
  for (const [type, { schema }] of Object.entries(content)) {
    const shape = JSON.stringify(schema)
    const known = byShape.get(shape) ?? { types: [], outline: outlineOf(schema) }
    known.types.push(type)
    byShape.set(shape, known)
  }
  return [...byShape.values()]
}

const HOST = 'http://127.0.0.1:8080'

/** @see the examples of the schemas; a parameter without one stands as it is in the path */
function curlOf(
  path: string,
  method: string,
  parameters: readonly Parameter[],
  data: string,
  isStream: boolean,
): string {
  const example = ({ name, schema }: Parameter) => String(schema?.example ?? `{${name}}`)
  const filled = parameters
    .filter((each) => each.in === 'path')
    .reduce((text, each) => text.replace(`{${each.name}}`, example(each)), path)
  const query = parameters
    .filter((each) => each.in === 'query' && each.required)
    .map((each) => `${each.name}=${example(each)}`)
  const url = `${HOST}${filled}${query.length ? `?${query.join('&')}` : ''}`
  const verb = method === (data ? 'POST' : 'GET') ? '' : ` -X ${method}`
  return `curl${isStream ? ' -N' : ''}${verb} '${url}'${data}`
}

/** Pictures and tensors come from a file; other JSON is the example of its schema, and empty where it may be. */
function dataOf(body: Record<string, Json>, schemas: Record<string, Json>): string {
  if ('image/jpeg' in body) return ' --data-binary @street.jpg'
  const schema = body['application/json']?.schema as Json | undefined
  if (!schema) return ''
  const named = typeof schema.$ref === 'string' ? schemas[schema.$ref.split('/').at(-1)!]! : schema
  if (named.example !== undefined) return ` -d '${JSON.stringify(named.example)}'`
  return named.required ? ' --data-binary @request.json' : " -d '{}'"
}
