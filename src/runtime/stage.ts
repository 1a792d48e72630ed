import { Deployed } from './deployed.ts'
import { isKnown, type Resident, type Residents } from './residents.ts'
import type { Scheduler } from './scheduler.ts'
import type { Gear } from './types.ts'
import type { Target, Unit } from './unit.ts'

/** What is live, and all that a change of it touches. Only one change is made at a time. */
export interface Stage {
  readonly live: Map<string, Deployed>
  readonly residents: Residents
  readonly scheduler: Scheduler
  /**
   * Chains that stay loaded, unused, beside the fused graph of the same choice, so that the next swap is again one of blocks.
   * They are given up as soon as their memory is wanted.
   */
  readonly spares: Map<string, readonly Resident[]>
  /** deployments that were replaced and still answer their last requests */
  readonly retiring: Set<Promise<void>>
}

/** Loads units of one model on the engine of its target and checks them: all of them, or none when one fails. */
export async function acquireAll(stage: Stage, target: Target, units: readonly Unit[]): Promise<Resident[]> {
  const acquired: Resident[] = []
  try {
    // One after another, so that requests of other models get their turn between two loads.
    for (const unit of units) acquired.push(await stage.residents.acquire(target.core, unit))
    await checkWhole(stage, target, units)
    return acquired
  } catch (error) {
    await releaseAll(stage, acquired)
    throw error
  }
}

/** Blocks whose borders are not known at this input size were not checked one by one: they are checked together. */
export async function checkWhole(stage: Stage, target: Target, units: readonly Unit[]): Promise<void> {
  if (units.every(({ inputs }) => isKnown(inputs))) return
  await stage.residents.check(target.core, units, target.inputs, target.outputs)
}

export async function releaseAll(stage: Stage, residents: readonly Resident[]): Promise<void> {
  await Promise.all(residents.map((resident) => stage.residents.release(resident)))
}

/** What is measured goes on where the same files answer as in the deployment before. */
export function deployed(
  stage: Stage,
  target: Target,
  gear: Gear,
  residents: readonly Resident[],
  before?: Deployed,
): Deployed {
  const same = before && before.gear === gear && sameChoice(before.target, target)
  return new Deployed(target, gear, residents, stage.residents, same ? before : undefined)
}

/** Lets a deployment that was replaced go when its last request is answered; changes that need its memory wait for that. */
export function retire(stage: Stage, old: Deployed): void {
  const gone = old.retire().finally(() => stage.retiring.delete(gone))
  stage.retiring.add(gone)
}

export async function evictSpares(stage: Stage, models: Iterable<string> = [...stage.spares.keys()]): Promise<void> {
  for (const model of [...models]) {
    const spare = stage.spares.get(model)
    stage.spares.delete(model)
    if (spare) await releaseAll(stage, spare)
  }
}

export const fits = (stage: Stage, moreBytes: number, limitBytes: number | undefined): boolean =>
  limitBytes === undefined || stage.residents.bytes + moreBytes <= limitBytes

/** Whether the same files would answer, at the same size and on the same engine. */
export const sameChoice = (a: Target, b: Target): boolean =>
  a.core === b.core &&
  a.inputSize.join() === b.inputSize.join() &&
  a.chain.length === b.chain.length &&
  a.chain.every(({ key }, i) => key === b.chain[i]!.key)
