// Writes docs/commands.md from the commands themselves: `npx tsx scripts/command-docs.ts`.
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { createProgram } from '../src/cli/program.ts'
import { commandReference } from '../src/cli/reference.ts'
import { Shell } from '../src/cli/shell.ts'

export function commandDocs(): string {
  const nowhere = { write() {} }
  const signal = new AbortController().signal
  return commandReference(createProgram(new Shell({ stdout: nowhere, stderr: nowhere, env: {}, signal })))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(fileURLToPath(new URL('../docs/commands.md', import.meta.url)), commandDocs())
}
