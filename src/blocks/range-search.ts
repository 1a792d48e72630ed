import { spread } from '../base/index.ts'
import { openSession } from '../engine/index.ts'
import { isOp, type Model, type Node, wiring, writeModel } from '../onnx/index.ts'
import type { Samples, Tensors } from './block.ts'
import { insertPairs } from './qdq.ts'
import type { Observed, QuantisationRange } from './ranges.ts'
import { recordOutputs } from './record.ts'
import { errorShare } from './verify.ts'

/** How much of its extremes the range of each value takes in. */
export type RangeShares = ReadonlyMap<string, number>

export interface RangeSearch {
  /** values whose range is decided, by those that share one, or by themselves */
  readonly sharedWith: ReadonlyMap<string, string>
  readonly observed: ReadonlyMap<string, Observed>
  /** values that have a range already */
  readonly fixed: ReadonlyMap<string, QuantisationRange>
  /** shares that are known to be good, from a relative */
  readonly known?: RangeShares | undefined
  /** shares near which good ones are expected: only their neighbours are tried */
  readonly near?: RangeShares | undefined
}

/** Fractions of the extremes that are tried, each for itself, from the widest on. */
const SHARES = [1, 0.75, 0.56, 0.42, 0.32, 0.24, 0.18, 0.13, 0.1] as const
/** When the error has grown by so much over the best, narrower ranges are not tried. */
const WORSE = 1.3
/** A narrower range has to be better by this: what it clips of other pictures is not seen on these. */
const CLEARLY_BETTER = 0.98

/**
 * Finds the range of each value by what rounding to it, and clipping at its ends, does to the model's outputs, one value after the
 * other in the order of the graph, with the others rounded as they are then.
 *
 * What a rule of the value alone finds (least squared error, a percentile) can be wrong by far: where few large values decide the
 * output, as behind MobileNetV2's depthwise convolutions, clipping them costs forty times what rounding costs.
 *
 * @param samples all that were observed, in the same order; most of them are not run
 * @returns a share for each value that shares its range with no other, and for each group of those that do
 */
export async function searchRanges(model: Model, samples: Samples, search: RangeSearch): Promise<RangeShares> {
  const { sharedWith, observed, known, near } = search
  const shares = new Map<string, number>()
  for (const root of sharedWith.values()) shares.set(root, known?.get(root) ?? near?.get(root) ?? 1)
  const open = [...shares.keys()].filter((root) => known?.has(root) !== true && observed.has(root))
  if (open.length === 0) return shares
  const ranges = rangesAt(shares, search)
  const rounded = insertPairs(model, { chosen: new Set(), ranges, corrections: new Map(), sums: 'exact' })
  const opened = withOpenRanges(rounded, (value) =>
    open.includes(sharedWith.get(value) ?? '') ? sharedWith.get(value) : undefined,
  )
  const names = model.graph.outputs.map(({ name }) => name)
  const compared = telling(
    samples,
    open.map((root) => observed.get(root)!),
  )
  const wanted = await recordOutputs(
    model,
    compared.map(({ sample }) => sample),
  )
  // Optimised, a Clip before a rounding is left out, though only ranges that are constants can show that it does nothing.
  const session = await openSession(writeModel(opened), { optimization: 'disabled' })
  const errorOf = async (): Promise<number> => {
    const given: Tensors = Object.fromEntries(
      open.flatMap((root) => {
        const { scale, zeroPoint } = observed.get(root)!.range(shares.get(root)!)
        return [
          [scaleInput(root), { type: 'float32', dims: [], data: Float32Array.of(scale) }],
          [zeroInput(root), { type: 'uint8', dims: [], data: Uint8Array.of(zeroPoint) }],
        ] as const
      }),
    )
    let [sum, weights] = [0, 0]
    for (const [index, { sample, weight }] of compared.entries()) {
      const feeds = Object.fromEntries(session.inputs.map((name) => [name, given[name] ?? sample[name]!]))
      const outputs = await session.run(feeds)
      for (const name of names) sum += weight * errorShare(outputs[name]!, wanted[index]![name]!)
      weights += weight
    }
    return sum / weights / names.length
  }
  try {
    let least = await errorOf()
    const attempt = async (root: string, share: number): Promise<boolean> => {
      const before = shares.get(root)!
      shares.set(root, share)
      const error = await errorOf()
      if (error < CLEARLY_BETTER * least) {
        least = error
        return true
      }
      shares.set(root, before)
      return error < WORSE * least
    }
    for (const root of open.filter((each) => !near?.has(each))) {
      for (const share of SHARES.slice(1)) if (!(await attempt(root, share))) break
    }
    // Once more next to what was found, now that the others are rounded well.
    for (const root of open) {
      const at = SHARES.indexOf(shares.get(root) as (typeof SHARES)[number])
      for (const next of [at - 1, at + 1]) if (SHARES[next] !== undefined) await attempt(root, SHARES[next])
    }
  } finally {
    await session.release()
  }
  return shares
}

/** The range of every value, at the shares that were found. */
export function rangesAt(
  shares: RangeShares,
  { sharedWith, observed, fixed }: Pick<RangeSearch, 'sharedWith' | 'observed' | 'fixed'>,
): Map<string, QuantisationRange> {
  const ranges = new Map(fixed)
  for (const [value, root] of sharedWith) ranges.set(value, observed.get(root)!.range(shares.get(root)!))
  return ranges
}

/** Ordinary pictures on which ranges are compared, beside those with the extremes. */
const ORDINARY = 20

/**
 * The pictures with the extremes, which clipping hurts, and some of the others, which stand for all of them: a network may have one
 * picture in a hundred at which it is ten times as loud.
 */
function telling(samples: Samples, observed: readonly Observed[]): { sample: Tensors; weight: number }[] {
  const extreme = new Set(observed.flatMap(({ leastIn, greatestIn }) => [leastIn, greatestIn]))
  const others = samples.filter((_, picture) => !extreme.has(picture))
  const ordinary = spread(others, ORDINARY)
  return [
    ...[...extreme].map((picture) => ({ sample: samples[picture]!, weight: 1 })),
    ...ordinary.map((sample) => ({ sample, weight: others.length / ordinary.length })),
  ]
}

const scaleInput = (root: string) => `${root}/open/scale`
const zeroInput = (root: string) => `${root}/open/zero`

/** The model with the ranges of some values as inputs, so that many can be tried in one session. */
function withOpenRanges(model: Model, rootOf: (value: string) => string | undefined): Model {
  const { graph } = model
  const { producer, consumers } = wiring(graph)
  const outputs = new Set(graph.outputs.map(({ name }) => name))
  const roots = new Set<string>()
  const replaced = new Map<Node, Node>()
  for (const rounding of graph.nodes) {
    if (!isOp(rounding, 'QuantizeLinear')) continue
    const back = graph.nodes[consumers.get(rounding.outputs[0]!)?.[0] ?? -1]
    if (!back || !producer.has(rounding.outputs[0]!)) continue
    const root = rootOf(outputs.has(back.outputs[0]!) ? back.outputs[0]! : rounding.inputs[0]!)
    if (root === undefined) continue
    roots.add(root)
    for (const each of [rounding, back]) {
      replaced.set(each, { ...each, inputs: [each.inputs[0]!, scaleInput(root), zeroInput(root)] })
    }
  }
  const inputs = [...roots].flatMap((root) => [
    { name: scaleInput(root), fact: { type: 'float32' as const, dims: [] } },
    { name: zeroInput(root), fact: { type: 'uint8' as const, dims: [] } },
  ])
  const nodes = graph.nodes.map((each) => replaced.get(each) ?? each)
  return { ...model, graph: { ...graph, nodes, inputs: [...graph.inputs, ...inputs], facts: new Map() } }
}
