import { expect, test } from 'vitest'
import { terminalProgress } from '../../src/cli/progress.ts'
import { styleFor } from '../../src/cli/terminal.ts'

function recording(isTTY: boolean) {
  let text = ''
  let now = 0
  const progress = terminalProgress(
    { isTTY, columns: 80, write: (part) => (text += part) },
    { now: () => now, monotonic: () => now },
  )
  return { progress, text: () => text, pass: (ms: number) => (now += ms) }
}

test('on a terminal one line is rewritten, with a rate and the time that is left', () => {
  const { progress, text, pass } = recording(true)
  progress.step('make descendants', 40)
  for (let i = 0; i < 10; i++) {
    pass(500)
    progress.advance()
  }
  expect(text().split('\r\x1b[K').at(-1)).toBe('make descendants  10/40  2.0/s  15.0 s left')
  expect(text()).not.toContain('\n')
  progress.note('b0 int8')
  progress.end()
  expect(text()).toMatch(/ {2}b0 int8\n[\s\S]*make descendants {2}10\/40 {2}5\.0 s\n$/)
})

test('elsewhere it is plain lines, and not one for each advance', () => {
  const { progress, text, pass } = recording(false)
  progress.step('read and cut')
  progress.step('measure', 1000)
  for (let i = 0; i < 1000; i++) {
    pass(25)
    progress.advance()
  }
  progress.end()
  expect(text().split('\n').slice(0, 2)).toEqual(['read and cut', 'measure (1000)'])
  expect(text().split('\n')).toHaveLength(5)
  expect(text()).not.toContain('\r')
  expect(text()).not.toContain('\x1b')
})

test('colour only on terminals, and not where NO_COLOR is set', () => {
  const terminal = { isTTY: true, write() {} }
  expect(styleFor(terminal, {}).bold('a')).toBe('\x1b[1ma\x1b[22m')
  expect(styleFor(terminal, { NO_COLOR: '1' }).bold('a')).toBe('a')
  expect(styleFor({ write() {} }, {}).bold('a')).toBe('a')
})
