import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The folder of the package: two folders up both in the sources and in what is compiled. */
export const packageFolder = fileURLToPath(new URL('../../', import.meta.url))

export const packageVersion: string = (
  JSON.parse(readFileSync(`${packageFolder}package.json`, 'utf8')) as { version: string }
).version
