import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { BlockscaleError } from '../base/index.ts'
import type { Readings } from './device.ts'

const share = z.number().min(0).max(1).optional()

const traceSchema = z
  .array(
    z.strictObject({
      /** milliseconds from the start; the readings hold until the next entry */
      atMs: z.number().nonnegative(),
      memoryForModelsBytes: z.number().nonnegative().optional(),
      cores: z.number().positive().optional(),
      memoryPressure: share,
      cpuPressure: share,
      steal: share,
      temperatureC: z.number().optional(),
      battery: share,
    }),
  )
  .min(1)

export type Trace = z.output<typeof traceSchema>

/**
 * Reads a trace of conditions, to be replayed in place of the device.
 *
 *     [{ "atMs": 0, "memoryForModelsBytes": 64e6 }, { "atMs": 5000, "memoryForModelsBytes": 16e6, "cores": 1 }]
 *
 * @throws BlockscaleError NOT_FOUND, USAGE naming the entry
 */
export async function readTrace(path: string): Promise<Trace> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new BlockscaleError('NOT_FOUND', `there is no trace ${path}`, undefined, { cause })
  }
  try {
    return traceSchema.parse(JSON.parse(text)).sort((a, b) => a.atMs - b.atMs)
  } catch (cause) {
    const what = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message
    throw new BlockscaleError(
      'USAGE',
      `${path} is no trace: ${what}`,
      'Write a list of {"atMs": …, "memoryForModelsBytes": …}.',
    )
  }
}

/** What a trace says at a time after its start. */
export function traceAt(trace: Trace, ms: number): Readings {
  const entry = trace.findLast(({ atMs }) => atMs <= ms) ?? trace[0]!
  const { atMs: _, ...readings } = entry
  return readings
}
