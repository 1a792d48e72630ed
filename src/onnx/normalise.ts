import { BlockscaleError } from '../base/index.ts'
import { bytesPerElement, elementCount } from '../tensor/index.ts'
import { check } from './check.ts'
import type { Graph, Model } from './graph.ts'
import { foldAffine } from './normalise/affine.ts'
import { constantsToInitializers, foldConstants, makeOutputs } from './normalise/constants.ts'
import { type Probe, writeFacts } from './normalise/facts.ts'
import { findFreedom, heldFast, probe } from './normalise/freedom.ts'
import { dropIdentities } from './normalise/identities.ts'
import { feedsAt, inputShapes, type Situation, sizeOf } from './normalise/inputs.ts'
import { nameNodes } from './normalise/names.ts'
import { convertOpset } from './normalise/opset.ts'
import { orderNodes } from './normalise/order.ts'
import { largestDifference, type Recording, record, TOLERANCE } from './normalise/record.ts'
import { shapeOnlyValues } from './normalise/shape-only.ts'
import { foldShapes, settleReshapes } from './normalise/shapes.ts'
import { tidy } from './normalise/tidy.ts'
import type { Normalised } from './normalised.ts'
import { removeDead, sortNodes, withGraph } from './rewrite.ts'
import type { Runner } from './runner.ts'

export interface NormaliseOptions {
  /** input height and width for which a model of free size is to be recorded; the file's own unless given */
  readonly nominalSize?: readonly [number, number] | undefined
}

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

  const settled = checked(settleReshapes(foldShapes(found.model, probes), probes))
  const finished = async (from: Model) => {
    const plain = checked(await foldConstants(from, run))
    const final: Probe[] = []
    for (const { at } of probes) final.push(await probe(plain, inputs, run, at))
    const changed = Math.max(
      changeOf(reference, final[0]!),
      ...probes.map((before, index) => changeOf(before, final[index]!)),
    )
    return { plain, final, changed }
  }
  let { plain, final, changed } = await finished(quantised ? settled : checked(foldAffine(settled, probes[0]!.shapes)))
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

/** What every rewrite ends in: dead nodes out, new ones named, and the check. */
const checked = (model: Model): Model => check(withGraph(model, nameNodes(removeDead(model.graph))))

const rewritten = (model: Model, rewrite: (graph: Graph) => Graph): Model =>
  checked(withGraph(model, rewrite(model.graph)))

const sameSize = (at: Situation, size: readonly [number, number] | undefined): boolean =>
  size !== undefined && at.batch === 1 && at.size?.[0] === size[0] && at.size[1] === size[1]

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
