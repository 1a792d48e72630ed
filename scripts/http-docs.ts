// Writes docs/http.md from the routes themselves: `npx tsx scripts/http-docs.ts`.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openRuntime } from '../src/runtime/index.ts'
import { createApplication } from '../src/server/app.ts'
import { httpReference } from '../src/server/reference.ts'

/** The routes are those of a service over an empty zoo. */
export async function httpDocs(): Promise<string> {
  const zoo = mkdtempSync(join(tmpdir(), 'blockscale-routes-'))
  const runtime = await openRuntime({ zoo, workers: 1 })
  const application = createApplication(runtime)
  try {
    return httpReference(application.document)
  } finally {
    await application.stop()
    await runtime.close()
    rmSync(zoo, { recursive: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(fileURLToPath(new URL('../docs/http.md', import.meta.url)), await httpDocs())
}
