import { asBlockscaleError, modelId } from '../base/index.ts'
import type { Size } from '../profiles/index.ts'
import { openDataset } from '../tasks/index.ts'
import { type Choices, type Manifest, openZoo, readPolish } from '../zoo/index.ts'
import { polishPlan } from './polish.ts'
import { openSplits, type PictureSource } from './splits.ts'

/** A choice for which better weights are to be made, and the pictures that they may be made from. */
export interface PolisherRequest {
  readonly zoo: string
  readonly model: string
  readonly choices: Readonly<Record<string, string>>
  readonly size: Size
  /** pictures that a build may use, for the last layer of each unit; or a folder of recent frames, for the last layers alone */
  readonly from: { readonly source: PictureSource } | { readonly frames: string }
}

export type PolisherAnswer = { readonly kept: boolean } | { readonly error: string }

/** The process that polishes: at low priority, on one core, and all that it took is given back when it ends. */
process.on('message', (request: PolisherRequest) => {
  handle(request).then(
    (kept) => process.send?.({ kept } satisfies PolisherAnswer),
    (error) => process.send?.({ error: asBlockscaleError(error).message } satisfies PolisherAnswer),
  )
})
process.on('disconnect', () => process.exit())

async function handle({ zoo: folder, model, choices: chosen, size, from }: PolisherRequest): Promise<boolean> {
  const zoo = openZoo(folder)
  const manifest = await zoo.manifest(modelId(model))
  const choices = chosen as Choices
  if ('source' in from && (await readPolish(zoo, manifest, choices, size))) return true
  const report = await polishPlan({ zoo, manifest, choices, size, ...(await picturesOf(manifest, from)), threads: 1 })
  return report.kept
}

async function picturesOf({ card }: Manifest, from: PolisherRequest['from']) {
  if ('frames' in from) return { what: 'head', items: (await openDataset(from.frames, card)).items } as const
  return { what: 'sequence', items: (await openSplits(card, from.source)).items.calibration } as const
}
