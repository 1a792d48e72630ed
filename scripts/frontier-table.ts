// Prints a result of bench/frontier.ts as a Markdown table: `npx tsx scripts/frontier-table.ts mobilenetv2`.
import { readFileSync } from 'node:fs'

interface Row {
  readonly limit: string
  readonly method: string
  readonly inputSize: string
  readonly quality: number
  readonly latencyShare: number
  readonly weightShare: number
}

const name = process.argv[2]
if (!name) throw new Error('usage: npx tsx scripts/frontier-table.ts <model>')
const { rows } = JSON.parse(
  readFileSync(new URL(`../bench/results/frontier-${name}.json`, import.meta.url), 'utf8'),
) as { rows: (Row | { metric: string; pictures: number })[] }
const measured = rows.filter((row): row is Row => 'method' in row)
const [original] = measured
const methods = [...new Set(measured.map(({ method }) => method))].filter((method) => method !== 'original')
const limits = [...new Set(measured.map(({ limit }) => limit))].filter((limit) => limit !== 'original')

/** Quality, and what it really took of what was limited; nothing where a method has no variant within the limit. */
function cell(limit: string, method: string): string {
  const row = measured.find((each) => each.limit === limit && each.method === method)
  if (!row) return '–'
  const took = limit.endsWith('latency') ? row.latencyShare : row.weightShare
  const size = row.inputSize === original!.inputSize ? '' : `, ${row.inputSize}`
  return `${(100 * row.quality).toFixed(1)} % (${took.toFixed(2)}${size})`
}

console.log(`Original: ${(100 * original!.quality).toFixed(1)} %\n`)
console.log(`| at most | ${methods.join(' | ')} |\n|---|${methods.map(() => '---|').join('')}`)
for (const limit of limits) {
  console.log(`| ${limit} | ${methods.map((method) => cell(limit, method)).join(' | ')} |`)
}
