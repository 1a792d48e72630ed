/**
 * Writes docs/results.md from what the benchmarks left in bench/results/. Each benchmark does it when it is done; by itself:
 *
 *     npx tsx scripts/results-docs.ts
 */
import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { publishedFor } from './published.ts'
import type { ResultFacts, ResultRow } from './result.ts'

type Result = ResultFacts & { readonly name: string; readonly rows: readonly ResultRow[] }

export const resultsPagePath = fileURLToPath(new URL('../docs/results.md', import.meta.url))
const folder = new URL('results/', import.meta.url)

/** Columns beyond these make a table that nobody can read. */
const WIDEST = 9

/** The page as the results stand now. */
export async function resultsPage(): Promise<string> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.json')).sort()
  const results = await Promise.all(
    files.map(async (file) => JSON.parse(await readFile(new URL(file, folder), 'utf8')) as Result),
  )
  return `${head}\n${energyOf(results)}\n${results.map(sectionOf).join('\n')}`
}

const head = `# What was measured

Made from \`bench/results/\` by \`npx tsx scripts/results-docs.ts\`; nothing here is written by hand but the sentences about the
published figures. Each part names the command, the commit (\`+\`: with changes that were not committed yet), the machine and how busy
it was: times of a busy machine are too high, ratios that were measured side by side hold better.
`

/** Energy is never reckoned from something else. */
function energyOf(results: readonly Result[]): string {
  const sources = new Set(results.flatMap(({ machine: { energy } }) => (energy && energy !== 'none' ? [energy] : [])))
  const text =
    sources.size > 0
      ? `**Energy** is given where the machine reports it (here: ${[...sources].join(', ')}), in columns that end in \`Joules\`.`
      : `**Energy**: none of these machines reports it (no RAPL, no battery), so no figure is given. The published 71.07 % less energy of
scaling is answered by what was measured in its place: milliseconds, CPU time and bytes of a swap against loading the whole model.`
  return `${text}\n`
}

function sectionOf(result: Result): string {
  const { title, asks, published, differs } = publishedFor(result.name)
  const { cpu, cores, memoryBytes, system, simd } = result.machine
  const runtime = result.versions ? `, ONNX Runtime ${result.versions['onnxruntime-node']}` : ''
  const machine = `${cores}-core ${cpu}${simd ? ` (${simd})` : ''}, ${(memoryBytes / 1e9).toFixed(0)} GB, ${system}`
  const where = `${machine}, Node ${result.node}${runtime}, load ${result.loadAverage}`
  const lines = [
    `## ${title}`,
    '',
    asks,
    '',
    `- Published: ${published}`,
    `- What differs: ${differs}`,
    `- \`${result.command}\` at ${result.commit}${result.dirty ? '+' : ''}, ${result.when.slice(0, 10)}: ${where}`,
    '',
  ]
  const groups = new Map<string, ResultRow[]>()
  for (const row of result.rows) {
    const shape = Object.keys(row).join(' ')
    groups.set(shape, [...(groups.get(shape) ?? []), row])
  }
  for (const rows of groups.values()) lines.push(...tableOf(rows), '')
  return lines.join('\n')
}

/** Wide tables: what all rows share stands above, and where that is not enough, columns and rows change places. */
function tableOf(rows: readonly ResultRow[]): string[] {
  const all = Object.keys(rows[0]!)
  const isShared = (column: string) => new Set(rows.map((row) => cell(row[column]))).size === 1
  const shared = all.length > WIDEST && rows.length > 1 ? all.filter(isShared) : []
  const columns = all.filter((column) => !shared.includes(column))
  const cells = [columns, ...rows.map((row) => columns.map((column) => cell(row[column])))]
  const above = shared.map((column) => `${column} ${cell(rows[0]![column])}`).join(' · ')
  const isTall = columns.length > WIDEST && rows.length < columns.length
  const table = gridOf(isTall ? columns.map((_, i) => cells.map((line) => line[i]!)) : cells)
  return above ? [above, '', ...table] : table
}

function gridOf([head, ...lines]: readonly (readonly string[])[]): string[] {
  const line = (of: readonly string[]) => `| ${of.join(' | ')} |`
  return [line(head!), `|${head!.map(() => '---').join('|')}|`, ...lines.map(line)]
}

function cell(value: unknown): string {
  if (typeof value === 'number') return Number.isInteger(value) ? `${value}` : `${Number(value.toPrecision(4))}`
  if (value === null || value === undefined) return ''
  if (typeof value === 'object') {
    return Object.entries(value)
      .map(([key, each]) => (Array.isArray(value) ? cell(each) : `${key} ${cell(each)}`))
      .join(', ')
  }
  return String(value).replaceAll('|', '\\|').replaceAll('\n', ' ')
}
