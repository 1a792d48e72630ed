import type { OpenApiDocument } from './openapi.ts'

type Json = Readonly<Record<string, unknown>>

/** The OpenAPI document as a page that people read: plain HTML without scripts. */
export function docsPage(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    Object.entries(item as Json).map(([method, operation]) => ({ path, method, operation: operation as Json })),
  )
  const tags = [...new Set(operations.map(({ operation }) => String((operation.tags as string[])[0])))]
  const sections = tags.map((tag) => {
    const own = operations.filter(({ operation }) => (operation.tags as string[])[0] === tag)
    return `<section aria-labelledby="${slug(tag)}"><h2 id="${slug(tag)}">${escapeHtml(tag)}</h2>${own.map(operationHtml).join('')}</section>`
  })
  const schemas = Object.entries((document.components?.schemas ?? {}) as Json)
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>blockscale: HTTP interface</title><link rel="icon" href="/icon.svg" type="image/svg+xml"><link rel="stylesheet" href="/style.css"></head>
<body class="docs"><header><h1>HTTP interface</h1><p>${escapeHtml(document.info.description ?? '')}
<a href="/">Dashboard</a> · <a href="/openapi.json">openapi.json</a></p>
<nav aria-label="Parts">${[...tags, 'schemas'].map((tag) => `<a href="#${slug(tag)}">${escapeHtml(tag)}</a>`).join(' · ')}</nav></header>
<main>${sections.join('')}
<section aria-labelledby="schemas"><h2 id="schemas">schemas</h2>${schemas
    .map(
      ([name, schema]) =>
        `<details id="schema-${slug(name)}"><summary><code>${escapeHtml(name)}</code></summary>${jsonHtml(schema)}</details>`,
    )
    .join('')}</section></main></body></html>`
}

function operationHtml({ path, method, operation }: { path: string; method: string; operation: Json }): string {
  const parameters = (operation.parameters ?? []) as {
    name: string
    in: string
    required?: boolean
    description?: string
  }[]
  const bodies = contentHtml('Body', (operation.requestBody as Json | undefined)?.content)
  const responses = Object.entries(operation.responses as Record<string, Json>)
    .map(
      ([status, response]) =>
        `<li><b>${escapeHtml(status)}</b> ${escapeHtml(String(response.description))}${contentHtml('', response.content)}</li>`,
    )
    .join('')
  return `<details class="route"><summary><code class="method ${method}">${method.toUpperCase()}</code> <code>${escapeHtml(path)}</code> <span>${escapeHtml(String(operation.summary ?? ''))}</span></summary>
${operation.description ? `<p>${escapeHtml(String(operation.description))}</p>` : ''}
${parameters.length ? `<ul>${parameters.map((each) => `<li><code>${escapeHtml(each.name)}</code> in ${each.in}${each.required ? '' : ', optional'}${each.description ? `: ${escapeHtml(each.description)}` : ''}</li>`).join('')}</ul>` : ''}
${bodies}<h3>Answers</h3><ul>${responses}</ul></details>`
}

function contentHtml(title: string, content: unknown): string {
  const entries = Object.entries((content ?? {}) as Record<string, Json>)
  if (entries.length === 0) return ''
  return `${title ? `<h3>${title}</h3>` : ''}${entries.map(([type, { schema }]) => `<div><code>${escapeHtml(type)}</code>${jsonHtml(schema)}</div>`).join('')}`
}

/** A schema as JSON, its references as links. */
const jsonHtml = (schema: unknown): string =>
  `<pre>${escapeHtml(JSON.stringify(schema, null, 2) ?? '').replace(
    /&quot;#\/components\/schemas\/(\w+)&quot;/g,
    (_match, name: string) => `<a href="#schema-${slug(name)}">${name}</a>`,
  )}</pre>`

const slug = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]+/g, '-')

const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (each) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[each]!)
