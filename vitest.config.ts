import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // examples import the client by the name under which the package exports it
  resolve: { alias: { 'blockscale/client': fileURLToPath(new URL('src/server/client.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/long/**', 'test/docs/**'],
    // Property tests draw the same cases every time here, so that a failure is of the change at hand; `test:long` draws new ones.
    setupFiles: ['test/same-cases.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // A build takes seconds on a quiet machine, and minutes on one that is busy with other things.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    reporters: ['default'],
  },
})
