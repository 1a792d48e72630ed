#!/usr/bin/env -S MALLOC_MMAP_THRESHOLD_=131072 node
// From the first large piece that is freed on, glibc would keep pieces of that size for later, each thread up to 64 MB. Naming the threshold
// keeps it where it starts: what a block took that was swapped out or streamed goes back to the system.
import { run } from './run.ts'

const interrupt = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (interrupt.signal.aborted) process.exit(130) // asked twice: no more patience
    interrupt.abort(signal)
  })
}
// `blockscale inspect | head` closes the pipe while it is written to.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

const code = await run(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signal: interrupt.signal,
})
// A pipe holds 64 kB, and its reader may be slower: what is left is written before the process ends.
await new Promise<void>((done) => process.stdout.write('', () => done()))
process.exit(code)
