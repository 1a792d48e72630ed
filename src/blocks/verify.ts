import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSession } from '../engine/index.ts'
import { type Model, readModel, writeModel } from '../onnx/index.ts'
import { isFloat, type Tensor } from '../tensor/index.ts'
import type { Block, Samples } from './block.ts'
import { record, recordOutputs } from './record.ts'

/** What the check of a descendant found. */
export interface Verdict {
  /** why it cannot be offered; undefined when it can */
  readonly fault?: string | undefined
  /** Σ‖ŷ − y‖² / Σ‖y‖² over the block's outputs on the samples that were run */
  readonly outputError: number
  /** layers that ONNX Runtime really computes in integers */
  readonly integerLayers: number
  /** shortest run over the shortest of the original, in turns: a rough figure, measured beside other work */
  readonly latencyShare: number
}

const CHECKED_PICTURES = 8

/**
 * Checks that a descendant can stand in for its block: same border, loads, runs, gives finite values of the same shapes.
 *
 * @param quantised also count the integer layers of the optimised graph: a pattern that does not match quantises nothing
 *   without a word
 */
export async function verify(block: Block, model: Model, samples: Samples, quantised: boolean): Promise<Verdict> {
  const names = (values: readonly { readonly name: string }[]) => values.map(({ name }) => name).join(', ')
  if (names(model.graph.outputs) !== names(block.outputs)) return fault('its outputs are not those of the block')
  const bytes = writeModel(model)
  const folder = await mkdtemp(join(tmpdir(), 'blockscale-'))
  try {
    const optimised = join(folder, 'optimised.onnx')
    const original = await openSession(writeModel(block.model))
    const session = await openSession(bytes, quantised ? { saveOptimizedTo: optimised } : {})
    const integerLayers = quantised ? await countIntegerLayers(optimised) : 0
    let error = 0
    let power = 0
    let [before, after] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
    try {
      for (const sample of samples.slice(0, CHECKED_PICTURES)) {
        const feeds = (of: { readonly inputs: readonly string[] }) =>
          Object.fromEntries(of.inputs.map((name) => [name, sample[name]!]))
        const start = performance.now()
        const expected = await original.run(feeds(original))
        const middle = performance.now()
        const actual = await session.run(feeds(session))
        before = Math.min(before, middle - start)
        after = Math.min(after, performance.now() - middle)
        for (const [name, wanted] of Object.entries(expected)) {
          const given = actual[name]
          if (!given || given.dims.join() !== wanted.dims.join()) return fault(`${name} has another shape`)
          if (!isFloat(given) || !isFloat(wanted)) continue
          for (let i = 0; i < wanted.data.length; i++) {
            error += (given.data[i]! - wanted.data[i]!) ** 2
            power += wanted.data[i]! ** 2
          }
        }
      }
    } finally {
      await original.release()
      await session.release()
    }
    if (!Number.isFinite(error)) return fault('it gives values that are not finite')
    if (quantised && integerLayers === 0) return fault('ONNX Runtime computes none of its layers in integers')
    return { outputError: error / Math.max(power, 1e-12), integerLayers, latencyShare: after / before }
  } catch (cause) {
    return fault(cause instanceof Error ? cause.message : String(cause))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** How much of the outputs of a changed model is error, in the mean over pictures and outputs: 0 for none, 1 for nothing else. */
export async function outputError(original: Model, changed: Model, samples: Samples): Promise<number> {
  const names = original.graph.outputs.map(({ name }) => name)
  const wanted = await recordOutputs(original, samples)
  let sum = 0
  await record(changed, samples, names, (values, index) => {
    for (const name of names) sum += errorShare(values[name]!, wanted[index]![name]!)
  })
  return sum / names.length / samples.length
}

/** The share of a picture's output that is error: each picture and each output counts the same, however large its numbers. */
export function errorShare(given: Tensor, wanted: Tensor): number {
  if (!isFloat(given) || !isFloat(wanted)) return 0
  let [error, power] = [0, 1e-12]
  for (let i = 0; i < wanted.data.length; i++) {
    error += (given.data[i]! - wanted.data[i]!) ** 2
    power += wanted.data[i]! ** 2
  }
  return error / (error + power)
}

const fault = (why: string): Verdict => ({
  fault: why,
  outputError: Number.NaN,
  integerLayers: 0,
  latencyShare: Number.NaN,
})

async function countIntegerLayers(path: string): Promise<number> {
  const { graph } = readModel(await readFile(path))
  return graph.nodes.filter((node) => /^(QLinear(Conv|MatMul)|QGemm|MatMulInteger|ConvInteger)/.test(node.op)).length
}
