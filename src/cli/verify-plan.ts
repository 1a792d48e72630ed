import type { Progress } from '../base/index.ts'
import type { Plan } from '../optimizer/index.ts'
import { fusePolished, fuseToBytes, openSplits, type PictureSource } from '../pipeline/index.ts'
import { type ProfileStore, thisDevice } from '../profiles/index.ts'
import { type Choices, type Manifest, readPolish, type Zoo } from '../zoo/index.ts'
import { judge } from './judge.ts'
import { knownPictures } from './pictures.ts'

export interface VerifyOptions {
  readonly zoo: Zoo
  readonly store: ProfileStore
  /** in place of the pictures that the build used */
  readonly images?: string | undefined
  readonly progress: Progress
  /** what the plan was asked for, to be written down with it */
  readonly objective: string
  readonly memoryBytes?: number | undefined
  readonly cores?: number | undefined
}

/**
 * Measures every model of a plan as a fused whole on its report pictures, on which no descendant was made or chosen. What comes
 * of it is kept in the profiles: as a combination beside its prediction, and as a plan.
 *
 * @throws BlockscaleError PICTURES_MISSING
 */
export async function verifyPlan(
  plan: Plan,
  manifests: ReadonlyMap<string, Manifest>,
  options: VerifyOptions,
): Promise<Plan> {
  const { zoo, store, progress } = options
  const device = thisDevice()
  store.saveDevice(device)
  const verified = []
  for (const planned of plan.models) {
    const manifest = manifests.get(planned.model)!
    const { card, model } = manifest
    const size = planned.inputSize ?? manifest.sizes[0]!
    const choices = Object.fromEntries(planned.choices.map(({ block, descendant }) => [block, descendant])) as Choices
    const polish = planned.polished && (await readPolish(zoo, manifest, choices, size))
    const source: PictureSource =
      options.images === undefined ? await knownPictures(zoo, manifest) : { images: options.images, folder: '.' }
    const { items, labelled } = await openSplits(card, source)
    const subject = {
      model,
      card,
      size,
      original: await zoo.load(model, manifest.original),
      variant: polish ? await fusePolished(zoo, manifest, polish) : await fuseToBytes(zoo, manifest, choices),
    }
    const judged = await judge(subject, items.report, labelled, progress)
    const figures = { quality: judged.quality.value, latencyMs: judged.latencyMs, memoryBytes: judged.memoryBytes }
    const { predicted } = planned
    // What is said of a combination is said of its descendants as they are, from which predictions are made.
    if (!polish)
      store.saveCombinations([
        {
          model,
          size,
          device: device.key,
          split: 'report',
          metric: judged.quality.metric,
          choices,
          predicted,
          measured: { ...figures, fidelity: judged.fidelity.value, divergence: judged.divergence },
          pictures: judged.images,
          why: 'verify',
          measuredAt: Date.now(),
        },
      ])
    verified.push({ planned: { ...planned, verified: figures }, model, size, choices, predicted, figures })
  }
  store.savePlan({
    at: Date.now(),
    objective: options.objective,
    memoryLimitBytes: options.memoryBytes,
    coresLimit: options.cores,
    status: plan.status,
    memoryBytes: plan.totals?.memoryBytes,
    cores: plan.totals?.cores,
    gap: plan.gap,
    solveMs: plan.solveMs,
    why: 'plan --verify',
    models: verified.map(({ model, size, choices, predicted, figures }) => ({
      model,
      size,
      choices,
      predicted,
      verified: figures,
    })),
  })
  return { ...plan, models: verified.map(({ planned }) => planned) }
}
