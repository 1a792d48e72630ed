import { readFileSync } from 'node:fs'

/** Of the package, two folders up both in the sources and in what is compiled. */
export const packageVersion: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version
