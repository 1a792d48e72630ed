import {
  OpenAPIRegistry,
  OpenApiGeneratorV31,
  type ResponseConfig,
  type RouteConfig,
} from '@asteasolutions/zod-to-openapi'
import { z } from 'zod'
import { type ErrorCode, errorCatalogue } from '../base/index.ts'
import { failureShapeOf } from './failure.ts'
import type { Content, Route } from './route.ts'
import { failure } from './schemas.ts'

export type OpenApiDocument = ReturnType<OpenApiGeneratorV31['generateDocument']>

const oipFailure = z.object({ error: z.string() }).meta({ id: 'OipFailure' })
const deepstackFailure = z
  .object({ success: z.literal(false), error: z.string(), code: z.int(), duration: z.int() })
  .meta({ id: 'DeepStackFailure' })
const failures = { native: failure, oip: oipFailure, deepstack: deepstackFailure }

/** The OpenAPI 3.1 document of the routes: what it says is what checks the requests. */
export function openApiDocument(routes: readonly Route[], version: string, hasToken: boolean): OpenApiDocument {
  const registry = new OpenAPIRegistry()
  for (const each of routes) registry.registerPath(pathOf(each))
  registry.registerPath(streamPath)
  const bearer = registry.registerComponent('securitySchemes', 'token', { type: 'http', scheme: 'bearer' })
  return new OpenApiGeneratorV31(registry.definitions).generateDocument({
    openapi: '3.1.0',
    info: {
      title: 'blockscale',
      version,
      description: 'Several vision networks on one small machine, inside one budget.',
      license: { name: 'GPL-3.0-or-later', identifier: 'GPL-3.0-or-later' },
    },
    servers: [{ url: '/' }],
    ...(hasToken ? { security: [{ [bearer.name]: [] }] } : {}),
  })
}

function pathOf(each: Route): RouteConfig {
  const { params, query, body } = each
  const content = body ? [{ type: 'application/json', schema: body }] : (each.contents ?? [])
  return {
    method: each.method,
    path: each.path,
    tags: [each.tag],
    summary: each.summary,
    operationId: operationId(each),
    ...(each.description ? { description: each.description } : {}),
    ...(each.open ? { security: [] } : {}),
    request: {
      ...(params instanceof z.ZodObject ? { params: usedParams(params, each.path) } : {}),
      ...(query instanceof z.ZodObject ? { query } : {}),
      ...(content.length ? { body: { required: true, content: contentOf(content) } } : {}),
    },
    responses: {
      200: {
        description: 'done',
        content: contentOf(
          Array.isArray(each.answer) ? each.answer : [{ type: 'application/json', schema: each.answer as z.ZodType }],
        ),
      },
      ...failureResponses(each),
    },
  }
}

const contentOf = (contents: readonly Content[]): NonNullable<ResponseConfig['content']> =>
  Object.fromEntries(contents.map(({ type, schema }) => [type, { schema }]))

/** Routes with and without a version share one schema of parameters; a path names only its own. */
function usedParams(params: z.ZodObject, path: string): z.ZodObject {
  const used = Object.entries(params.shape).filter(([key]) => path.includes(`{${key}}`))
  return z.object(
    Object.fromEntries(
      used.map(([key, schema]) => [key, schema instanceof z.ZodOptional ? schema.unwrap() : schema]),
    ) as z.ZodRawShape,
  )
}

function failureResponses(each: Route): RouteConfig['responses'] {
  const schema = failures[failureShapeOf(each.path)]
  const byStatus = new Map<number, ErrorCode[]>()
  const takesInput = each.body || each.params || each.query || each.contents
  for (const code of [...(takesInput ? (['USAGE'] as const) : []), ...(each.errors ?? [])]) {
    const status = errorCatalogue[code].http
    byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      status,
      {
        description: codes.map((code) => `${code}: ${errorCatalogue[code].meaning}`).join(' '),
        content: { 'application/json': { schema } },
      },
    ]),
  )
}

const operationId = ({ method, path }: Route): string =>
  method +
  path
    .split(/[^A-Za-z0-9]+/)
    .filter(Boolean)
    .map((word) => word[0]!.toUpperCase() + word.slice(1))
    .join('')

const streamPath: RouteConfig = {
  method: 'get',
  path: '/v1/stream',
  tags: ['models'],
  operationId: 'getV1Stream',
  summary: 'A WebSocket: frames in, answers out',
  description:
    'Each binary message is a picture; each answer is a text message `{"frame","dropped","answers"}` as of POST /v1/frames. One frame is in the works and one waits; a newer one takes its place. Pages send a token as the subprotocol `token.<token>`.',
  request: { query: z.object({ models: z.string() }) },
  responses: {
    101: { description: 'the stream is open' },
    426: { description: 'the request asked for no upgrade' },
  },
}
