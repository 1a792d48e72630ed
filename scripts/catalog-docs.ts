// Writes docs/catalog.md from model-zoo/catalog/ and bench/results/tasks.json: `npx tsx scripts/catalog-docs.ts`.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { firstInput, type ModelCard } from '../src/tasks/index.ts'
import { listModels } from '../src/zoo/index.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

interface Score {
  readonly model: string
  readonly metric: string
  readonly measured: number
  readonly pictures: number
}

const HEAD = `# The catalogue

Networks of others that are known to this program: how they take a picture, what their outputs mean, where they are from. None of
them is part of this package; each has a licence of its own.

\`\`\`sh
blockscale pull mnist                        # download, check by sha256, install; goes on where it stopped
blockscale pull mobilenetv2 --from ~/models  # take the file from a folder, where it is known by its checksum
\`\`\`

An **address** is given only where it is known that the file of that checksum lies there. For the others get the file from its
project. Some were converted or simplified by their project's users before they came here, so that no address holds just this file.
**Quality** is what \`npx tsx bench/tasks.ts <folder>\` measured of the original, on the pictures named in that file; an entry
without one was not run here.
`

/** The catalogue as a page of Markdown. */
export async function catalogDocs(): Promise<string> {
  const { rows } = JSON.parse(readFileSync(`${root}bench/results/tasks.json`, 'utf8')) as { rows: Score[] }
  const models = (await listModels({ zoo: `${root}none` })).filter(({ where }) => where === 'catalogue')
  const lines = models.map(({ id, card }) => {
    const score = rows.find(({ model }) => model === id)
    const quality = score ? `${score.metric} ${score.measured} on ${score.pictures}` : ''
    const what = [card.title, card.notes].filter(Boolean).join('. ')
    return `| \`${id}\` | ${card.task} | ${firstInput(card).size.join('×')} | ${what} | ${quality} | ${card.source?.licence} | ${sourceOf(card)} |`
  })
  const head = '| model | task | input | what | quality | licence | from |\n|---|---|---|---|---|---|---|'
  return `${HEAD}\n${head}\n${lines.join('\n')}\n`
}

const sourceOf = ({ source }: ModelCard): string =>
  source?.url ? `[${source.project}](${source.url})` : `${source?.project}; no address`

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(`${root}docs/catalog.md`, await catalogDocs())
}
