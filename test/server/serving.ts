import sharp from 'sharp'
import { afterAll } from 'vitest'
import { openRuntime, type Runtime } from '../../src/runtime/index.ts'
import { type ServeOptions, type Serving, serve } from '../../src/server/index.ts'
import { buildTinyZoo, CLASSIFIER, DETECTOR, FACES } from './tiny-zoo.ts'

export { CLASSIFIER, DETECTOR, FACES } from './tiny-zoo.ts'

/** A service on a free port over a runtime with a classifier, a detector and a face detector, all three asked for. */
export interface Service extends Serving {
  /** the runtime itself, for what a test does behind the service's back */
  readonly runtime: Runtime
}

const started: Serving[] = []
let opened: Promise<{ runtime: Runtime; close(): Promise<void> }> | undefined
afterAll(async () => {
  for (const serving of started) await serving.close()
  await (await opened)?.close()
})

/** The real runtime over a zoo of its own, one for each file of tests. */
async function open(): Promise<{ runtime: Runtime; close(): Promise<void> }> {
  const zoo = await buildTinyZoo()
  const models = [CLASSIFIER, DETECTOR, FACES]
  const runtime = await openRuntime({ zoo: zoo.dir, models }).catch(async (error) => {
    await zoo.remove()
    throw error
  })
  return {
    runtime,
    async close() {
      await runtime.close()
      await zoo.remove()
    },
  }
}

/** `wrap` may put something between runtime and service, for faults that a healthy runtime does not have. */
export async function startService(
  options: ServeOptions = {},
  wrap: (runtime: Runtime) => Runtime = (runtime) => runtime,
): Promise<Service> {
  opened ??= open()
  const { runtime } = await opened
  const serving = await serve(wrap({ ...runtime, close: async () => {} }), { port: 0, ...options })
  started.push(serving)
  return { ...serving, runtime }
}

/** A picture with something on it: `width` × `height` pixels in a named format. */
export async function pictureOf(
  format: 'jpeg' | 'png' | 'webp',
  width = 64,
  height = 48,
): Promise<Uint8Array<ArrayBuffer>> {
  const data = Buffer.alloc(3 * width * height)
  for (let i = 0; i < data.length; i++) data[i] = (i * 7 + Math.floor(i / (3 * width)) * 11) % 256
  const encoded = await sharp(data, { raw: { width, height, channels: 3 } })
    [format]()
    .toBuffer()
  return new Uint8Array(encoded)
}

export async function json(response: Response): Promise<Record<string, unknown>> {
  return (await response.json()) as Record<string, unknown>
}
