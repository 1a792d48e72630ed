// Compiles src/ to dist/ and copies what is not TypeScript (the dashboard's page). Run by `npm install`.
import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
rmSync(`${root}dist`, { recursive: true, force: true })
execFileSync(process.execPath, [tsc, '-p', `${root}tsconfig.build.json`], { stdio: 'inherit' })
if (existsSync(`${root}src/server/page`))
  cpSync(`${root}src/server/page`, `${root}dist/server/page`, { recursive: true })
chmodSync(`${root}dist/cli/main.js`, 0o755)
