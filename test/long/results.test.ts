import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { resultsPage, resultsPagePath } from '../../bench/results-page.ts'

it('docs/results.md is what bench/results says (npx tsx scripts/results-docs.ts)', async () => {
  expect(await readFile(resultsPagePath, 'utf8')).toBe(await resultsPage())
})
