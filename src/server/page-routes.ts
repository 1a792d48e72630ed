import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import express, { type RequestHandler, Router } from 'express'
import helmet from 'helmet'
import { docsPage } from './docs-page.ts'
import type { OpenApiDocument } from './openapi.ts'

const folder = fileURLToPath(new URL('./page', import.meta.url))
const resolve = createRequire(import.meta.url).resolve

/** The page's libraries, served from where npm put them: no build step and no other host. */
const libraries = {
  preact: resolve('preact'),
  'preact/hooks': resolve('preact/hooks'),
  htm: join(dirname(resolve('htm')), 'htm.module.js'),
}

const libraryPath = (name: string): string => `/library/${name.replace('/', '-')}.js`

const importMap = JSON.stringify({
  imports: Object.fromEntries(Object.keys(libraries).map((name) => [name, libraryPath(name)])),
})

/**
 * Security headers. Scripts come from here only; the one inline element, the import map, is named by its hash.
 * Nothing insists on https: the service itself speaks http, on this machine or behind something that adds TLS.
 */
export function securityHeaders(): RequestHandler {
  const hash = createHash('sha256').update(importMap).digest('base64')
  return helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'", `'sha256-${hash}'`],
        styleSrc: ["'self'"],
        imgSrc: ["'self'", 'blob:', 'data:'],
        mediaSrc: ["'self'", 'blob:'],
        connectSrc: ["'self'"],
        manifestSrc: ["'self'"],
        baseUri: ["'none'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
      },
    },
    strictTransportSecurity: false,
    // on plain http browsers ignore it and complain
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
    referrerPolicy: { policy: 'no-referrer' },
    xFrameOptions: { action: 'deny' },
  })
}

/** The dashboard, its libraries, and the OpenAPI document as JSON and as a page. Nothing here is secret. */
export function pageRoutes(document: OpenApiDocument): Router {
  const router = Router()
  const html = readFileSync(join(folder, 'index.html'), 'utf8').replace(
    '<!-- import map -->',
    `<script type="importmap">${importMap}</script>`,
  )
  router.get('/', (_request, response) => {
    response.set('Cache-Control', 'no-cache').set('Permissions-Policy', 'camera=(self), microphone=(), geolocation=()')
    response.type('html').send(html)
  })
  for (const [name, path] of Object.entries(libraries)) {
    router.get(libraryPath(name), (_request, response) => {
      response.type('text/javascript').sendFile(path, { dotfiles: 'allow', maxAge: '1d' })
    })
  }
  router.get('/openapi.json', (_request, response) => {
    response.json(document)
  })
  const docs = docsPage(document)
  router.get('/docs', (_request, response) => {
    response.type('html').send(docs)
  })
  const files = express.static(folder, { index: false, redirect: false, maxAge: 0 })
  // asked for by name: otherwise each call of the interface would be looked for on the disk first
  for (const name of readdirSync(folder)) if (name !== 'index.html') router.get(`/${name}`, files)
  return router
}
