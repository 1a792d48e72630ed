import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { BlockscaleError, writeFileAtomic } from '../base/index.ts'
import type { Budget, Workload } from './types.ts'

const positive = z.number().finite().positive()

export const workloadSchema = z
  .object({
    model: z.string().min(1),
    maxLatencyMs: positive.optional(),
    rate: z.number().finite().nonnegative().optional(),
    weight: positive.optional(),
    minQuality: z.number().finite().optional(),
  })
  .strict()

export const budgetSchema = z.object({ memoryBytes: positive.optional(), cores: positive.optional() }).strict()

const fileSchema = z
  .object({ format: z.literal(1), budget: budgetSchema, workloads: z.record(z.string(), workloadSchema) })
  .strict()

/** What applications asked for and what there is for it. */
export interface Wishes {
  readonly budget: Budget
  readonly workloads: ReadonlyMap<string, Workload>
}

/** What all workloads of one model together ask for. */
export interface ModelWish {
  readonly model: string
  readonly maxLatencyMs?: number | undefined
  readonly rate: number
  readonly weight: number
  readonly minQuality?: number | undefined
}

const pathIn = (zoo: string): string => join(zoo, 'workloads.json')

/**
 * Reads what was wished for before the last stop.
 *
 * @throws BlockscaleError ZOO_DAMAGED when the file is there and cannot be understood: better than to forget what applications asked for
 */
export async function readWishes(zoo: string): Promise<Wishes> {
  let text: string
  try {
    text = await readFile(pathIn(zoo), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { budget: {}, workloads: new Map() }
    throw error
  }
  try {
    const { budget, workloads } = fileSchema.parse(JSON.parse(text))
    return { budget, workloads: new Map(Object.entries(workloads)) }
  } catch (cause) {
    const hint = 'Mend it or remove it; without it the runtime starts with no workloads.'
    throw new BlockscaleError('ZOO_DAMAGED', `${pathIn(zoo)} is not what was written there`, hint, { cause })
  }
}

export async function writeWishes(zoo: string, { budget, workloads }: Wishes): Promise<void> {
  const json = { format: 1, budget, workloads: Object.fromEntries(workloads) }
  const text = `${JSON.stringify(json, null, 2)}\n`
  // A start with the same wishes does not wait for the disk.
  if ((await readFile(pathIn(zoo), 'utf8').catch(() => '')) !== text) await writeFileAtomic(pathIn(zoo), text)
}

/**
 * One wish for each model: its strictest latency and quality, the sum of the rates, the sum of the weights.
 *
 * In the order of the models' names, so that equal wishes are equal problems.
 */
export function wishesByModel(workloads: Iterable<Workload>): ModelWish[] {
  const wishes = new Map<string, ModelWish>()
  for (const workload of workloads) {
    const other = wishes.get(workload.model)
    wishes.set(workload.model, {
      model: workload.model,
      maxLatencyMs: least(other?.maxLatencyMs, workload.maxLatencyMs),
      rate: (other?.rate ?? 0) + (workload.rate ?? 0),
      weight: (other?.weight ?? 0) + (workload.weight ?? 1),
      minQuality: greatest(other?.minQuality, workload.minQuality),
    })
  }
  return [...wishes.values()].sort((a, b) => (a.model < b.model ? -1 : 1))
}

/** The smaller of two limits of which either may be absent. */
export const least = (a: number | undefined, b: number | undefined) =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b)
const greatest = (a: number | undefined, b: number | undefined) =>
  a === undefined ? b : b === undefined ? a : Math.max(a, b)

/** @throws BlockscaleError USAGE naming the field */
export function checkWish<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const faults = parsed.error.issues.map(({ path, message }) => `${path.join('.') || what}: ${message}`)
  throw new BlockscaleError('USAGE', `not a valid ${what}: ${faults.join('; ')}`)
}
