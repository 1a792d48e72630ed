import { defineConfig } from 'vitest/config'

/** What the documents promise, run as it stands: builds and measures, so nothing else runs beside it. */
export default defineConfig({
  test: {
    include: ['test/docs/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 1_200_000,
    hookTimeout: 600_000,
    reporters: ['verbose'],
  },
})
