import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { type Camera, folderCamera, watch } from '../../examples/camera.ts'
import { createClient } from '../../src/server/client.ts'
import { DETECTOR, pictureOf, startService } from './serving.ts'

it('the camera application in examples/ watches a folder, follows a swap, and leaves nothing behind', async () => {
  const service = await startService()
  const folder = await mkdtemp(join(tmpdir(), 'camera-'))
  for (let i = 0; i < 6; i++) await writeFile(join(folder, `${10 + i}.jpg`), await pictureOf('jpeg', 160, 120))
  await writeFile(join(folder, 'notes.txt'), 'no picture')
  const client = createClient(service.url)
  const lines: string[] = []
  const isSwapTold = () => lines.some((line) => /^swapped \d+ blocks in/.test(line))
  let sent = 0
  /** Goes on until the swap has happened and was told. */
  async function* camera(): Camera {
    do {
      for await (const frame of folderCamera(folder)) {
        sent++
        yield frame
      }
    } while (!isSwapTold())
  }
  const { memoryBytes } = (await client.plan()).totals!
  let shrinking: Promise<unknown> | undefined
  const { answered, dropped } = await watch(client, camera(), {
    model: DETECTOR,
    maxLatencyMs: 500,
    framesPerSecond: 20,
    say(line) {
      lines.push(line)
      shrinking ??= client.setBudget({ memoryBytes: Math.floor(memoryBytes * 0.8) })
    },
  })
  await shrinking
  expect(answered + dropped).toBe(sent)
  expect(lines.filter((line) => /^frame \d+: Person 0\.95, dog/.test(line))).toHaveLength(answered)
  expect(isSwapTold()).toBe(true)
  expect((await client.workloads()).map((each) => each.id)).not.toContain(`camera-${process.pid}`)
  await rm(folder, { recursive: true })
})
