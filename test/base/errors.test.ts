import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { errorDocs } from '../../scripts/error-docs.ts'

test('docs/errors.md says what the catalogue of errors says (npx tsx scripts/error-docs.ts writes it)', () => {
  const docs = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
  expect(docs).toBe(errorDocs())
})
