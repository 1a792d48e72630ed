/** Writes docs/results.md from bench/results: `npx tsx scripts/results-docs.ts`. */
import { writeFile } from 'node:fs/promises'
import { resultsPage, resultsPagePath } from '../bench/results-page.ts'

await writeFile(resultsPagePath, await resultsPage())
