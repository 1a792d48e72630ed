import Table from 'cli-table3'
import type { Style } from './terminal.ts'

export type Cell = string | number | null | undefined

export interface Column {
  readonly name: string
  /** numbers stand at the right */
  readonly right?: boolean | undefined
  /** longer texts are broken at spaces */
  readonly width?: number | undefined
}

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
}

/** A table without lines; its head is bold on a terminal. */
export function tableOf(columns: readonly Column[], rows: readonly (readonly Cell[])[], style: Style): string {
  const table = new Table({
    chars: NO_LINES,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
    colAligns: columns.map(({ right }) => (right ? 'right' : 'left')),
  })
  table.push(columns.map(({ name }) => style.bold(name)))
  for (const row of rows) {
    table.push(row.map((cell, i) => broken(shown(cell), columns[i]?.width ?? Number.POSITIVE_INFINITY)))
  }
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

const shown = (cell: Cell): string =>
  cell === null || cell === undefined ? '' : typeof cell === 'number' ? figure(cell) : cell

/** A number with as many digits as say something: `0.8765`, `12.35`, `1048576`. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Number.isInteger(value)) return `${value}`
  const size = Math.abs(value)
  if (size > 0 && size < 1e-4) return value.toExponential(1)
  return `${Number(value.toFixed(size < 1 ? 4 : size < 100 ? 2 : 1))}`
}

function broken(text: string, width: number): string {
  if (text.length <= width) return text
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!
    if (line !== '' && line.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines.join('\n')
}
