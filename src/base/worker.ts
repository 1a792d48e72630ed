import { Worker, type WorkerOptions } from 'node:worker_threads'

/**
 * Starts a worker thread from a module of ours.
 *
 * From the compiled package this is `new Worker(url)`. When the sources themselves run (tests, benchmarks), the worker is
 * started through tsx, because Node 20 cannot load TypeScript in a thread.
 *
 * @param url `new URL('./name.ts', import.meta.url)`; the ending follows that of the caller
 */
export function startWorker(url: URL, options: WorkerOptions = {}): Worker {
  if (!import.meta.url.endsWith('.ts')) return new Worker(new URL(url.href.replace(/\.ts$/, '.js')), options)
  const start = `import('tsx/esm/api').then(({ register }) => { register(); return import(${JSON.stringify(url.href)}) })`
  return new Worker(start, { ...options, eval: true })
}
