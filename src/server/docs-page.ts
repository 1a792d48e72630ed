import { escapeHtml, slug } from './html.ts'
import type { OpenApiDocument } from './openapi.ts'
import { type Contents, type Operation, operationsOf } from './operations.ts'
import { type Field, type Outline, outlineOf, type Word } from './schema-outline.ts'

/** The OpenAPI document as a page that people read: plain HTML that needs no script and no other host. */
export function docsPage(document: OpenApiDocument): string {
  const operations = operationsOf(document)
  const tags = [...new Set(operations.map(({ tag }) => tag))]
  const sections = tags.map((tag) => {
    const own = operations.filter((each) => each.tag === tag)
    return section(tag, own.map(operationHtml).join(''))
  })
  const shapes = Object.entries(document.components?.schemas ?? {}).map(
    ([name, schema]) =>
      `<details id="schema-${slug(name)}" open><summary><code>${escapeHtml(name)}</code></summary><div class="details">${outlineHtml(outlineOf(schema))}</div></details>`,
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

const section = (title: string, inner: string): string =>
  `<section aria-labelledby="${slug(title)}"><h2 id="${slug(title)}">${escapeHtml(title)}</h2>${inner}</section>`

function operationHtml({ method, path, summary, description, curl, parameters, body, answers }: Operation): string {
  const parameterRows = parameters.map(
    (each) =>
      `<tr><td><code>${escapeHtml(each.name)}</code></td><td>in the ${each.place}${each.optional ? ', optional' : ''}</td><td>${escapeHtml(each.description)}</td></tr>`,
  )
  const answerRows = answers.map(
    (each) =>
      `<tr><td><b>${escapeHtml(each.status)}</b></td><td>${escapeHtml(each.description)}${contentsHtml(each.contents)}</td></tr>`,
  )
  return `<details><summary><code class="method">${method}</code> <code>${escapeHtml(path)}</code> <span class="quiet">${escapeHtml(summary)}</span></summary>
<div class="details">
${description ? `<p>${escapeHtml(description)}</p>` : ''}
${curl ? `<pre>${escapeHtml(curl)}</pre>` : ''}
${parameters.length ? `<h3>Parameters</h3><table><tbody>${parameterRows.join('')}</tbody></table>` : ''}
${body.length ? `<h3>Body</h3>${contentsHtml(body)}` : ''}
<h3>Answers</h3><table><tbody>${answerRows.join('')}</tbody></table></div></details>`
}

const contentsHtml = (contents: readonly Contents[]): string =>
  contents
    .map(
      ({ types, outline }) =>
        `<div>${types.map((type) => `<code>${escapeHtml(type)}</code>`).join(', ')}${outlineHtml(outline)}</div>`,
    )
    .join('')

function outlineHtml(outline: Outline): string {
  if (outline.kind === 'type') return `<p>${wordsHtml(outline.type)}</p>`
  if (outline.kind === 'choices') return `<p>one of</p>${outline.choices.map(outlineHtml).join('')}`
  const of = { object: '', list: '<p>list of</p>', map: '<p>for each name</p>' }[outline.of]
  return `${of}<table><thead><tr><th>field</th><th>type</th><th></th></tr></thead><tbody>${outline.fields.map(fieldHtml).join('')}</tbody></table>`
}

const fieldHtml = ({ name, type, optional, description }: Field): string =>
  `<tr><td><code>${escapeHtml(name)}</code></td><td>${wordsHtml(type)}${optional ? ', optional' : ''}</td><td>${escapeHtml(description)}</td></tr>`

const wordsHtml = (words: readonly Word[]): string =>
  words
    .map((word) => {
      if ('text' in word) return escapeHtml(word.text)
      if ('code' in word) return `<code>${escapeHtml(word.code)}</code>`
      return `<a href="#schema-${slug(word.schema)}">${escapeHtml(word.schema)}</a>`
    })
    .join('')
