import { BlockscaleError } from '../base/index.ts'
import { bytesPerElement, elementCount, type Tensor } from '../tensor/index.ts'
import { check } from './check.ts'
import type { Graph, Model } from './graph.ts'
import { foldAffine } from './normalise/affine.ts'
import { selectChannels } from './normalise/channels.ts'
import { constantsToInitializers, foldConstants, makeOutputs } from './normalise/constants.ts'
import { type Probe, writeFacts } from './normalise/facts.ts'
import { dropIdentities } from './normalise/identities.ts'
import {
  type Freedom,
  feedsAt,
  type InputShape,
  inputShapes,
  type Situation,
  sizeOf,
  withFreeInputs,
} from './normalise/inputs.ts'
import { nameNodes } from './normalise/names.ts'
import { convertOpset } from './normalise/opset.ts'
import { orderNodes } from './normalise/order.ts'
import { largestDifference, type Recording, record } from './normalise/record.ts'
import { shapeOnlyValues } from './normalise/shape-only.ts'
import { foldShapes, openBatch, settleReshapes } from './normalise/shapes.ts'
import { openSizes } from './normalise/sizes.ts'
import { tidy } from './normalise/tidy.ts'
import type { Normalised } from './normalised.ts'
import { removeDead, sortNodes, withGraph } from './rewrite.ts'
import type { Runner } from './runner.ts'

export interface NormaliseOptions {
  /** input height and width for which a model of free size is to be recorded; the file's own unless given */
  readonly nominalSize?: readonly [number, number] | undefined
}

/** Folding BatchNormalization rounds differently; more than this, relative to an output's range, is a mistake of ours. */
const TOLERANCE = 1e-3

/**
 * Brings a model into the one form on which everything else works, without changing what it computes.
 *
 * Nodes are sorted and named, constants and shape computations folded, BatchNormalization and its like folded into layers,
 * the operator set is at least 13, and every value has a recorded type and shape. Which other batch and input sizes the
 * graph runs at is found by running it.
 *
 * @param run runs a model once; values inside may be asked for
 * @throws BlockscaleError MODEL_NOT_ONNX when the graph of the file contradicts itself, MODEL_UNSUPPORTED when it cannot run
 *
 *     const { model, freeSize } = await normalise(readModel(bytes), run)
 */
export async function normalise(model: Model, run: Runner, options: NormaliseOptions = {}): Promise<Normalised> {
  const notes: string[] = []
  const came = fromFile(model)
  const inputs = inputShapes(came.graph, options.nominalSize)
  const first: Situation = { batch: 1, size: sizeOf(inputs) }
  const reference = await record(came, run, feedsAt(inputs, first))

  const typeOf = (value: string) => reference.types.get(value) ?? came.graph.initializers.get(value)?.type
  const lean = rewritten(came, (graph) => dropIdentities(graph, typeOf))
  const converted = convertOpset(lean, (value) => reference.shapes.get(value))
  if (converted.note) notes.push(converted.note)
  const clean = rewritten(converted.model, (graph) => dropIdentities(tidy(graph), typeOf))
  const folded = rewritten(await foldConstants(clean, run), makeOutputs)
  const found = await findFreedom(folded, inputs, run, options.nominalSize)
  const { free, probes } = found
  notes.push(...heldFast(came.graph, free))
  const quantised = folded.graph.nodes.some(({ op }) => /^QLinear|quantizeLinear$|Integer$/i.test(op))

  const settled = rewritten(settleReshapes(foldShapes(found.model, probes), probes), (graph) => graph)
  const finished = async (from: Model) => {
    const plain = rewritten(await foldConstants(from, run), nameNodes)
    const final: Probe[] = []
    for (const { at } of probes) final.push(await probe(plain, inputs, run, at))
    const changed = Math.max(
      changeOf(reference, final[0]!),
      ...probes.map((before, index) => changeOf(before, final[index]!)),
    )
    return { plain, final, changed }
  }
  let { plain, final, changed } = await finished(
    quantised ? settled : rewritten(foldAffine(settled, probes[0]!.shapes), (graph) => graph),
  )
  if (!quantised && changed > TOLERANCE) {
    notes.push(
      `BatchNormalization and its like are left unfolded: folding changes an output by ${changed.toExponential(1)} of its range`,
    )
    ;({ plain, final, changed } = await finished(settled))
  }
  if (changed > TOLERANCE) {
    throw new BlockscaleError(
      'GRAPH_INVALID',
      `normalising changes an output by ${changed.toExponential(1)} of its range`,
    )
  }
  const ordered = withGraph(plain, orderedGraph(plain.graph, final[0]!))
  const nominal = final.find(({ at }) => sameSize(at, options.nominalSize)) ?? final[0]!
  if (options.nominalSize && !sameSize(nominal.at, options.nominalSize)) {
    notes.push(`the graph does not run at ${options.nominalSize.join('x')}; it is recorded at the size of the file`)
  }
  return {
    model: check(writeFacts(ordered, inputs, free, final)),
    nominal: nominal.shapes,
    freeBatch: free.batch,
    freeSize: free.size,
    notes,
    quantised,
  }
}

/** The graph as the file has it, sorted and named; what contradicts itself is a fault of the file. */
function fromFile(model: Model): Model {
  try {
    return check(withGraph(model, nameNodes(constantsToInitializers(sortNodes(model.graph)))))
  } catch (thrown) {
    if (thrown instanceof BlockscaleError && thrown.code === 'GRAPH_INVALID') {
      throw new BlockscaleError('MODEL_NOT_ONNX', thrown.message, 'the file is damaged; export it again', {
        cause: thrown,
      })
    }
    throw thrown
  }
}

function rewritten(model: Model, rewrite: (graph: Graph) => Graph): Model {
  return check(withGraph(model, nameNodes(removeDead(rewrite(model.graph)))))
}

const sameSize = (at: Situation, size: readonly [number, number] | undefined): boolean =>
  size !== undefined && at.batch === 1 && at.size?.[0] === size[0] && at.size[1] === size[1]

async function probe(model: Model, inputs: readonly InputShape[], run: Runner, at: Situation): Promise<Probe> {
  return { at, ...(await record(model, run, feedsAt(inputs, at))) }
}

interface Found {
  readonly model: Model
  readonly free: Freedom
  /** at batch 1 and the nominal size, then at whatever else the graph runs */
  readonly probes: readonly Probe[]
}

/** Tries the graph at another batch and at other sizes, and keeps as free what works. */
async function findFreedom(
  file: Model,
  inputs: readonly InputShape[],
  run: Runner,
  nominalSize: readonly [number, number] | undefined,
): Promise<Found> {
  const closed: Freedom = { batch: false, size: false }
  const seen = await probe(withFreeInputs(file, inputs, closed), inputs, run, { batch: 1, size: sizeOf(inputs) })
  const picked = rewritten(selectChannels(file, seen), (graph) => graph)
  const fixed = !hasFreeSize(file.graph)
  const model = fixed ? rewritten(openSizes(picked, seen.shapes), (graph) => graph) : picked
  const base = await probe(withFreeInputs(model, inputs, closed), inputs, run, seen.at)
  const batch = await tryBatch(model, inputs, run, base)
  const current = batch?.model ?? model
  const sizes = await trySizes(current, inputs, run, base, nominalSize)
  const free = { batch: batch !== undefined, size: sizes.length > 0 }
  const probes = [base, ...(batch ? [batch.probe] : []), ...sizes]
  return { model: withFreeInputs(current, inputs, free), free, probes }
}

/** What the file leaves open, but a run showed to be fixed. */
function heldFast(graph: Graph, free: Freedom): string[] {
  const openBatch = graph.inputs.some(({ fact }) => fact?.dims && typeof fact.dims[0] !== 'number')
  return [
    ...(openBatch && !free.batch ? ['the batch is fixed at 1: two pictures together give other outputs, or none'] : []),
    ...(hasFreeSize(graph) && !free.size
      ? ['the input size is fixed: the graph runs at no other than the recorded one']
      : []),
  ]
}

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

/** Greatest change of an output between two recordings of the same situation, relative to its range. */
const changeOf = (before: Recording, after: Recording): number =>
  Math.max(...[...after.outputs].map(([name, value]) => largestDifference(before.outputs.get(name)!, value)))

function orderedGraph(graph: Graph, { shapes, types }: Recording): Graph {
  const late = new Set(shapeOnlyValues(graph))
  for (const node of graph.nodes) {
    if (node.inputs.every((input) => input === '' || graph.initializers.has(input)))
      for (const output of node.outputs) late.add(output)
  }
  const bytesOf = (value: string) => {
    const type = types.get(value) ?? 'float32'
    return elementCount(shapes.get(value) ?? []) * (type === 'string' ? 1 : bytesPerElement(type))
  }
  return orderNodes(graph, bytesOf, late)
}
