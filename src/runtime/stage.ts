import { asBlockscaleError, BlockscaleError } from '../base/index.ts'
import type { PortFact, Shapes } from '../engine/index.ts'
import { DescendantDamaged } from './damage.ts'
import { Deployed } from './deployed.ts'
import { Latencies } from './latencies.ts'
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
  /** the same choice as what is live of a model, on other engines; given up as soon as their memory is wanted */
  readonly replicas: Map<string, readonly Deployed[]>
  /** deployments that were replaced and still answer their last requests */
  readonly retiring: Set<Promise<void>>
  /** shapes of the values between blocks, by model and input size, once a whole chain has run */
  readonly shapes: Map<string, Shapes>
}

/** Loads units of one model on the engine of its target and checks them: all of them, or none when one fails. */
export async function acquireAll(stage: Stage, target: Target, units: readonly Unit[]): Promise<Resident[]> {
  const acquired: Resident[] = []
  try {
    // The next files are compared with their checksums while one is loaded.
    let ahead = Promise.resolve<unknown>(undefined)
    for (const { whole } of units) ahead = ahead.then(whole)
    ahead.catch(() => {}) // the load of that unit says it
    // One after another, so that requests of other models get their turn between two loads.
    for (const unit of units) acquired.push(await acquire(stage, target, unit))
    await checkWhole(stage, target, units)
    return acquired
  } catch (error) {
    await releaseAll(stage, acquired)
    throw error
  }
}

/** Loads one unit of a model, and runs it on zeros of the shapes that its border is known to have. */
export function acquire(stage: Stage, target: Target, unit: Unit): Promise<Resident> {
  return stage.residents
    .acquire(target.core, completed(stage, target, unit))
    .catch((thrown) => refuse(target, thrown, unit))
}

/**
 * Runs a chain on zeros where blocks could not be checked one by one, because the shapes at their borders were not known at this input
 * size. They are from then on. Those that share a window of memory are checked here, each by itself.
 */
export async function checkWhole(stage: Stage, target: Target, units: readonly Unit[]): Promise<void> {
  for (const unit of units.map((each) => completed(stage, target, each))) {
    if (unit.window && isKnown(unit.inputs)) {
      await stage.residents.check(target.core, [unit], unit.inputs, unit.outputs)
    }
  }
  if (units.every((unit) => isKnown(completed(stage, target, unit).inputs))) return
  const checking = stage.residents.check(target.core, units, target.inputs, target.outputs)
  const shapes = await checking.catch((thrown) => refuse(target, thrown))
  if (shapes) stage.shapes.set(sized(target), shapes)
}

/** Whose fault it is: an engine knows files and nothing of models. */
function refuse({ model }: Target, thrown: unknown, unit?: Unit): never {
  if (thrown instanceof DescendantDamaged) throw thrown
  const { code, message, hint } = asBlockscaleError(thrown)
  const what = unit?.block ? `${unit.descendant} of block ${unit.block} of ${model}` : model
  throw new BlockscaleError(code, `${what} cannot be loaded: ${message}`, hint, { cause: thrown })
}

function completed(stage: Stage, target: Target, unit: Unit): Unit {
  const shapes = stage.shapes.get(sized(target))
  if (!shapes || isKnown([...unit.inputs, ...unit.outputs])) return unit
  const complete = (ports: readonly PortFact[]) =>
    ports.map((port) => ({ ...port, dims: shapes[port.name] ?? port.dims }))
  return { ...unit, inputs: complete(unit.inputs), outputs: complete(unit.outputs) }
}

const sized = ({ model, inputSize }: Target): string => `${model} ${inputSize.join('x')}`

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
  return new Deployed(target, gear, residents, stage.residents, same ? new Latencies(before.latencies) : undefined)
}

/**
 * Lets a deployment that was replaced go when its last request is answered; changes that need its memory wait for that.
 *
 * @returns what resolves when it has gone
 */
export function retire(stage: Stage, old: Deployed): Promise<void> {
  const gone = old.retire().finally(() => stage.retiring.delete(gone))
  stage.retiring.add(gone)
  return gone
}

export async function evictSpares(stage: Stage, models: Iterable<string> = [...stage.spares.keys()]): Promise<void> {
  for (const model of [...models]) {
    const spare = stage.spares.get(model)
    stage.spares.delete(model)
    if (spare) await releaseAll(stage, spare)
  }
}

/** Lets go what runs on other engines beside what is live; last requests on it are answered. */
export function dropReplicas(stage: Stage, models: Iterable<string> = [...stage.replicas.keys()]): void {
  for (const model of [...models]) {
    const replicas = stage.replicas.get(model) ?? []
    stage.replicas.delete(model)
    for (const replica of replicas) retire(stage, replica)
  }
}

export const fits = (stage: Stage, moreBytes: number, limitBytes: number | undefined): boolean =>
  limitBytes === undefined || stage.residents.bytes + moreBytes <= limitBytes

/** Whether the same files would answer, at the same size and on the same engine. */
export const sameChoice = (a: Target, b: Target): boolean => a.core === b.core && sameFiles(a, b)

/** Whether the same files would answer, at the same size. */
export const sameFiles = (a: Target, b: Target): boolean =>
  a.inputSize.join() === b.inputSize.join() &&
  a.chain.length === b.chain.length &&
  a.chain.every(({ key }, i) => key === b.chain[i]!.key)
