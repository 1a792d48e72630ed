import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { Worker, type WorkerOptions } from 'node:worker_threads'

/** Short-lived objects that a thread may hold before they are collected: three times 16 MB unless told, which a small machine has not. */
const YOUNG_MB = 6

/**
 * Starts a worker thread from a module of ours.
 *
 * From the compiled package this is `new Worker(url)`. When the sources themselves run (tests, benchmarks), the worker is
 * started through tsx, because Node 20 cannot load TypeScript in a thread.
 *
 * @param url `new URL('./name.ts', import.meta.url)`; the ending follows that of the caller
 */
export function startWorker(url: URL, given: WorkerOptions = {}): Worker {
  const options = { resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB }, ...given }
  if (!import.meta.url.endsWith('.ts')) return new Worker(new URL(url.href.replace(/\.ts$/, '.js')), options)
  // By its address: a thread looks for names from the folder that the program was started in. (The CommonJS form of that module cannot do it.)
  const tsx = pathToFileURL(
    createRequire(import.meta.url)
      .resolve('tsx/esm/api')
      .replace(/\.cjs$/, '.mjs'),
  ).href
  const start = `import(${JSON.stringify(tsx)}).then(({ register }) => { register(); return import(${JSON.stringify(url.href)}) })`
  return new Worker(start, { ...options, eval: true })
}
