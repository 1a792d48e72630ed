import { expect } from 'vitest'
import {
  type BlockGraph,
  compose,
  cut,
  largestDifference,
  type Model,
  macs,
  type Normalised,
  normalise,
  proposeCuts,
  readModel,
  weightBytes,
  writeModel,
} from '../../src/onnx/index.ts'
import { sample } from '../../src/onnx/normalise/samples.ts'
import type { Tensor } from '../../src/tensor/index.ts'
import { run, runOptimised } from './runner.ts'

/** Folding BatchNormalization rounds in another order; everything else is exact. */
const FOLDED = 1e-4

/** Symbols get numbers; the size is the recorded one unless given. */
function feedsFor(
  { model, nominal }: Normalised,
  batch: number,
  size?: readonly [number, number],
): Record<string, Tensor> {
  const dimsOf = (name: string, dims: readonly unknown[]) =>
    dims.map((dim, axis) => {
      if (dim === 'N') return batch
      if (size && dim === 'H') return size[0]
      if (size && dim === 'W') return size[1]
      return nominal.get(name)![axis]!
    })
  return Object.fromEntries(
    model.graph.inputs.map(({ name, fact }) => [name, sample(fact!.type, dimsOf(name, fact!.dims!), 11)]),
  )
}

const outputsOf = (model: Model): string[] => model.graph.outputs.map(({ name }) => name)

function worst(expected: Readonly<Record<string, Tensor>>, actual: Readonly<Record<string, Tensor>>): number {
  return Math.max(...Object.keys(expected).map((name) => largestDifference(expected[name]!, actual[name]!)))
}

async function runChain(
  blocks: readonly BlockGraph[],
  feeds: Record<string, Tensor>,
  how: (model: Model, feeds: Record<string, Tensor>) => Promise<Readonly<Record<string, Tensor>>>,
) {
  const values = { ...feeds }
  for (const { model, inputs } of blocks) {
    Object.assign(values, await how(model, Object.fromEntries(inputs.map(({ name }) => [name, values[name]!]))))
  }
  return values
}

/** What a model is known to allow, and its work in millions of multiply–accumulates. */
export interface Known {
  readonly free: string
  readonly macs: number
}

/** Normalising changes nothing, stitched originals are the model, and what is called free is free. */
export async function expectLaws(came: Model, { free, macs: millions }: Known): Promise<void> {
  const normalised = await normalise(came, run)
  const { model, nominal, freeBatch, freeSize } = normalised
  const blocks = cut(normalised, proposeCuts(normalised))
  const names = outputsOf(came)
  const feeds = feedsFor(normalised, 1)

  // Law: normalising changes nothing, and the stitched originals are the model, to the last bit.
  const whole = await run(model, feeds, names)
  expect(worst(await run(came, feeds, names), whole)).toBeLessThanOrEqual(FOLDED)
  const { inputs, outputs } = model.graph
  const stitched = compose(
    blocks.map((block) => block.model),
    { inputs: inputs as never, outputs: outputs as never, name: 'whole' },
  )
  expect(worst(whole, await run(readModel(writeModel(stitched)), feeds, names))).toBe(0)
  expect(stitched.graph.nodes.length).toBe(model.graph.nodes.length)
  expect(worst(whole, await runChain(blocks, feeds, (each, given) => run(each, given, outputsOf(each))))).toBe(0)

  // Freedom is what it says: the optimised chain runs there and agrees with the uncut graph.
  expect([freeBatch && 'batch', freeSize && 'size'].filter(Boolean).join(' ')).toBe(free)
  const [, , height = 0, width = 0] = nominal.get(inputs[0]!.name)!
  const elsewhere = feedsFor(normalised, freeBatch ? 3 : 1, freeSize ? [height + 64, width + 32] : undefined)
  const there = await run(model, elsewhere, names)
  expect(worst(there, await runChain(blocks, elsewhere, runOptimised))).toBeLessThanOrEqual(1e-3)

  expect(macs(model, nominal) / 1e6).toBeCloseTo(millions, 1)
  const parts = blocks.reduce((sum, block) => sum + macs(block.model, block.nominal), 0)
  expect(parts).toBe(macs(model, nominal))
  expect(blocks.reduce((sum, block) => sum + weightBytes(block.model), 0)).toBeGreaterThanOrEqual(weightBytes(model))
  for (const each of blocks.flatMap((block) => block.model.graph.nodes)) expect(each.op).not.toBe('BatchNormalization')
}
