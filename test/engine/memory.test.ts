import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const main = readFileSync(new URL('../../src/cli/main.ts', import.meta.url), 'utf8')
/** Of the first line of the command: how it is started where a shell starts it. */
const [, settings] = /^#!\/usr\/bin\/env -S (.*) node\n/.exec(main)!

it.runIf(process.platform === 'linux')('memory of networks that came and went is the system’s again', () => {
  const script = fileURLToPath(new URL('./releasing.ts', import.meta.url))
  const command = ['-S', `${settings} ${process.execPath}`, '--expose-gc', '--import', 'tsx', script]
  const { start, often } = JSON.parse(execFileSync('/usr/bin/env', command, { encoding: 'utf8' }))
  // Left to itself the C library keeps 45 to 55 MB.
  expect(often - start).toBeLessThan(25e6)
})
