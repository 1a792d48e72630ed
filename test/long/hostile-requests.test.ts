import { beforeAll, expect, test } from 'vitest'
import { fuzz, held } from '../server/fuzzing.ts'
import { type Service, startService } from '../server/serving.ts'

const REQUESTS = 20_000
/** What the heap may grow by over all of them: caches that fill once, no more. */
const GROWTH = 40e6

let service: Service
beforeAll(async () => {
  service = await startService()
})

test(`${REQUESTS} random requests: no 5xx but 503, no crash, no leak`, async () => {
  await fuzz(service, 2000, 1)
  const before = held()
  const { requests, statuses } = await fuzz(service, REQUESTS - 2000, 2)
  // Connections that idle are closed after ten seconds.
  await new Promise((resolve) => setTimeout(resolve, 12_000))
  const after = held()
  const counts = [...statuses].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`)
  console.log(
    `${requests} requests: ${counts.join(', ')}; before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`,
  )
  expect(after.handles).toBeLessThanOrEqual(before.handles + 10)
  expect(after.heapBytes).toBeLessThan(before.heapBytes + GROWTH)
})
