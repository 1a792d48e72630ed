import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { seededRandom, sha256 } from '../src/base/index.ts'
import { openSession, type PortFact, type Tensors } from '../src/engine/index.ts'
import {
  type BlockGraph,
  compose,
  cut,
  type Model,
  type Normalised,
  normalise,
  proposeCuts,
  type Runner,
  readModel,
  writeModel,
} from '../src/onnx/index.ts'
import { compileUnit, compileWhole } from '../src/runtime/compile-unit.ts'
import { bordersOf, eligibleValues } from '../src/runtime/layout.ts'
import { measureLayout } from '../src/runtime/measure-layout.ts'
import type { Target, Unit } from '../src/runtime/unit.ts'
import { floats, type Tensor } from '../src/tensor/index.ts'

/** A model of the assets folder, cut at the default places, with two descendants of each block, and everything compiled. */
export interface BenchModel {
  readonly name: string
  /** the file that came in */
  readonly file: string
  /** that file, compiled */
  readonly uncut: Unit
  /** by block: the original, and one whose weights are a little smaller, so that its answers differ */
  readonly units: readonly (readonly Unit[])[]
  readonly inputs: readonly PortFact[]
  readonly outputs: readonly PortFact[]
  readonly size: readonly [number, number]
  /** whether the first size of all that goes in and comes out is free */
  readonly takesBatches: boolean
  /** border values that are handed over in blocked layout, of those for which it is possible */
  readonly blocked: readonly [number, number]
}

const run: Runner = async (model, feeds, outputs) => {
  const known = new Map(model.graph.outputs.map((output) => [output.name, output]))
  const wanted = outputs.map((name) => known.get(name) ?? { name })
  const recording = { ...model, graph: { ...model.graph, outputs: wanted } }
  const session = await openSession(writeModel(recording), { optimization: 'disabled' })
  try {
    return await session.run(feeds, outputs)
  } finally {
    await session.release()
  }
}

export async function prepare(folder: string, assets: string, name: string): Promise<BenchModel> {
  const file = join(assets, 'models', `${name}.onnx`)
  mkdirSync(join(folder, name), { recursive: true })
  const source = readModel(readFileSync(file))
  const normalised = await normalise(source, run)
  const blocks = cut(normalised, proposeCuts(normalised))
  const { graph } = normalised.model
  const inputs = graph.inputs.map((value) => port(value.name, normalised))
  const outputs = graph.outputs.map((value) => port(value.name, normalised))
  const whole = { block: '', descendant: '', kind: 'whole', inputs, outputs }
  const uncut = await compiled(join(folder, name, 'uncut.ort'), readFileSync(file), whole)
  // The layout at the borders is chosen as the runtime chooses it: by running the originals.
  const ends = (ports: readonly PortFact[]) => ports.map(({ name, type, dims }) => ({ name, fact: { type, dims } }))
  const values = eligibleValues({ inputs: ends(inputs), outputs: ends(outputs), blocks })
  const originals = blocks.map((block, index) => ({
    index,
    bytes: writeModel(block.model),
    borders: bordersOf(block, values),
    ports: ports(block, block.inputs),
  }))
  const layout = await measureLayout(values, originals, async ({ index, bytes, ports: given }, borders) => {
    const path = join(
      folder,
      name,
      `b${index}-${borders.inputs.size + borders.outputs.size > 0 ? 'blocked' : 'plain'}.ort`,
    )
    if (!existsSync(path)) await compileUnit(bytes, path, borders, given)
    return path
  })
  const units: Unit[][] = []
  for (const [index, block] of blocks.entries()) {
    units.push([])
    for (const [variant, model] of [block.model, weakened(block.model)].entries()) {
      const path = join(folder, name, `b${index}-${variant}.ort`)
      const border = { inputs: ports(block, block.inputs), outputs: ports(block, block.outputs) }
      const names = { block: `b${index}`, descendant: `d${variant}`, kind: variant ? 'prune' : 'original' }
      const bytes = writeModel(model)
      writeFileSync(onnxOf(path), bytes)
      await compileUnit(bytes, path, bordersOf(block, layout), border.inputs)
      units[index]!.push(unitAt(path, bytes, { ...names, ...border }))
    }
  }
  const [height, width] = (inputs[0]?.dims ?? []).slice(-2)
  const size = [height ?? 1, width ?? 1] as const
  const takesBatches = [...graph.inputs, ...graph.outputs].every(({ fact }) => fact?.dims?.[0] === 'N')
  return { name, file, uncut, units, inputs, outputs, size, takesBatches, blocked: [layout.size, values.size] }
}

/** The choice of descendants by their numbers, to be run on an engine. */
export function targetOf(model: BenchModel, choice: readonly number[], core: number, plan = choice.join('')): Target {
  const chain = choice.map((variant, block) => model.units[block]![variant]!)
  const memoryBytes = chain.reduce((sum, unit) => sum + unit.memoryBytes, 0)
  const predicted = { quality: 1, latencyMs: 1, memoryBytes }
  return {
    model: model.name,
    plan,
    inputSize: model.size,
    core,
    predicted,
    inputs: model.inputs,
    outputs: model.outputs,
    chain,
  }
}

/** The choice as one graph. */
export async function fused(folder: string, model: BenchModel, choice: readonly number[]): Promise<Unit> {
  const path = join(folder, model.name, `fused-${choice.join('')}.ort`)
  const blocks = choice.map((variant, block) => readModel(readFileSync(onnxOf(model.units[block]![variant]!.path))))
  const ends = (ports: readonly PortFact[]) => ports.map(({ name, type, dims }) => ({ name, fact: { type, dims } }))
  const whole = { inputs: ends(model.inputs), outputs: ends(model.outputs), name: model.name }
  const bytes = writeModel(compose(blocks, whole))
  const names = { block: '', descendant: '', kind: 'fused' }
  return compiled(path, bytes, { ...names, inputs: model.inputs, outputs: model.outputs })
}

/** Feeds of noise, equal for equal seeds. */
export function feedsOf({ inputs }: BenchModel, seed = 1): Tensors {
  const random = seededRandom(seed)
  const noise = ({ name, dims }: PortFact): [string, Tensor] => {
    const sizes = dims.map((size) => size ?? 1)
    const count = sizes.reduce((product, size) => product * size, 1)
    return [
      name,
      floats(
        sizes,
        Float32Array.from({ length: count }, () => random() * 2 - 1),
      ),
    ]
  }
  return Object.fromEntries(inputs.map(noise))
}

const onnxOf = (path: string): string => path.replace(/\.ort$/, '.onnx')

async function compiled(
  path: string,
  bytes: Uint8Array,
  rest: Omit<Unit, 'key' | 'path' | 'fileBytes' | 'memoryBytes'>,
): Promise<Unit> {
  writeFileSync(onnxOf(path), bytes)
  await compileWhole(bytes, path, rest.inputs)
  return unitAt(path, bytes, rest)
}

function unitAt(path: string, bytes: Uint8Array, rest: Omit<Unit, 'key' | 'path' | 'fileBytes' | 'memoryBytes'>): Unit {
  const fileBytes = statSync(path).size
  return { key: sha256(`${path}${sha256(bytes)}`), path, fileBytes, memoryBytes: fileBytes, ...rest }
}

/** The same block with slightly smaller weights: a stand-in for a descendant that costs the same and answers otherwise. */
function weakened(model: Model): Model {
  const { graph } = model
  const initializers = new Map(
    [...graph.initializers].map(([name, value]): [string, Tensor] =>
      value.type === 'float32' && value.dims.length > 1
        ? [name, { ...value, data: (value.data as Float32Array).map((weight) => weight * 0.97) } as Tensor]
        : [name, value],
    ),
  )
  return { ...model, graph: { ...graph, initializers } }
}

function port(name: string, { nominal }: Normalised): PortFact {
  return { name, type: 'float32', dims: [...(nominal.get(name) ?? [])] }
}

const ports = ({ nominal }: BlockGraph, values: BlockGraph['inputs']): PortFact[] =>
  values.map(({ name, fact }) => ({ name, type: fact.type, dims: [...(nominal.get(name) ?? [])] }))
