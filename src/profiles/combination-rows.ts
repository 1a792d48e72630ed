import { type ModelId, sha256 } from '../base/index.ts'
import type { Choices } from '../zoo/index.ts'
import { columnsOfCombination, combinationOf, sizeFilter } from './columns.ts'
import type { Combination, CombinationFilter } from './rows.ts'
import type { Rows } from './table-rows.ts'

export function saveCombination(rows: Rows, row: Combination): void {
  const columns = { ...columnsOfCombination(row), choices_sha256: digestOf(row.choices) }
  // Deleted and written anew, so that the numbers grow with time and `retain` keeps the newest.
  rows.run(
    `DELETE FROM combinations WHERE model = ? AND device = ? AND input_height = ? AND input_width = ? AND split = ?
      AND choices_sha256 = ?`,
    row.model,
    row.device,
    ...row.size,
    row.split,
    columns.choices_sha256,
  )
  const combination = rows.put('combinations', [], columns)
  for (const [block, descendant] of Object.entries(row.choices)) {
    rows.put('combination_choices', [], { combination, model: row.model, block, descendant })
  }
}

/** What was compared on the report pictures stays: nothing is fitted on it. */
export function forgetTimes(rows: Rows, model: ModelId, device: string): void {
  rows.run(
    "UPDATE combinations SET measured_latency_ms = NULL WHERE model = ? AND device = ? AND split <> 'report'",
    model,
    device,
  )
}

export function readCombinations(rows: Rows, where: CombinationFilter): Combination[] {
  const filters = [
    where.device === undefined ? '' : 'AND device = ?',
    where.split === undefined ? '' : 'AND split = ?',
    sizeFilter(where.size),
  ]
  const values = [where.device, where.split, ...(where.size ?? [])].filter((value) => value !== undefined)
  return rows.reading(() => {
    const choices = new Map<unknown, Record<string, unknown>>()
    const chosen = rows.all(
      'SELECT combination, block, descendant FROM combination_choices WHERE model = ?',
      where.model,
    )
    for (const { combination, block, descendant } of chosen) {
      const each = choices.get(combination) ?? {}
      each[block as string] = descendant
      choices.set(combination, each)
    }
    return rows
      .all(
        `SELECT * FROM combinations WHERE model = ? ${filters.join(' ')} ORDER BY combination`,
        where.model,
        ...values,
      )
      .map((row) => combinationOf(row, (choices.get(row.combination) ?? {}) as Choices))
  })
}

const digestOf = (choices: Choices): string =>
  sha256(JSON.stringify(Object.entries(choices).sort(([a], [b]) => (a < b ? -1 : 1))))
