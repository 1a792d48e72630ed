import { readFile } from 'node:fs/promises'
import { BlockscaleError, sha256 } from '../base/index.ts'
import { openSession } from '../engine/index.ts'
import {
  type BlockGraph,
  compose,
  cut,
  type Model,
  type Normalised,
  normalise,
  proposeCuts,
  readModel,
  writeModel,
} from '../onnx/index.ts'
import { firstInput, guessCard, type ModelCard, type Tensors } from '../tasks/index.ts'
import { allocate, elementCount, isFloat, type NumericType, type Tensor } from '../tensor/index.ts'
import type { FoundModel } from '../zoo/index.ts'
import { runOnce } from './runner.ts'

/** A model that is read, normalised, cut and checked, ready for descendants to be made. */
export interface PreparedModel {
  readonly id: string
  readonly card: ModelCard
  /** sha256 of the file that came in */
  readonly source: string
  readonly normalised: Normalised
  readonly blocks: readonly BlockGraph[]
  /** the uncut normalised model, as a file */
  readonly bytes: Uint8Array
  /** greatest difference of the stitched originals from the file that came in, relative to the outputs' range */
  readonly stitchedError: number
  /** what was guessed, and what was left as it is */
  readonly notes: readonly string[]
}

/** Folding BatchNormalization reorders sums of 32-bit floats; more than this is an error of ours. */
const TOLERANCE = 1e-3

/**
 * Reads a model and cuts it into blocks. The stitched blocks are run against the file that came in.
 *
 * A file from outside is opened through `prepareApart`, which does this in a process of its own.
 *
 * @throws BlockscaleError MODEL_NOT_ONNX, MODEL_UNSUPPORTED, MODEL_CARD_INVALID; GRAPH_INVALID when the stitched blocks
 *   differ from the original
 */
export async function prepareModel(found: FoundModel, blocks?: number): Promise<PreparedModel> {
  const file = await readFile(found.file)
  const original = readModel(file)
  // Refuses with ONNX Runtime's own reason what cannot run here, before any work is done.
  const session = await openSession(file)
  await session.release()
  const guess = found.card ? undefined : guessFrom(found.id, original)
  const card = found.card ?? guess?.card
  if (!card) throw new BlockscaleError('MODEL_CARD_INVALID', `${found.file} has no model card`)
  checkCard(card, original, found.file)
  const normalised = await normalise(original, runOnce, { nominalSize: firstInput(card).size })
  const cutBlocks = cut(normalised, proposeCuts(normalised, blocks === undefined ? {} : { blocks }))
  refuseText(cutBlocks)
  const composed = compose(
    cutBlocks.map(({ model }) => model),
    ends(normalised.model, found.id),
  )
  const stitchedError = await difference(file, composed, normalised)
  if (!(stitchedError <= TOLERANCE)) {
    throw new BlockscaleError(
      'GRAPH_INVALID',
      `the blocks of ${found.id} put together differ from the model by ${stitchedError.toExponential(2)} of its outputs' range`,
      'this is an error of blockscale: report it with the model',
    )
  }
  const { file: _, ...rest } = card
  return {
    id: found.id,
    card: { ...rest, file: 'original.onnx', id: found.id },
    source: sha256(file),
    normalised,
    blocks: cutBlocks,
    bytes: writeModel(normalised.model),
    stitchedError,
    notes: [...(guess?.guessed ?? []), ...normalised.notes],
  }
}

/**
 * Text between blocks or as an answer becomes strings of JavaScript inside the native library; where there are too many of them the whole
 * process ends, and nothing outside the model says how many there will be.
 */
function refuseText(blocks: readonly BlockGraph[]): void {
  for (const { model } of blocks) {
    const text = model.graph.outputs.find(({ fact }) => fact?.type === 'string')
    if (!text) continue
    const hint = 'export the network without the part that makes text of numbers; labels belong into its card'
    throw new BlockscaleError('MODEL_UNSUPPORTED', `the value "${text.name}" is text, which is not served`, hint)
  }
}

/** The inputs and outputs of a whole model, in the form that `compose` takes. */
export function ends(model: Model, name: string): Parameters<typeof compose>[1] {
  const known = (value: Model['graph']['inputs'][number]) => {
    if (!value.fact) throw new BlockscaleError('MODEL_UNSUPPORTED', `${value.name} is no tensor`)
    return { name: value.name, fact: value.fact }
  }
  return { name, inputs: model.graph.inputs.map(known), outputs: model.graph.outputs.map(known) }
}

/** A card from what a graph says. @throws BlockscaleError MODEL_UNSUPPORTED when an input is no picture */
export const guessFrom = (id: string, { graph }: Model): ReturnType<typeof guessCard> =>
  guessCard(id, ports(graph.inputs), ports(graph.outputs))

const ports = (values: Model['graph']['inputs']): Parameters<typeof guessCard>[1] =>
  values.map(({ name, fact }) => ({
    name,
    type: fact?.type ?? 'float32',
    dims: fact?.dims?.map((dim) => dim ?? undefined),
  }))

function checkCard(card: ModelCard, model: Model, file: string): void {
  const wanted = [card.input].flat().map(({ name }) => name)
  const present = model.graph.inputs.map(({ name }) => name)
  const missing = wanted.filter((name) => !present.includes(name))
  if (missing.length > 0 || wanted.length !== present.length) {
    throw new BlockscaleError(
      'MODEL_CARD_INVALID',
      `the card describes the inputs ${wanted.join(', ')}; ${file} has ${present.join(', ')}`,
      'correct input.name in model.json',
    )
  }
}

/** Greatest difference over all outputs, relative to each output's range, on a smooth made-up input. */
async function difference(file: Uint8Array, composed: Model, { model, nominal }: Normalised): Promise<number> {
  const feeds = Object.fromEntries(
    model.graph.inputs.map(({ name, fact }) => [name, smooth(fact?.type ?? 'float32', nominal.get(name) ?? [])]),
  )
  const [expected, actual] = await Promise.all([runBytes(file, feeds), runBytes(writeModel(composed), feeds)])
  let worst = 0
  for (const [name, wanted] of Object.entries(expected)) {
    const given = actual[name]
    if (!given || given.data.length !== wanted.data.length) return Number.NaN
    if (!isFloat(wanted) || !isFloat(given)) continue
    let low = 0
    let high = 0
    for (const value of wanted.data) {
      if (value < low) low = value
      if (value > high) high = value
    }
    const range = Math.max(high - low, 1e-6)
    for (let i = 0; i < wanted.data.length; i++) {
      const [a, b] = [wanted.data[i]!, given.data[i]!]
      // Models with made-up weights give NaN or infinity on both sides.
      if (Object.is(a, b)) continue
      worst = Math.max(worst, Math.abs(a - b) / range)
    }
  }
  return worst
}

async function runBytes(bytes: Uint8Array, feeds: Tensors): Promise<Tensors> {
  const session = await openSession(bytes)
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

function smooth(type: Tensor['type'], dims: readonly number[]): Tensor {
  const count = elementCount(dims)
  if (type !== 'float32') return { type, dims, data: allocate(type as NumericType, count) } as Tensor
  return {
    type,
    dims,
    data: Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.013) * Math.cos(i * 0.00071)),
  }
}
