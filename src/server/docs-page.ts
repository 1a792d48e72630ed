import { schemaHtml } from './docs-schema.ts'
import { escapeHtml, slug } from './html.ts'
import type { OpenApiDocument } from './openapi.ts'

type Json = Readonly<Record<string, unknown>>

interface Operation {
  readonly path: string
  readonly method: string
  readonly operation: Json
}

/** The OpenAPI document as a page that people read: plain HTML that needs no script and no other host. */
export function docsPage(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    Object.entries(item as Json).map(
      ([method, operation]): Operation => ({ path, method, operation: operation as Json }),
    ),
  )
  const schemas = (document.components?.schemas ?? {}) as Record<string, Json>
  const tags = [...new Set(operations.map(tagOf))]
  const sections = tags.map((tag) => {
    const own = operations.filter((each) => tagOf(each) === tag)
    return section(tag, own.map((each) => operationHtml(each, schemas)).join(''))
  })
  const shapes = Object.entries(schemas).map(
    ([name, schema]) =>
      `<details id="schema-${slug(name)}" open><summary><code>${escapeHtml(name)}</code></summary><div class="details">${schemaHtml(schema)}</div></details>`,
  )
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>blockscale: HTTP interface</title><link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/base.css"><link rel="stylesheet" href="/docs.css"></head>
<body><header><h1>HTTP interface</h1><p>${escapeHtml(document.info.description ?? '')}
<a href="/">Dashboard</a> · <a href="/openapi.json">openapi.json</a></p>
<nav aria-label="Parts">${[...tags, 'schemas'].map((tag) => `<a href="#${slug(tag)}">${escapeHtml(tag)}</a>`).join(' · ')}</nav></header>
<main>${sections.join('')}${section('schemas', shapes.join(''))}</main></body></html>`
}

const tagOf = ({ operation }: Operation): string => String((operation.tags as string[])[0])

const section = (title: string, inner: string): string =>
  `<section aria-labelledby="${slug(title)}"><h2 id="${slug(title)}">${escapeHtml(title)}</h2>${inner}</section>`

interface Parameter {
  readonly name: string
  readonly in: string
  readonly required?: boolean
  readonly description?: string
  readonly schema?: Json
}

function operationHtml(each: Operation, schemas: Record<string, Json>): string {
  const { path, method, operation } = each
  const content = (operation.requestBody as Json | undefined)?.content as Record<string, Json> | undefined
  const parameters = (operation.parameters ?? []) as Parameter[]
  const answers = Object.entries(operation.responses as Record<string, Json>).map(
    ([status, { description, content: given }]) =>
      `<tr><td><b>${escapeHtml(status)}</b></td><td>${escapeHtml(String(description))}${contentHtml(given)}</td></tr>`,
  )
  return `<details><summary><code class="method">${method.toUpperCase()}</code> <code>${escapeHtml(path)}</code> <span class="quiet">${escapeHtml(String(operation.summary ?? ''))}</span></summary>
<div class="details">
${operation.description ? `<p>${escapeHtml(String(operation.description))}</p>` : ''}
<pre>${escapeHtml(curlOf(each, content, schemas))}</pre>
${parameters.length ? `<h3>Parameters</h3><table><tbody>${parameters.map(parameterHtml).join('')}</tbody></table>` : ''}
${content ? `<h3>Body</h3>${contentHtml(content)}` : ''}
<h3>Answers</h3><table><tbody>${answers.join('')}</tbody></table></div></details>`
}

const parameterHtml = (each: Parameter): string =>
  `<tr><td><code>${escapeHtml(each.name)}</code></td><td>in the ${each.in}${each.required ? '' : ', optional'}</td><td>${escapeHtml(each.description ?? String(each.schema?.description ?? ''))}</td></tr>`

/** Types that hold the same are told together. */
function contentHtml(content: unknown): string {
  const byShape = new Map<string, string[]>()
  for (const [type, { schema }] of Object.entries((content ?? {}) as Record<string, Json>)) {
    const shape = schemaHtml(schema)
    byShape.set(shape, [...(byShape.get(shape) ?? []), `<code>${escapeHtml(type)}</code>`])
  }
  return [...byShape].map(([shape, types]) => `<div>${types.join(', ')}${shape}</div>`).join('')
}

const HOST = 'http://127.0.0.1:8080'

/** The call as a line for a shell, with the example of the schema where it has one. */
function curlOf(
  { path, method, operation }: Operation,
  content: Record<string, Json> | undefined,
  schemas: Record<string, Json>,
): string {
  const query = ((operation.parameters ?? []) as Parameter[]).filter((each) => each.in === 'query' && each.required)
  const url = `${HOST}${path}${query.length ? `?${query.map(({ name }) => `${name}=…`).join('&')}` : ''}`
  const verb = method === 'get' ? '' : `-X ${method.toUpperCase()} `
  const [type, body] = Object.entries(content ?? {})[0] ?? []
  if (type === undefined) return `curl ${verb}'${url}'`
  if (type !== 'application/json') return `curl --data-binary @picture.jpg '${url}'`
  const { $ref, example } = (body?.schema ?? {}) as Json
  const named = typeof $ref === 'string' ? schemas[$ref.split('/').at(-1)!]?.example : undefined
  const sent = example ?? named
  return `curl ${verb}'${url}' -d '${sent === undefined ? '{…}' : JSON.stringify(sent)}'`
}
