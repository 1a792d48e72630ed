import { readFile } from 'node:fs/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { httpDocs } from '../../scripts/http-docs.ts'
import { createApplication } from '../../src/server/app.ts'
import { json, type Service, startService } from './serving.ts'

let service: Service
beforeAll(async () => {
  service = await startService()
})

interface Document {
  readonly openapi: string
  readonly paths: Record<
    string,
    Record<string, { operationId: string; responses: Record<string, unknown>; summary: string }>
  >
  readonly components: { readonly schemas: Record<string, unknown> }
}

it('docs/http.md says what the routes say (npx tsx scripts/http-docs.ts writes it)', async () => {
  expect(await readFile(new URL('../../docs/http.md', import.meta.url), 'utf8')).toBe(await httpDocs())
})

describe('/openapi.json', () => {
  it('names every route that there is, and every route that it names answers', async () => {
    const document = (await json(await fetch(`${service.url}/openapi.json`))) as unknown as Document
    expect(document.openapi).toBe('3.1.0')
    const { routes } = createApplication(service.runtime)
    const named = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method} ${path}`),
    )
    expect(named.sort()).toEqual([...routes.map((each) => `${each.method} ${each.path}`), 'get /v1/stream'].sort())
    for (const each of routes) {
      if (each.path === '/v1/events') continue
      const path = each.path.replace('{model}', 'nobody').replace('{version}', '1').replace('{id}', 'nobody')
      const response = await fetch(service.url + path, { method: each.method.toUpperCase() })
      expect([200, 400, 404]).toContain(response.status)
      await response.arrayBuffer()
    }
  })

  it('has a summary, a distinct id and at least one answer for each, and no loose ends', async () => {
    const document = (await json(await fetch(`${service.url}/openapi.json`))) as unknown as Document
    const operations = Object.values(document.paths).flatMap((item) => Object.values(item))
    expect(new Set(operations.map((each) => each.operationId)).size).toBe(operations.length)
    for (const each of operations) {
      expect(each.summary).not.toBe('')
      expect(Object.keys(each.responses).length).toBeGreaterThan(0)
    }
    const references = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(
      (match) => match[1]!,
    )
    for (const name of references) expect(document.components.schemas).toHaveProperty(name)
  })

  it('is a page that people read', async () => {
    const page = await (await fetch(`${service.url}/docs`)).text()
    for (const words of [
      '/v1/models/{model}/predict',
      '/v2/models/{model}/infer',
      '/v1/vision/detection',
      'LivePlan',
    ]) {
      expect(page).toContain(words)
    }
    expect(page).not.toContain('<script')
  })
})
