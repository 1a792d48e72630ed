import { asBlockscaleError, BlockscaleError } from '../base/index.ts'
import { Deployed } from './deployed.ts'
import type { Resident } from './residents.ts'
import {
  acquire,
  acquireAll,
  checkWhole,
  deployed,
  dropReplicas,
  evictSpares,
  fits,
  releaseAll,
  retire,
  type Stage,
  sameChoice,
} from './stage.ts'
import type { Gear, ModelSwap } from './types.ts'
import { choicesOf, fileBytesOf, type Target, type Unit } from './unit.ts'

export interface Swapped {
  /** only models and blocks that differ */
  readonly models: readonly ModelSwap[]
  /** bytes of files that were loaded, and those of each model */
  readonly bytes: number
  readonly bytesByModel: ReadonlyMap<string, number>
  readonly ms: number
  /** 'beside': the new was loaded next to the old; 'exchange': some models had to wait while their blocks were exchanged */
  readonly method: 'beside' | 'exchange'
}

/** One model's part of a swap; no target: it goes. */
interface Step {
  readonly model: string
  readonly old: Deployed | undefined
  readonly target: Target | undefined
  readonly gear: Gear
  /** what is to be loaded when it is done */
  readonly units: readonly Unit[]
}

/**
 * Makes `targets` live in place of what is.
 *
 * Where old and new fit together, the new is loaded and checked beside the old and one step flips all models; running requests finish
 * on the old. Otherwise models change one after another, each paused while its blocks are exchanged one by one. No request fails
 * in either way, and each is answered by one deployment. When anything fails, what was live before is live again.
 *
 * @throws BlockscaleError with the reason why something could not be loaded
 */
export async function swap(stage: Stage, targets: readonly Target[], limitBytes: number | undefined): Promise<Swapped> {
  const started = performance.now()
  const steps = stepsTo(stage, targets)
  const bytesByModel = new Map(steps.map((step) => [step.model, fileBytesOf(unloaded(stage, [step]))]))
  const models = steps.map(differences).filter(({ changed }) => changed.length > 0)
  const method = (await makeRoom(stage, steps, limitBytes)) ? 'beside' : 'exchange'
  if (method === 'beside') await flipTogether(stage, steps)
  else {
    // No model is paused while files are read that may be damaged.
    for (const { whole } of unloaded(stage, steps)) await whole?.()
    await changeInTurn(stage, steps, limitBytes)
  }
  await trim(stage, limitBytes)
  const bytes = [...bytesByModel.values()].reduce((total, each) => total + each, 0)
  return { models, bytes, bytesByModel, ms: performance.now() - started, method }
}

function stepsTo(stage: Stage, targets: readonly Target[]): Step[] {
  const wanted = new Set(targets.map(({ model }) => model))
  const leaving = [...stage.live.values()].filter(({ target }) => !wanted.has(target.model))
  return [
    ...leaving.map((old): Step => ({ model: old.target.model, old, target: undefined, gear: 'chain', units: [] })),
    ...targets.map((target): Step => {
      const old = stage.live.get(target.model)
      return { model: target.model, old, target, ...route(stage, old, target) }
    }),
  ]
}

/** An unchanged choice stays in its gear. A changed one runs as a chain, unless none of its blocks is loaded and it is fused already. */
function route(stage: Stage, old: Deployed | undefined, target: Target): { gear: Gear; units: readonly Unit[] } {
  if (old && sameChoice(old.target, target)) return { gear: old.gear, units: old.residents.map(({ unit }) => unit) }
  const loaded = target.chain.some(({ key }) => stage.residents.has(target.core, key))
  return target.fused && !loaded ? { gear: 'fused', units: [target.fused] } : { gear: 'chain', units: target.chain }
}

function unloaded(stage: Stage, steps: readonly Step[]): Unit[] {
  const missing = new Map<string, Unit>()
  for (const { target, units } of steps) {
    for (const unit of units) {
      if (target && !stage.residents.has(target.core, unit.key)) missing.set(`${target.core}/${unit.key}`, unit)
    }
  }
  return [...missing.values()]
}

/** Memory that the steps need beside what is loaded. */
function missingBytes(stage: Stage, steps: readonly Step[]): number {
  const units = new Map<number, Unit[]>()
  for (const { target, units: wanted } of steps) {
    if (target) units.set(target.core, [...(units.get(target.core) ?? []), ...wanted])
  }
  return [...units].reduce((sum, [core, wanted]) => sum + stage.residents.missingBytes(core, wanted), 0)
}

/** Whether everything fits beside what is loaded, once what nobody uses any more has gone. */
async function makeRoom(stage: Stage, steps: readonly Step[], limitBytes: number | undefined): Promise<boolean> {
  const enough = () => {
    const more = missingBytes(stage, steps)
    return more === 0 || fits(stage, more, limitBytes)
  }
  if (enough()) return true
  await Promise.all(stage.retiring)
  if (enough()) return true
  if (stage.replicas.size > 0) {
    dropReplicas(stage)
    await Promise.all(stage.retiring)
    if (enough()) return true
  }
  const needed = new Set(steps.flatMap(({ units }) => units.map(({ key }) => key)))
  for (const [model, spare] of stage.spares) {
    if (!spare.some(({ unit }) => needed.has(unit.key))) await evictSpares(stage, [model])
  }
  return enough()
}

/** A limit that was lowered is kept when the swap is reported, though last requests still run on what was replaced. */
async function trim(stage: Stage, limitBytes: number | undefined): Promise<void> {
  if (fits(stage, 0, limitBytes)) return
  dropReplicas(stage)
  await Promise.all(stage.retiring)
  if (fits(stage, 0, limitBytes)) return
  await evictSpares(stage)
  for (const [model, now] of stage.live) {
    if (fits(stage, 0, limitBytes)) return
    await shrink(stage, model, now)
  }
}

/** Loads again what keeps memory of a larger input size. */
async function shrink(stage: Stage, model: string, now: Deployed): Promise<void> {
  if (now.residents.every(({ core, unit }) => stage.residents.bytesOf(core, unit.key) <= unit.memoryBytes)) return
  const { target, gear } = now
  await stage.scheduler.pause(model)
  try {
    const step = { model, old: now, target, gear, units: now.residents.map(({ unit }) => unit) }
    stage.live.set(model, await exchange(stage, now, step, target))
  } catch {
    // What could not be loaded again is loaded as before: the swap itself is done.
  } finally {
    stage.scheduler.resume(model)
  }
}

async function flipTogether(stage: Stage, steps: readonly Step[]): Promise<void> {
  const ready = new Map<Step, Resident[]>()
  try {
    for (const step of steps) {
      if (step.target) ready.set(step, await acquireAll(stage, step.target, step.units))
    }
  } catch (error) {
    for (const residents of ready.values()) await releaseAll(stage, residents)
    throw error
  }
  for (const [{ model, old, target, gear }, residents] of ready) {
    stage.live.set(model, deployed(stage, target!, gear, residents, old))
  }
  for (const { model, old, target } of steps) {
    if (old && target) replaced(stage, model, old, target)
    if (old && !(target && sameChoice(old.target, target))) dropReplicas(stage, [model])
  }
  for (const model of [...stage.replicas.keys()]) await renew(stage, model)
  await letLeave(stage, steps)
  stage.scheduler.pump()
}

/** Deploys what runs beside a model anew, for the plan in force. Everything of it is loaded. */
async function renew(stage: Stage, model: string): Promise<void> {
  const now = stage.live.get(model)
  const before = stage.replicas.get(model) ?? []
  if (!now) return dropReplicas(stage, [model])
  const renewed: Deployed[] = []
  try {
    for (const { target, gear, residents } of before) {
      const again = { ...now.target, core: target.core }
      const units = residents.map(({ unit }) => unit)
      renewed.push(new Deployed(again, gear, await acquireAll(stage, again, units), stage.residents, now.latencies))
    }
    stage.replicas.set(model, renewed)
    for (const replica of before) retire(stage, replica)
  } catch {
    // A help that cannot be had is no reason to call a swap failed.
    for (const replica of renewed) retire(stage, replica)
    dropReplicas(stage, [model])
  }
}

/** A spare chain serves only the choice that it belongs to and swaps away from it: after a swap it has done its work. */
function replaced(stage: Stage, model: string, old: Deployed, target: Target): void {
  retire(stage, old)
  const spare = stage.spares.get(model)
  if (!spare || sameChoice(old.target, target)) return
  stage.spares.delete(model)
  const gone = releaseAll(stage, spare).finally(() => stage.retiring.delete(gone))
  stage.retiring.add(gone)
}

/** Models that nobody asks for any more answer what was accepted, then go. */
async function letLeave(stage: Stage, steps: readonly Step[]): Promise<void> {
  for (const { model, old, target } of steps) {
    if (target || !old) continue
    await stage.scheduler.drained(model)
    stage.live.delete(model)
    dropReplicas(stage, [model])
    // No request runs on it any more, so that this waits for its engine alone.
    await retire(stage, old)
    await evictSpares(stage, [model])
  }
}

/** Model by model, those that give memory back first, so that the sum only grows into what was given back. */
async function changeInTurn(stage: Stage, steps: readonly Step[], limitBytes: number | undefined): Promise<void> {
  dropReplicas(stage)
  await evictSpares(stage)
  await letLeave(stage, steps)
  await Promise.all(stage.retiring)
  const growth = ({ old, units }: Step) => sum(units) - sum((old?.residents ?? []).map(({ unit }) => unit))
  const turns = steps.filter(({ target }) => target).sort((a, b) => growth(a) - growth(b))
  const done: Step[] = []
  try {
    for (const step of turns) {
      await changeOne(stage, step, limitBytes)
      done.push(step)
    }
  } catch (error) {
    await goBack(stage, done, limitBytes)
    await bringBack(stage, steps)
    throw error
  }
}

async function changeOne(stage: Stage, step: Step, limitBytes: number | undefined): Promise<void> {
  const { model, target, gear, units } = step
  const old = stage.live.get(model)
  if (!target) return
  if (!old || fits(stage, stage.residents.missingBytes(target.core, units), limitBytes)) {
    const residents = await acquireAll(stage, target, units)
    stage.live.set(model, deployed(stage, target, gear, residents, old))
    if (old) retire(stage, old)
    await Promise.all(stage.retiring)
    return
  }
  await stage.scheduler.pause(model)
  try {
    stage.live.set(model, await exchange(stage, old, step, target))
  } finally {
    stage.scheduler.resume(model)
  }
}

/** Replaces the blocks of a paused model one by one. Fails with the old ones loaded again. */
async function exchange(stage: Stage, old: Deployed, { gear, units }: Step, target: Target): Promise<Deployed> {
  await old.idle()
  const wanted = new Map(units.map((unit) => [unit.key, unit]))
  const moved = old.target.core !== target.core
  // What is wanted at another input size takes other memory.
  const surplus = old.residents.filter(
    ({ core, unit: { key } }) => moved || stage.residents.bytesOf(core, key) !== wanted.get(key)?.memoryBytes,
  )
  const kept = old.residents.filter((resident) => !surplus.includes(resident))
  const missing = units.filter(({ key }) => !kept.some(({ unit }) => unit.key === key))
  const loaded: Resident[] = []
  const released = new Set<Resident>()
  try {
    for (const [out, into] of pairs(surplus, missing)) {
      if (out) {
        released.add(out)
        await stage.residents.release(out)
      }
      if (into) loaded.push(await acquire(stage, target, into))
    }
    await checkWhole(stage, target, units)
  } catch (error) {
    await releaseAll(stage, loaded)
    const again = await reload(stage, old, released)
    stage.live.set(old.target.model, deployed(stage, old.target, old.gear, again))
    throw error
  }
  const inOrder = units.map((unit) => [...kept, ...loaded].find((resident) => resident.unit.key === unit.key)!)
  return deployed(stage, target, gear, inOrder)
}

/** What goes with what comes. Blocks of one place go together, those that give memory back first; otherwise all goes first. */
function pairs(surplus: readonly Resident[], missing: readonly Unit[]): [Resident | undefined, Unit | undefined][] {
  const byBlock = new Map(surplus.map((resident) => [resident.unit.block, resident]))
  if (surplus.length !== missing.length || !missing.every(({ block }) => byBlock.has(block))) {
    return [
      ...surplus.map((resident): [Resident, undefined] => [resident, undefined]),
      ...missing.map((unit): [undefined, Unit] => [undefined, unit]),
    ]
  }
  return missing
    .map((unit): [Resident, Unit] => [byBlock.get(unit.block)!, unit])
    .sort(([outA, inA], [outB, inB]) => delta(outA, inA) - delta(outB, inB))
}

const delta = (out: Resident, into: Unit): number => into.memoryBytes - out.unit.memoryBytes

async function reload(stage: Stage, old: Deployed, released: ReadonlySet<Resident>): Promise<Resident[]> {
  const residents: Resident[] = []
  for (const resident of old.residents) {
    residents.push(released.has(resident) ? await stage.residents.acquire(resident.core, resident.unit) : resident)
  }
  return residents
}

/** Undoes the models that had changed already, the last one first. */
async function goBack(stage: Stage, done: readonly Step[], limitBytes: number | undefined): Promise<void> {
  for (const { model, old } of [...done].reverse()) {
    const now = stage.live.get(model)
    if (!now) continue
    if (!old) {
      stage.live.delete(model)
      retire(stage, now)
      continue
    }
    const units = old.residents.map(({ unit }) => unit)
    await changeOne(stage, { model, old: now, target: old.target, gear: old.gear, units }, limitBytes)
  }
  await Promise.all(stage.retiring)
}

/** Loads models again that had been let go for a swap that then failed. */
async function bringBack(stage: Stage, steps: readonly Step[]): Promise<void> {
  for (const { model, old, target } of steps) {
    if (target || !old || stage.live.has(model)) continue
    const units = old.residents.map(({ unit }) => unit)
    stage.live.set(model, deployed(stage, old.target, old.gear, await acquireAll(stage, old.target, units)))
  }
}

function differences({ model, old, target }: Step): ModelSwap {
  const before = old?.choices ?? {}
  const after = target ? choicesOf(target.chain) : {}
  const blocks = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  const changed = blocks
    .map((block) => ({ block, from: before[block] ?? null, to: after[block] ?? null }))
    .filter(({ from, to }) => from !== to)
  return { model, changed }
}

const sum = (units: readonly Unit[]): number => units.reduce((total, { memoryBytes }) => total + memoryBytes, 0)

/** Runs the fused form of a choice in place of its chain, where both or at least the fused form alone fit. */
export async function shiftToFused(
  stage: Stage,
  model: string,
  fused: Unit,
  limitBytes: number | undefined,
): Promise<'shifted' | 'does-not-fit'> {
  const old = stage.live.get(model)
  if (!old) throw new BlockscaleError('MODEL_UNKNOWN', `${model} is not loaded`)
  const target: Target = { ...old.target, fused }
  const { core } = target
  const fitsBeside = () => fits(stage, stage.residents.missingBytes(core, [fused]), limitBytes)
  if (!fitsBeside()) {
    dropReplicas(stage)
    await Promise.all(stage.retiring)
  }
  if (fitsBeside()) {
    const residents = await acquireAll(stage, target, [fused])
    const spare = await acquireAll(stage, target, target.chain)
    stage.live.set(model, deployed(stage, target, 'fused', residents))
    await evictSpares(stage, [model])
    stage.spares.set(model, spare)
    retire(stage, old)
    return 'shifted'
  }
  const chainBytes = sum(old.residents.map(({ unit }) => unit))
  if (!fits(stage, fused.memoryBytes - chainBytes, limitBytes)) return 'does-not-fit'
  await stage.scheduler.pause(model)
  try {
    const step: Step = { model, old, target, gear: 'fused', units: [fused] }
    stage.live.set(model, await exchange(stage, old, step, target))
    return 'shifted'
  } catch (error) {
    throw asBlockscaleError(error)
  } finally {
    stage.scheduler.resume(model)
  }
}
