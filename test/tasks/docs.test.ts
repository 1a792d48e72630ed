import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { catalogDocs } from '../../scripts/catalog-docs.ts'
import { cardSchema, decoderSchemas, inputSchema } from '../../src/tasks/index.ts'

const text = await readFile(new URL('../../docs/model-card.md', import.meta.url), 'utf8')

test('every field of a card is described in docs/model-card.md', () => {
  const fields = [cardSchema, inputSchema, ...Object.values(decoderSchemas)].flatMap((schema) =>
    Object.keys(schema.shape),
  )
  const missing = [...new Set([...fields, ...Object.keys(decoderSchemas)])].filter(
    (field) => !text.includes(`\`${field}\``),
  )
  expect(missing).toEqual([])
})

test('docs/catalog.md says what the catalogue says (npx tsx scripts/catalog-docs.ts writes it)', async () => {
  expect(await readFile(new URL('../../docs/catalog.md', import.meta.url), 'utf8')).toBe(await catalogDocs())
})
