import { readdirSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { expect } from 'vitest'
import { brokenPictures } from './broken-pictures.ts'
import { abuseStream, type FuzzedModel, type OpenApi, rawOddities, requests, sendRaw, statusOf } from './fuzzer.ts'
import { CLASSIFIER, DETECTOR, FACES, pictureOf, type Service } from './serving.ts'

const models: readonly FuzzedModel[] = [CLASSIFIER, DETECTOR, FACES].map((model) => ({
  model,
  input: 'x',
  dims: [1, 3, 32, 32],
}))

/** Between so many requests everything is put back: wishes, budget, and that every model answers. */
const ROUND = 250

export interface Fuzzed {
  readonly requests: number
  readonly statuses: ReadonlyMap<number, number>
}

/**
 * Sends random requests to every route of a service, each checked: no 5xx but 503, and an answer at all.
 *
 * @param seed equal seeds give equal requests
 */
export async function fuzz(service: Service, count: number, seed: number): Promise<Fuzzed> {
  const document = (await (await fetch(`${service.url}/openapi.json`)).json()) as OpenApi
  const any = await requests(document, models)
  const statuses = new Map<number, number>()
  let sent = 0
  while (sent < count) {
    await putBack(service)
    const property = fc.asyncProperty(any, async (request) => {
      const { status, text } = await statusOf(service.port, request)
      statuses.set(status ?? 0, (statuses.get(status ?? 0) ?? 0) + 1)
      sent++
      if (status === undefined || (status >= 500 && status !== 503)) throw new Error(`${status} ${text}`)
    })
    // Going on after a failure makes it smaller, so that what is shown is what matters.
    await fc.assert(property, { numRuns: Math.min(ROUND, count - sent), seed: seed + sent })
    await oddities(service, seed + sent)
  }
  await putBack(service)
  return { requests: sent, statuses }
}

async function oddities({ port }: Service, seed: number): Promise<void> {
  const answer = await sendRaw(port, rawOddities[seed % rawOddities.length]!)
  expect(answer).not.toMatch(/^HTTP\/1.1 5/)
  const broken = (await brokenPictures())[seed % 100]!.bytes
  await abuseStream(port, `${CLASSIFIER},${FACES}`, [broken, 'text', new Uint8Array(), broken])
  await abuseStream(port, 'nobody', ['x'])
}

async function putBack({ runtime, url }: Service): Promise<void> {
  await runtime.setBudget({})
  for (const id of runtime.workloads().keys()) await runtime.deleteWorkload(id)
  for (const { model } of models) await runtime.load(model)
  const picture = await pictureOf('jpeg')
  const answers = await Promise.all(
    models.map(({ model }) => fetch(`${url}/v1/models/${model}/predict`, { method: 'POST', body: picture })),
  )
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
  for (const answer of answers) await answer.arrayBuffer()
}

/** Open files and sockets of this process, and what its heap holds after a collection. */
export function held(): { handles: number; heapBytes: number } {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  collect()
  const { heapUsed, external, arrayBuffers } = process.memoryUsage()
  return { handles: readdirSync('/proc/self/fd').length, heapBytes: heapUsed + external + arrayBuffers }
}
