import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** What a script of this folder prints as JSON that has a process to itself, and can collect its garbage when it likes. */
export function inOwnProcess<Answer>(script: string, argument: object): Answer {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const options = ['--expose-gc', '--import', 'tsx', path, JSON.stringify(argument)]
  return JSON.parse(execFileSync(process.execPath, options, { encoding: 'utf8' }))
}
