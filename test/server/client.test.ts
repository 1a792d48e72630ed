import { beforeAll, describe, expect, it } from 'vitest'
import { createClient, RequestFailed } from '../../src/server/client.ts'
import { CLASSIFIER, DETECTOR, FACES, pictureOf, type Service, startService } from './serving.ts'

const token = 'a-long-enough-token-of-ours'
let service: Service
beforeAll(async () => {
  service = await startService({ token })
})
const client = () => createClient(service.url, { token })

describe('the typed client', () => {
  it('speaks every native route', async () => {
    const picture = await pictureOf('jpeg')
    expect((await client().models()).map((each) => each.model)).toEqual(
      expect.arrayContaining([CLASSIFIER, DETECTOR, FACES]),
    )
    const put = await client().putWorkload('door', { model: CLASSIFIER, maxLatencyMs: 900 })
    expect(put.workload.id).toBe('door')
    expect((await client().workloads()).map((each) => each.id)).toContain('door')
    const { usedBytes } = await client().budget()
    const change = await client().setBudget({ memoryBytes: usedBytes * 2 })
    expect(change.budget.memoryBytes).toBe(usedBytes * 2)
    expect((await client().plan()).models).toHaveLength(3)
    expect((await client().whatIf({ budget: { memoryBytes: 10 } })).status).toBe('infeasible')
    const answer = await client().predict(CLASSIFIER, picture, { deadlineMs: 5000 })
    expect(answer.task === 'classification' && answer.labels.length).toBeGreaterThan(0)
    const answers = await client().frame([CLASSIFIER, DETECTOR], picture)
    expect(Object.keys(answers)).toEqual([CLASSIFIER, DETECTOR])
    await client().deleteWorkload('door')
    await service.runtime.load(CLASSIFIER)
  })

  it('gives refusals as errors with code and hint', async () => {
    const failed = await client()
      .putWorkload('x', { model: 'nobody' })
      .catch((error: unknown) => error)
    expect(failed).toBeInstanceOf(RequestFailed)
    expect(failed).toMatchObject({ status: 404, code: 'MODEL_UNKNOWN', hint: expect.any(String) })
    await expect(createClient(service.url, { token: 'wrong' }).plan()).rejects.toMatchObject({ status: 401 })
  })

  it('listens to what happens', async () => {
    const stop = new AbortController()
    const kinds: string[] = []
    const { memoryBytes } = (await client().plan()).totals!
    try {
      for await (const event of client().events(stop.signal)) {
        kinds.push(event.kind)
        if (event.kind === 'live') void client().setBudget({ memoryBytes: Math.floor(memoryBytes * 0.8) })
        if (event.kind === 'swap') stop.abort()
      }
    } catch (error) {
      if (!stop.signal.aborted) throw error
    }
    expect(kinds[0]).toBe('live')
    expect(kinds).toContain('swap')
    await client().setBudget({})
  })

  it('a listener that comes back is told what it missed', async () => {
    const listen = async (last?: string) => {
      const headers = { authorization: `Bearer ${token}`, ...(last ? { 'last-event-id': last } : {}) }
      const reader = (await fetch(`${service.url}/v1/events`, { headers })).body!.getReader()
      let text = ''
      return {
        /** All that came until an event of this kind did. */
        async until(kind: string) {
          while (!text.includes(`event: ${kind}\n`)) {
            const { value, done } = await reader.read()
            if (done) throw new Error(`no ${kind} in ${text}`)
            text += Buffer.from(value).toString('latin1')
          }
          return text
        },
        end: () => reader.cancel(),
      }
    }
    const fresh = await listen()
    await fresh.until('live')
    await client().setBudget({})
    expect(await fresh.until('budget')).not.toContain('event: swap')
    await fresh.end()
    const back = await listen('0')
    expect(await back.until('swap')).toMatch(/id: \d+\nevent: swap/)
    await back.end()
  })

  it('streams frames', async () => {
    const picture = await pictureOf('jpeg')
    const stream = await client().stream([CLASSIFIER])
    stream.send(picture)
    for await (const { frame, answers } of stream.answers()) {
      expect(frame).toBe(1)
      expect(answers?.[CLASSIFIER]).toMatchObject({ task: 'classification' })
      stream.close()
    }
    await expect(client().stream(['nobody'])).rejects.toBeInstanceOf(RequestFailed)
  })
})
