import { type Command, Option } from 'commander'
import { BlockscaleError } from '../../base/index.ts'
import { type InspectKind, inspectKinds, openProfiles, type Row } from '../../profiles/index.ts'
import { openZoo } from '../../zoo/index.ts'
import { withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'
import { tableOf } from '../table.ts'

interface InspectFlags {
  readonly zoo: string
  readonly json?: true
  readonly sql?: string
  readonly csv?: true
}

/** `blockscale inspect` */
export function addInspect(program: Command, shell: Shell): void {
  const command = program
    .command('inspect')
    .description('the profile database, read only')
    .argument('[what]', `${inspectKinds.join(', ')}; models unless given`)
    .option('--sql <query>', 'any statement that reads')
    .addOption(new Option('--csv', 'comma-separated values, all columns').conflicts('json'))
    .action((what: string | undefined, options: InspectFlags) => {
      if (what !== undefined && options.sql !== undefined) {
        throw new BlockscaleError(
          'USAGE',
          'both a table and a statement are asked for',
          `give either "${what}" or --sql`,
        )
      }
      const store = openProfiles(openZoo(options.zoo).profilesPath, { readOnly: true })
      try {
        const rows =
          options.sql === undefined ? store.inspect((what ?? 'models') as InspectKind) : store.query(options.sql)
        if (options.json) shell.json(rows)
        else if (options.csv) shell.raw(csvOf(rows))
        else printRows(shell, rows)
      } finally {
        store.close()
      }
    })
  withExamples(withJson(withZoo(command)), [
    ['inspect descendants', 'what each descendant costs and loses'],
    ['inspect combinations --csv > combinations.csv', 'for a spreadsheet'],
    ['inspect --sql "SELECT * FROM v_measurements WHERE block = \'b1\'"', 'any question'],
  ])
}

/** Long and telling to nobody in a table; `--json` and `--csv` have them. */
const HIDDEN = /(^|_)(sha256|device|cpu|onnxruntime_version)$/
const WIDEST = 48

/** What is the same in all rows is said once, above; columns that say nothing are left out. */
function printRows(shell: Shell, rows: readonly Row[]): void {
  const first = rows[0]
  if (!first) {
    shell.line('nothing is kept of that yet')
    return
  }
  const names = Object.keys(first).filter((name) => !HIDDEN.test(name) && rows.some((row) => row[name] !== null))
  const isSame = (name: string): boolean => rows.length > 2 && rows.every((row) => row[name] === first[name])
  const same = names.filter(isSame)
  const differing = names.filter((name) => !isSame(name))
  if (same.length > 0) shell.line(shell.style.dim(same.map((name) => `${name} ${first[name]}`).join('  ')))
  shell.line(
    tableOf(
      differing.map((name) => ({ name, right: rows.every((row) => typeof row[name] !== 'string'), width: WIDEST })),
      rows.map((row) => differing.map((name) => row[name])),
      shell.style,
    ),
  )
}

function csvOf(rows: readonly Row[]): string {
  const quoted = (value: Row[string]): string => {
    const text = value === null ? '' : `${value}`
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  }
  const head = Object.keys(rows[0] ?? {})
  return [head.map(quoted), ...rows.map((row) => head.map((name) => quoted(row[name] ?? null)))]
    .map((cells) => `${cells.join(',')}\n`)
    .join('')
}
