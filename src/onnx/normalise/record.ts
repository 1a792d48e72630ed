import type { Tensor, TensorType } from '../../tensor/index.ts'
import type { Model } from '../graph.ts'
import type { Runner } from '../runner.ts'
import { shapeOnlyValues } from './shape-only.ts'

/** What one run showed: shape and type of every value, contents of shape computations and of the outputs. */
export interface Recording {
  readonly shapes: ReadonlyMap<string, readonly number[]>
  readonly types: ReadonlyMap<string, TensorType>
  /** values that depend on shapes only, never on what the inputs hold */
  readonly contents: ReadonlyMap<string, Tensor>
  readonly outputs: ReadonlyMap<string, Tensor>
}

/** Operators whose values are no tensors, so that no run can hand them out. */
const NO_TENSORS = /^(Sequence(?!At|Length)|SplitToSequence|Optional(?!GetElement|HasElement))/

/** Runs a model once with every value as an output: exact shapes without any shape rules of our own. */
export async function record(model: Model, run: Runner, feeds: Readonly<Record<string, Tensor>>): Promise<Recording> {
  const { nodes, outputs } = model.graph
  const inside = nodes.filter(({ op }) => !NO_TENSORS.test(op))
  const wanted = new Set([...inside.flatMap((node) => node.outputs), ...outputs.map(({ name }) => name)])
  wanted.delete('')
  const values = new Map(Object.entries({ ...feeds, ...(await run(model, feeds, [...wanted])) }))
  const bySize = shapeOnlyValues(model.graph)
  return {
    shapes: new Map([...values].map(([name, { dims }]) => [name, [...dims]])),
    types: new Map([...values].map(([name, { type }]) => [name, type])),
    contents: new Map([...values].filter(([name]) => bySize.has(name))),
    outputs: new Map(outputs.map(({ name }) => [name, values.get(name)!])),
  }
}

/** Folding BatchNormalization rounds differently; more than this, relative to an output's range, is a mistake of ours. */
export const TOLERANCE = 1e-3

/** Outputs that vary by less than this are measured against it: a sigmoid near 0 has only rounding left (about 6e-8). */
const LEAST_RANGE = 1e-3

/**
 * Greatest difference between two tensors, relative to the range of the expected one; infinite when their shapes differ.
 *
 * Values that are no numbers in both, or the same infinity, are equal.
 */
export function largestDifference(expected: Tensor, actual: Tensor): number {
  if (expected.dims.join() !== actual.dims.join()) return Number.POSITIVE_INFINITY
  const [one, other] = [expected.data as ArrayLike<number | bigint>, actual.data as ArrayLike<number | bigint>]
  let [low, high, largest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0]
  for (let index = 0; index < one.length; index++) {
    const [a, b] = [Number(one[index]), Number(other[index])]
    if (Number.isFinite(a)) {
      low = Math.min(low, a)
      high = Math.max(high, a)
    }
    if (Object.is(a, b) || a === b) continue
    const difference = Math.abs(a - b)
    largest = Math.max(largest, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference)
  }
  if (largest === 0) return 0
  // A constant output has no range; then its own size is the measure.
  const range = high > low ? high - low : Math.abs(high)
  return largest / (Number.isFinite(range) ? Math.max(range, LEAST_RANGE) : 1)
}
