/**
 * A camera application: asks for a model with a limit on its latency, streams frames to it, tells what is seen, and
 * follows when the service swaps blocks under it.
 *
 *     npx tsx examples/camera.ts <folder of pictures> <model> [http://127.0.0.1:8080]
 *
 * The folder stands for the camera: its pictures are sent one after the other, at 10 frames in a second. With
 * BLOCKSCALE_TOKEN the token of a service on another machine is given.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { type AnswerOrFailure, type Client, createClient, RequestFailed, type SwapJson } from 'blockscale/client'

export interface CameraOptions {
  readonly model: string
  readonly maxLatencyMs: number
  readonly framesPerSecond: number
  /** called for each line that a person would read */
  readonly say: (line: string) => void
}

/** JPEG, PNG or WebP frames as a camera gives them: one after the other. */
export type Camera = AsyncIterable<Uint8Array<ArrayBuffer>>

/** @returns how many frames were answered, and how many were dropped because newer ones had come */
export async function watch(
  client: Client,
  camera: Camera,
  { model, maxLatencyMs, framesPerSecond, say }: CameraOptions,
): Promise<{ answered: number; dropped: number }> {
  // the standing wish: as long as it is there, every plan keeps to it
  const workload = `camera-${process.pid}`
  await client.putWorkload(workload, { model, maxLatencyMs, rate: framesPerSecond })
  const stop = new AbortController()
  const events = client.events(stop.signal)
  // the first event tells the plan in force: from then on no swap is missed
  await events.next()
  const swaps = tellSwaps(events, stop.signal, say)
  const stream = await client.stream([model])
  let answered = 0
  let dropped = 0
  const reading = (async () => {
    for await (const message of stream.answers()) {
      answered++
      dropped = message.dropped
      const answer = message.answers?.[model] ?? (message.error && { error: message.error })
      if (answer) say(`frame ${message.frame}: ${describe(answer)}`)
    }
  })()
  try {
    let sent = 0
    for await (const frame of camera) {
      stream.send(frame)
      sent++
      await sleep(1000 / framesPerSecond)
    }
    // the newest frame is always answered; older ones may have been dropped
    for (let i = 0; i < 1000 && answered + dropped < sent; i++) await sleep(10)
  } finally {
    stream.close()
    await reading
    stop.abort()
    await swaps
    await client.deleteWorkload(workload)
  }
  return { answered, dropped }
}

function describe(answer: AnswerOrFailure): string {
  if ('error' in answer) return `no answer: ${answer.error.message}`
  const cost = `${answer.latencyMs.toFixed(1)} ms, expected quality ${answer.quality.toFixed(3)}`
  switch (answer.task) {
    case 'classification':
      return `${answer.labels[0]?.label ?? 'nothing'} (${cost})`
    case 'detection':
    case 'face-detection':
      return `${answer.boxes.map(({ label, score }) => `${label || 'face'} ${score.toFixed(2)}`).join(', ') || 'nothing'} (${cost})`
    case 'segmentation':
      return `${answer.classes.map(({ label, share }) => `${label} ${Math.round(100 * share)} %`).join(', ')} (${cost})`
    case 'super-resolution':
      return `${answer.width}×${answer.height} (${cost})`
    case 'generic':
      return `${answer.outputs.map(({ name }) => name).join(', ')} (${cost})`
  }
}

async function tellSwaps(
  events: ReturnType<Client['events']>,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<void> {
  try {
    for await (const event of events) {
      if (event.kind !== 'swap') continue
      const { swap } = event.data as { swap: SwapJson }
      const blocks = swap.models.reduce((sum, each) => sum + each.changed.length, 0)
      say(`swapped ${blocks} blocks in ${swap.ms.toFixed(1)} ms: ${swap.why}`)
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

/** The pictures of a folder, in the order of their names. */
export async function* folderCamera(folder: string): Camera {
  const names = (await readdir(folder)).filter((name) => /\.(jpe?g|png|webp)$/i.test(name)).sort()
  for (const name of names) yield new Uint8Array(await readFile(join(folder, name)))
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [folder, model, url = 'http://127.0.0.1:8080'] = process.argv.slice(2)
  if (!folder || !model) {
    console.error('usage: camera.ts <folder of pictures> <model> [url]')
    process.exit(2)
  }
  const client = createClient(url, { token: process.env.BLOCKSCALE_TOKEN })
  try {
    const options = { model, maxLatencyMs: 100, framesPerSecond: 10, say: console.log }
    const { answered, dropped } = await watch(client, folderCamera(folder), options)
    console.log(`${answered} frames answered, ${dropped} dropped`)
  } catch (error) {
    if (!(error instanceof RequestFailed)) throw error
    console.error(`${error.message}\n${error.hint}`)
    process.exit(1)
  }
}
