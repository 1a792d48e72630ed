import { fileURLToPath } from 'node:url'

/** The folder of the package: two folders up both in the sources and in what is compiled. */
export const packageFolder = fileURLToPath(new URL('../../', import.meta.url))
