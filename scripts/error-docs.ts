// Writes docs/errors.md from the catalogue of errors: `npx tsx scripts/error-docs.ts`.
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { errorCatalogue } from '../src/base/index.ts'

export function errorDocs(): string {
  const entries = Object.entries(errorCatalogue).map(
    ([code, { exit, http, meaning, solve }]) =>
      `## ${code}\n\nExit code ${exit}, HTTP status ${http}.\n\n**Meaning.** ${meaning}\n\n**How to solve.** ${solve}\n`,
  )
  const head =
    '# Errors\n\nEvery error has a code. Commands print it as `error: …` with a `hint: …`, routes answer with ' +
    '`{"error":{"code","message","hint"}}`.\n'
  return [head, ...entries].join('\n')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(fileURLToPath(new URL('../docs/errors.md', import.meta.url)), errorDocs())
}
