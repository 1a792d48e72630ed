// Prints a result of bench/frontier.ts as a Markdown table: `npx tsx scripts/frontier-table.ts mobilenetv2`.
import { readFileSync } from 'node:fs'

const name = process.argv[2]
if (!name) throw new Error('usage: npx tsx scripts/frontier-table.ts <model>')
const { rows } = JSON.parse(
  readFileSync(new URL(`../bench/results/frontier-${name}.json`, import.meta.url), 'utf8'),
) as {
  rows: {
    limit: string
    inputSize: string
    metric: string
    quality: number
    agreement: number
    latencyShare: number
    weightShare: number
  }[]
}
const percent = (share: number) => `${(100 * share).toFixed(1)} %`
console.log(
  `| asked for | input | ${rows[0]?.metric} | agreement with the original | latency | weights |\n|---|---|---|---|---|---|`,
)
for (const row of rows) {
  console.log(
    `| ${row.limit} | ${row.inputSize} | ${percent(row.quality)} | ${percent(row.agreement)} | ${row.latencyShare.toFixed(2)} | ${row.weightShare.toFixed(2)} |`,
  )
}
