import type { Request, RequestHandler, Response, Router } from 'express'
import { z } from 'zod'
import { BlockscaleError, type ErrorCode } from '../base/index.ts'
import { issueText } from './failure.ts'

export type Method = 'get' | 'put' | 'post' | 'delete'

/** A body that is no JSON: a content type and what it holds, for the OpenAPI document. */
export interface Content {
  readonly type: string
  readonly schema: z.ZodType | { readonly type: 'string'; readonly format?: string }
}

/** What a handler gets: everything checked against the schemas of its route. */
export interface Call<Params, Query, Body> {
  readonly params: Params
  readonly query: Query
  readonly body: Body
  readonly request: Request
  readonly response: Response
}

/**
 * One route: what it takes and gives (the same schemas that check requests make the OpenAPI document) and what it does.
 *
 * `handle` returns what is sent as JSON, or undefined when it has written the response itself.
 */
export interface RouteSpec<Params, Query, Body> {
  readonly method: Method
  /** as in OpenAPI: `/v1/workloads/{id}` */
  readonly path: string
  readonly tag: string
  readonly summary: string
  readonly description?: string
  readonly params?: z.ZodType<Params>
  readonly query?: z.ZodType<Query>
  /** JSON; an empty body counts as `{}` */
  readonly body?: z.ZodType<Body>
  /** bodies that middleware reads (pictures, tensors), for the document */
  readonly contents?: readonly Content[]
  readonly answer: z.ZodType | readonly Content[]
  readonly errors?: readonly ErrorCode[]
  /** for which models a request asks the engines: while they are overloaded it is refused before its body is read */
  readonly models?: (params: Readonly<Record<string, string>>, query: URLSearchParams) => readonly string[]
  /** what runs before the handler: body parsers and checks */
  readonly before?: readonly RequestHandler[]
  /** answers without a token */
  readonly open?: boolean
  handle(call: Call<Params, Query, Body>): unknown
}

/** A route with its types forgotten: made only by `route`, which has checked them. */
export interface Route extends Omit<RouteSpec<unknown, unknown, unknown>, 'handle'> {
  readonly run: RequestHandler
}

const nothing = z.object({})
const noParameters = <T>(): z.ZodType<T> => nothing as unknown as z.ZodType<T>

/** Declares a route; see `RouteSpec`. */
export function route<Params = object, Query = object, Body = undefined>(spec: RouteSpec<Params, Query, Body>): Route {
  const { handle, ...rest } = spec
  const run: RequestHandler = async (request, response) => {
    const value = await handle({
      params: checked(spec.params ?? noParameters<Params>(), request.params, 'path'),
      query: checked(spec.query ?? noParameters<Query>(), request.query, 'query'),
      body: (spec.body ? checked(spec.body, request.body ?? {}, 'body') : undefined) as Body,
      request,
      response,
    })
    if (value !== undefined && !response.headersSent) response.json(value)
  }
  return { ...rest, run }
}

/** `/v1/workloads/{id}` in Express's words. */
export const expressPath = (path: string): string => path.replace(/\{(\w+)\}/g, ':$1')

/** Adds routes to a router, and to each of their paths an answer for the methods it does not know. */
export function mount(router: Router, routes: readonly Route[]): void {
  const methods = new Map<string, Method[]>()
  for (const each of routes) {
    router[each.method](expressPath(each.path), ...(each.before ?? []), each.run)
    methods.set(each.path, [...(methods.get(each.path) ?? []), each.method])
  }
  for (const [path, known] of methods) {
    const allow = [...known, ...(known.includes('get') ? ['head'] : [])]
      .map((method) => method.toUpperCase())
      .join(', ')
    router.all(expressPath(path), (request, response) => {
      response.set('Allow', allow)
      if (request.method === 'OPTIONS') {
        response.status(204).end()
        return
      }
      throw new BlockscaleError('METHOD_NOT_ALLOWED', `${path} takes ${allow}, not ${request.method}`)
    })
  }
}

function checked<T>(schema: z.ZodType<T>, value: unknown, where: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const first = result.error.issues[0]!
  const place = [where, ...first.path.map(String)].join('.')
  throw new BlockscaleError('USAGE', `${place}: ${issueText(first)}`)
}
