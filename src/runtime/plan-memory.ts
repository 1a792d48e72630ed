import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type Log, packageVersion, sha256, writeFileAtomic } from '../base/index.ts'
import type { Plan } from '../optimizer/index.ts'
import type { Manifest } from '../zoo/index.ts'
import type { Budget } from './types.ts'
import type { ChosenDescendant } from './unit-files.ts'
import type { ModelWish } from './wishes.ts'

/** A plan without what can be read again: the manifests. */
export interface KeptPlan {
  readonly plan: Plan
  /** by model */
  readonly chosen: ReadonlyMap<string, readonly ChosenDescendant[]>
}

/** A plan of a start, and where there is one that is read much sooner and not much worse, that one to begin with. */
export interface KeptStart extends KeptPlan {
  readonly first?: KeptPlan | undefined
}

/** So many plans are kept, the last made first: wishes that come back find theirs. */
const KEPT = 8

/**
 * The plans with which the runtime was last started, each with the checksum of all that it followed from, in `plans.json` of the device
 * folder. A start that finds its own neither fits predictions nor solves. Beside it may lie one to begin with,
 * for files that are long in being read.
 *
 * A plan that streams follows from the speed of the disk as well, which is measured once and lies in the same folder.
 */
export class PlanMemory {
  readonly #path: string
  readonly #log: Log
  #writing: Promise<void> = Promise.resolve()

  constructor(folder: string, log: Log) {
    this.#path = join(folder, 'plans.json')
    this.#log = log
  }

  /** Nothing where no plan is kept that followed from the same; whatever is wrong with the file, plans are made anew. */
  async recall(
    from: string,
    manifests: ReadonlyMap<string, Manifest>,
    workers: number,
  ): Promise<KeptStart | undefined> {
    const found = (await this.#read()).find((each) => each.from === from)
    if (!found || !isOf(found, manifests, workers)) return undefined
    const { first } = found
    const begins = first && isOf(first, manifests, workers) ? { first: fromWritten(first) } : {}
    return { ...fromWritten(found), ...begins }
  }

  /** Done in the background: who waits for a plan does not wait for the disk. */
  keep(from: string, { plan, chosen, first }: KeptStart): void {
    this.#writing = this.#writing
      .then(async () => {
        const known = await this.#read()
        const begins = first && { first: { plan: first.plan, chosen: [...first.chosen] } }
        const entry: Entry = { from, plan, chosen: [...chosen], ...begins }
        const plans = [entry, ...known.filter((each) => each.from !== from)].slice(0, KEPT)
        await writeFileAtomic(this.#path, `${JSON.stringify({ checksum: checksumOf(plans), plans })}\n`)
      })
      .catch((error: Error) => this.#log.warn({ error: error.message }, 'a plan cannot be kept for the next start'))
  }

  /** Waits for what is being written. */
  close(): Promise<void> {
    return this.#writing
  }

  async #read(): Promise<readonly Entry[]> {
    try {
      const { checksum, plans } = JSON.parse(await readFile(this.#path, 'utf8'))
      return checksum === checksumOf(plans) ? (fileSchema.parse(plans) as Entry[]) : []
    } catch {
      return []
    }
  }
}

interface Written {
  readonly plan: Plan
  readonly chosen: readonly [string, readonly ChosenDescendant[]][]
}

interface Entry extends Written {
  readonly from: string
  readonly first?: Written | undefined
}

const fromWritten = ({ plan, chosen }: Written): KeptPlan => ({ plan, chosen: new Map(chosen) })

/**
 * The checksum of all that a plan follows from while nothing is live.
 *
 * @param profiles by model: what changes with its profiles
 */
export function followedFrom(
  request: { readonly wishes: readonly ModelWish[]; readonly budget: Budget; readonly workers: number },
  manifests: ReadonlyMap<string, Manifest>,
  profiles: ReadonlyMap<string, string>,
): string {
  const { wishes, budget, workers } = request
  const { memoryBytes, cores } = budget
  return sha256(
    // Another version may predict and solve in another way.
    JSON.stringify([packageVersion, wishes, [memoryBytes, cores], workers, [...manifests.values()], [...profiles]]),
  )
}

const checksumOf = (plans: unknown): string => sha256(JSON.stringify(plans))

/** Whether everything that it names is there, so that no file, however it came about, can ask for what is not. */
function isOf({ plan, chosen }: Written, manifests: ReadonlyMap<string, Manifest>, workers: number): boolean {
  const offers = ({ blocks }: Manifest, choices: readonly { block: string; descendant: string }[]) =>
    blocks.length === choices.length &&
    blocks.every(({ id, descendants }) => {
      const choice = choices.find(({ block }) => block === id)
      return choice !== undefined && descendants.some((each) => each.id === choice.descendant)
    })
  const all = new Map(chosen)
  return (
    plan.models.length === manifests.size &&
    [...manifests].every(([model, manifest]) => {
      const planned = plan.models.find((each) => each.model === model)
      const size = planned?.inputSize
      return (
        planned !== undefined &&
        offers(manifest, planned.choices) &&
        offers(manifest, all.get(model) ?? []) &&
        manifest.sizes.some((each) => each.join() === size?.join()) &&
        (planned.core ?? 0) < workers
      )
    })
  )
}

const amount = z.number().nonnegative()
const figures = { quality: z.number(), latencyMs: amount, memoryBytes: amount }
const plannedSchema = z.strictObject({
  model: z.string(),
  variant: z.string().optional(),
  inputSize: z.tuple([z.int().positive(), z.int().positive()]),
  choices: z.array(z.strictObject({ block: z.string(), descendant: z.string(), streamed: z.literal(true).optional() })),
  streaming: z.strictObject({ windowBytes: amount, readBytesPerSecond: z.number().positive() }).optional(),
  predicted: z.strictObject({ ...figures, qualityLow: z.number().optional() }),
  core: z.int().nonnegative().optional(),
})
const planSchema = z.strictObject({
  status: z.enum(['optimal', 'feasible']),
  objective: z.number().optional(),
  bound: z.number().optional(),
  gap: z.number().optional(),
  solveMs: amount,
  models: z.array(plannedSchema),
  totals: z
    .strictObject({
      memoryBytes: amount,
      cores: amount,
      swapMs: amount.optional(),
      swapBytes: amount.optional(),
    })
    .optional(),
  binding: z.array(z.string()),
})
const chosenSchema = z.strictObject({
  block: z.string(),
  descendant: z.string(),
  memoryBytes: z.number(),
  window: z.strictObject({ bytes: amount, isPassing: z.boolean() }).optional(),
})
const writtenSchema = z.strictObject({
  plan: planSchema,
  chosen: z.array(z.tuple([z.string(), z.array(chosenSchema)])),
})
const fileSchema = z.array(writtenSchema.extend({ from: z.string(), first: writtenSchema.optional() }))
