import { asBlockscaleError, modelId } from '../base/index.ts'
import type { Size } from '../profiles/index.ts'
import { type Choices, openZoo, readPolish } from '../zoo/index.ts'
import { polishPlan } from './polish.ts'
import { openSplits, type PictureSource } from './splits.ts'

/** A choice for which better weights are to be made, and the pictures that they may be made from. */
export interface PolisherRequest {
  readonly zoo: string
  readonly model: string
  readonly choices: Readonly<Record<string, string>>
  readonly size: Size
  readonly source: PictureSource
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

async function handle({ zoo: folder, model, choices, size, source }: PolisherRequest): Promise<boolean> {
  const zoo = openZoo(folder)
  const manifest = await zoo.manifest(modelId(model))
  if (await readPolish(zoo, manifest, choices as Choices, size)) return true
  const { items } = await openSplits(manifest.card, source)
  const report = await polishPlan({
    zoo,
    manifest,
    choices: choices as Choices,
    size,
    items: items.calibration,
    what: 'sequence',
    threads: 1,
  })
  return report.kept
}
