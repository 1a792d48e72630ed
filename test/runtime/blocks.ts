import { join } from 'node:path'
import { type Engine, openSession, type PortFact, type Tensors } from '../../src/engine/index.ts'
import type { Model } from '../../src/onnx/index.ts'
import type { Deployed } from '../../src/runtime/deployed.ts'
import { Residents } from '../../src/runtime/residents.ts'
import { Scheduler, type SchedulerOptions } from '../../src/runtime/scheduler.ts'
import type { Stage } from '../../src/runtime/stage.ts'
import type { Target, Unit } from '../../src/runtime/unit.ts'
import { floats } from '../../src/tensor/index.ts'
import { adder, bytesOf } from '../engine/tiny.ts'

const port = (name: string): PortFact => ({ name, type: 'float32', dims: [1, 4] })

/** Compiles a model to a mappable file, as the builder does. */
export async function compile(path: string, model: Model): Promise<string> {
  const session = await openSession(bytesOf(model), { saveOptimizedTo: path })
  await session.release()
  return path
}

/**
 * A toy model of `length` blocks with descendants d1 … d`variants`. Block i with descendant dk adds k·10^i to its input, so that
 * the digits of an answer say which descendant of each block gave it.
 *
 * Descendant dk is planned with k·1000 bytes.
 */
export async function toy(
  folder: string,
  model: string,
  length: number,
  variants: number,
  dims: readonly (number | string)[] = [1, 4],
): Promise<Toy> {
  const units: Unit[][] = []
  for (let block = 0; block < length; block++) {
    const [input, output] = [
      block === 0 ? 'x' : `${model}.${block}`,
      block === length - 1 ? 'y' : `${model}.${block + 1}`,
    ]
    units.push([])
    for (let k = 1; k <= variants; k++) {
      const key = `${model}-b${block}-d${k}`
      const path = await compile(join(folder, `${key}.ort`), adder(input, output, k * 10 ** block, dims))
      const border = { inputs: [port(input)], outputs: [port(output)] }
      const names = { key, block: `b${block}`, descendant: `d${k}`, kind: 'original' }
      units[block]!.push({ ...names, path, fileBytes: 100 * k, memoryBytes: 1000 * k, ...border })
    }
  }
  return { model, units }
}

export interface Toy {
  readonly model: string
  readonly units: readonly (readonly Unit[])[]
}

/** The target that takes descendant `d<digit>` for each block; the first digit is block 0. */
export function targetOf({ model, units }: Toy, digits: readonly number[], more: Partial<Target> = {}): Target {
  const chain = digits.map((digit, block) => units[block]![digit - 1]!)
  const predicted = { quality: 1, latencyMs: 1, memoryBytes: chain.reduce((sum, unit) => sum + unit.memoryBytes, 0) }
  const whole = { inputs: [port('x')], outputs: [port('y')] }
  return { model, plan: `p${digits.join('')}`, inputSize: [1, 4], core: 0, predicted, ...whole, chain, ...more }
}

/** The same choice as one graph. */
export async function fusedOf(
  folder: string,
  toyModel: Toy,
  digits: readonly number[],
  memoryBytes: number,
): Promise<Unit> {
  const key = `${toyModel.model}-fused-${digits.join('')}`
  const sum = digits.reduce((total, digit, block) => total + digit * 10 ** block, 0)
  const path = await compile(join(folder, `${key}.ort`), adder('x', 'y', sum))
  const border = { inputs: [port('x')], outputs: [port('y')] }
  return { key, block: '', descendant: '', kind: 'fused', path, fileBytes: 50, memoryBytes, ...border }
}

/** What a deployment of a toy has to answer to zeros. */
export const digitsOf = (deployed: Deployed): number =>
  Object.entries(deployed.choices).reduce(
    (sum, [block, d]) => sum + Number(d.slice(1)) * 10 ** Number(block.slice(1)),
    0,
  )

export const zeros = (): Tensors => ({ x: floats([1, 4], [0, 0, 0, 0]) })

export function openStage(engines: readonly Engine[], options: Omit<SchedulerOptions, 'live'> = {}): Stage {
  const live = new Map<string, Deployed>()
  const replicas = new Map<string, readonly Deployed[]>()
  return {
    live,
    residents: new Residents(engines),
    scheduler: new Scheduler(engines, {
      live: (model) => live.get(model),
      replicas: (model) => replicas.get(model) ?? [],
      ...options,
    }),
    spares: new Map(),
    replicas,
    retiring: new Set(),
    shapes: new Map(),
  }
}

/** Asks a toy and compares the answer with the deployment that says it gave it. */
export async function ask(stage: Stage, model: string): Promise<{ plan: string; answer: number; mixed: boolean }> {
  const { deployed, result } = await stage.scheduler.submit({ model, feeds: zeros, outputs: ['y'], options: {} })
  const answer = (result.outputs.y!.data as Float32Array)[0]!
  return { plan: deployed.target.plan, answer, mixed: answer !== digitsOf(deployed) }
}
