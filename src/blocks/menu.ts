import type { DescendantId } from '../base/index.ts'
import { macs, weightBytes } from '../onnx/index.ts'
import { elementCount } from '../tensor/index.ts'
import type { Block, Descendant, Samples } from './block.ts'
import { quantise } from './descendants/int8.ts'
import { analysePruning, PRUNE_LEVELS, type PruneAnalysis, prune, widthsOf } from './descendants/prune.ts'
import type { LinearAlgebra } from './linear.ts'
import type { QuantisationRange } from './ranges.ts'
import { type Verdict, verify } from './verify.ts'

/** What `--recipes` takes. */
export const recipes = ['prune', 'int8', 'prune-int8'] as const
export type Recipe = (typeof recipes)[number]

export interface MenuOptions {
  readonly recipes: readonly Recipe[]
  readonly borders: ReadonlyMap<string, QuantisationRange>
  /** the model's own inputs and outputs among the block's border values */
  readonly ends: ReadonlySet<string>
  readonly weightBits: 7 | 8
  /** descendants that exist already, from a build that was interrupted */
  readonly known?: ReadonlySet<string>
  /** asked before each descendant; when it says no, the rest is left out */
  readonly timeLeft?: () => boolean
}

/** A descendant that was made and checked, or one that was tried in vain. */
export type Made =
  | {
      readonly kind: 'made'
      readonly descendant: Descendant
      readonly verdict: Verdict
      readonly weightBytes: number
      readonly macs: number
    }
  | { readonly kind: 'dropped'; readonly id: string; readonly why: string }

/**
 * Makes the descendants of one block, the most useful first: int8, then lighter to heavier pruning, each in float and int8.
 *
 * @param samples recorded inputs of the block, from the calibration pictures
 */
export async function* makeDescendants(
  block: Block,
  samples: Samples,
  algebra: LinearAlgebra,
  options: MenuOptions,
): AsyncGenerator<Made> {
  const wants = (recipe: Recipe) => options.recipes.includes(recipe)
  const timeLeft = options.timeLeft ?? (() => true)
  const known = (id: string) => options.known?.has(id) ?? false
  const int8 = {
    borders: options.borders,
    finalOutputs: options.ends,
    weightBits: options.weightBits,
    keepFloat: stems(block, options.ends),
  }
  const late = (id: string): Made => ({ kind: 'dropped', id, why: 'no time was left to make it' })

  if (wants('int8') && !known('int8')) {
    if (timeLeft()) {
      const made = await quantise(block, { model: block.model, parameters: {} }, samples, int8)
      if (made) yield await checked(block, made, samples)
      else yield { kind: 'dropped', id: 'int8', why: 'it has no layer that can be quantised' }
    } else yield late('int8')
  }

  if (!wants('prune') && !wants('prune-int8')) return
  const levels = PRUNE_LEVELS.map((keep) => ({ keep, id: `prune${Math.round(100 * (1 - keep))}` }))
  const open = levels.filter(
    ({ id }) => (wants('prune') && !known(id)) || (wants('prune-int8') && !known(`${id}-int8`)),
  )
  if (open.length === 0) return
  if (!timeLeft()) {
    for (const { id } of open) yield late(id)
    return
  }
  const analysis: PruneAnalysis = await analysePruning(block, samples, algebra)
  if (analysis.channels.groups.length === 0) {
    yield {
      kind: 'dropped',
      id: 'prune',
      why: 'all its channels are tied to its borders or to operators that mix them',
    }
    return
  }
  const seen = new Map<string, DescendantId>()
  for (const { keep, id } of levels) {
    if (!timeLeft()) {
      yield late(id)
      continue
    }
    const pruned = await prune(block, samples, analysis, keep, algebra)
    const twin = pruned && seen.get(widthsOf(pruned))
    if (!pruned || twin) {
      yield {
        kind: 'dropped',
        id,
        why: twin ? `it has the same widths as ${twin}` : 'nothing can be removed at this level',
      }
      continue
    }
    seen.set(widthsOf(pruned), pruned.id)
    if (wants('prune') && !known(id)) yield await checked(block, pruned, samples)
    if (wants('prune-int8') && !known(`${id}-int8`)) {
      const made = await quantise(block, pruned, samples, int8)
      if (made) yield await checked(block, made, samples)
    }
  }
}

async function checked(block: Block, descendant: Descendant, samples: Samples): Promise<Made> {
  const quantised = descendant.kind === 'int8' || descendant.kind === 'prune-int8'
  const verdict = await verify(block, descendant.model, samples, quantised)
  if (verdict.fault) return { kind: 'dropped', id: descendant.id, why: verdict.fault }
  return {
    kind: 'made',
    descendant,
    verdict,
    weightBytes: weightBytes(descendant.model),
    macs: macs(descendant.model, block.nominal),
  }
}

/** Layers that read the picture itself: with three input channels an integer kernel is slower than a float one (1.7x). */
function stems(block: Block, ends: ReadonlySet<string>): ReadonlySet<string> {
  const pictures = new Set(
    block.inputs.map(({ name }) => name).filter((name) => ends.has(name) && (block.nominal.get(name)?.[1] ?? 0) <= 4),
  )
  return new Set(
    block.model.graph.nodes
      .filter((node) => node.op === 'Conv' && pictures.has(node.inputs[0] ?? ''))
      .map((node) => node.outputs[0]!),
  )
}

/** Bytes of one picture's inputs of a block. */
export const sampleBytes = (block: Block): number =>
  block.inputs.reduce((sum, { name }) => sum + 4 * elementCount(block.nominal.get(name) ?? []), 0)
