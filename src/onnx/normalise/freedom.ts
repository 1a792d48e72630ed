import { BlockscaleError } from '../../base/index.ts'
import type { Tensor } from '../../tensor/index.ts'
import { check } from '../check.ts'
import type { Graph, Model } from '../graph.ts'
import { removeDead, withGraph } from '../rewrite.ts'
import type { Runner } from '../runner.ts'
import { selectChannels } from './channels.ts'
import type { Probe } from './facts.ts'
import { type Freedom, feedsAt, type InputShape, type Situation, sizeOf, withFreeInputs } from './inputs.ts'
import { nameNodes } from './names.ts'
import { largestDifference, type Recording, record, TOLERANCE } from './record.ts'
import { openBatch } from './shapes.ts'
import { openSizes } from './sizes.ts'

/** What a graph allows, and the runs that showed it. */
export interface Found {
  readonly model: Model
  readonly free: Freedom
  /** at batch 1 and the nominal size, then at whatever else the graph runs */
  readonly probes: readonly Probe[]
}

/** Tries the graph at another batch and at other sizes, and keeps as free what works. */
export async function findFreedom(
  file: Model,
  inputs: readonly InputShape[],
  run: Runner,
  nominalSize: readonly [number, number] | undefined,
): Promise<Found> {
  const closed: Freedom = { batch: false, size: false }
  const seen = await probe(withFreeInputs(file, inputs, closed), inputs, run, { batch: 1, size: sizeOf(inputs) })
  const picked = lean(selectChannels(file, seen))
  const fixed = !hasFreeSize(file.graph)
  const model = fixed ? lean(openSizes(picked, seen.shapes)) : picked
  const base = await probe(withFreeInputs(model, inputs, closed), inputs, run, seen.at)
  const batch = await tryBatch(model, inputs, run, base)
  const current = batch?.model ?? model
  const sizes = await trySizes(current, inputs, run, base, nominalSize)
  const free = { batch: batch !== undefined, size: sizes.length > 0 }
  const probes = [base, ...(batch ? [batch.probe] : []), ...sizes]
  return { model: withFreeInputs(current, inputs, free), free, probes }
}

/** What the file leaves open, but a run showed to be fixed. */
export function heldFast(graph: Graph, free: Freedom): string[] {
  const openBatch = graph.inputs.some(({ fact }) => fact?.dims && typeof fact.dims[0] !== 'number')
  return [
    ...(openBatch && !free.batch ? ['the batch is fixed at 1: two pictures together give other outputs, or none'] : []),
    ...(hasFreeSize(graph) && !free.size
      ? ['the input size is fixed: the graph runs at no other than the recorded one']
      : []),
  ]
}

const lean = (model: Model): Model => check(withGraph(model, nameNodes(removeDead(model.graph))))

/** Whether the file itself leaves height and width open; then it says already what holds at other sizes. */
const hasFreeSize = (graph: Graph): boolean =>
  graph.inputs.some(({ fact }) => fact?.dims?.length === 4 && fact.dims.slice(1).some((dim) => typeof dim !== 'number'))

async function tryBatch(model: Model, inputs: readonly InputShape[], run: Runner, base: Probe) {
  if (!inputs.some((input) => input.batch)) return undefined
  const two: Situation = { ...base.at, batch: 2 }
  const second = await run(
    model,
    feedsAt(inputs, base.at, 2),
    model.graph.outputs.map(({ name }) => name),
  )
  for (const variant of [model, openBatch(model, base)]) {
    const open = withFreeInputs(variant, inputs, { batch: true, size: false })
    const seen = await probe(open, inputs, run, two).catch(refused)
    if (seen && isBatchOf(model.graph, seen, [base.outputs, new Map(Object.entries(second))]))
      return { model: variant, probe: seen }
  }
  return undefined
}

/** A run that fails at a size is an answer, not an error. */
const refused = (thrown: unknown): undefined => {
  if (thrown instanceof BlockscaleError && ['ENGINE_FAILED', 'MODEL_UNSUPPORTED'].includes(thrown.code))
    return undefined
  throw thrown
}

/** Whether a run of two pictures gave what each gives alone. */
function isBatchOf(graph: Graph, both: Recording, alone: readonly ReadonlyMap<string, Tensor>[]): boolean {
  return graph.outputs.every(({ name }) => {
    const together = both.outputs.get(name)!
    return alone.every((each, index) => {
      const one = each.get(name)!
      if (one.dims[0] !== 1 || together.dims[0] !== alone.length || together.type === 'string') return false
      const data = (together.data as Float32Array).subarray(index * one.data.length, (index + 1) * one.data.length)
      return (
        largestDifference(one, { type: one.type, dims: [1, ...together.dims.slice(1)], data } as Tensor) < TOLERANCE
      )
    })
  })
}

async function trySizes(
  model: Model,
  inputs: readonly InputShape[],
  run: Runner,
  base: Probe,
  nominalSize: readonly [number, number] | undefined,
): Promise<Probe[]> {
  const size = base.at.size
  if (!size) return []
  const open = withFreeInputs(model, inputs, { batch: false, size: true })
  const attempt = async (other: readonly [number, number]) => {
    const seen = await probe(open, inputs, run, { batch: 1, size: other }).catch(refused)
    return seen && sameBatch(model.graph, base, seen) ? [seen] : []
  }
  const [height, width] = size
  const larger = await attempt([height + 32, width + 64])
  if (larger.length === 0) return []
  const smaller = height > 64 && width > 96 ? await attempt([height - 32, width - 64]) : []
  // An odd size is not asked of everyone, but where it runs, it tells rounding up from rounding down.
  const odd = await attempt([height + 13, width + 27])
  const other = nominalSize !== undefined && nominalSize.join() !== size.join()
  return [...larger, ...smaller, ...odd, ...(other ? await attempt(nominalSize) : [])]
}

/** At another size an output may have other heights and counts, but still belongs to one picture and has the same rank. */
function sameBatch(graph: Graph, base: Recording, other: Recording): boolean {
  return graph.outputs.every(({ name }) => {
    const [before, after] = [base.shapes.get(name)!, other.shapes.get(name)!]
    return before.length === after.length && (before[0] !== 1 || after[0] === 1)
  })
}

/** One run in a situation. */
export async function probe(model: Model, inputs: readonly InputShape[], run: Runner, at: Situation): Promise<Probe> {
  return { at, ...(await record(model, run, feedsAt(inputs, at))) }
}
