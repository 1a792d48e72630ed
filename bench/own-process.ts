import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** How the command starts itself: with a C library that gives freed memory back. */
const [command] = readFileSync(new URL('../src/cli/main.ts', import.meta.url), 'utf8').split('\n')
export const allocator = Object.fromEntries(
  [...command!.matchAll(/(MALLOC_\w+)=(\d+)/g)].map(([, name, value]) => [name, value]),
)

/** What a script of this folder prints as JSON that has a process to itself, and can collect its garbage when it likes. */
export function inOwnProcess<Answer>(script: string, argument: object): Answer {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const options = ['--expose-gc', '--import', 'tsx', path, JSON.stringify(argument)]
  return JSON.parse(
    execFileSync(process.execPath, options, { encoding: 'utf8', env: { ...process.env, ...allocator } }),
  )
}
