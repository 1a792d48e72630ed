import { macs, weightBytes } from '../onnx/index.ts'
import { elementCount } from '../tensor/index.ts'
import type { Block, Descendant, Samples } from './block.ts'
import { branchesOf } from './branches.ts'
import { FOUR_BIT_SUFFIX, type FourBitLayers, hasFourBitLayers, inFourBits } from './descendants/four-bit.ts'
import { mannerIn, quantise } from './descendants/int8.ts'
import { L1_LEVELS, pruneByL1 } from './descendants/l1.ts'
import { analyseRanks, lowRank, RANK_LEVELS, ranksOf } from './descendants/low-rank.ts'
import { analysePruning, PRUNE_LEVELS, prune, widthsOf } from './descendants/prune.ts'
import { analyseReplacements, type Replacement, replaceBranches } from './descendants/replace.ts'
import type { IntegerSums } from './integer-weights.ts'
import type { LinearAlgebra } from './linear.ts'
import type { QuantisationRange } from './ranges.ts'
import { type Verdict, verify } from './verify.ts'

/** What `--recipes` takes. */
export const recipes = ['int8', 'prune', 'prune-int8', 'low-rank', 'merge', 'drop', 'l1-distill'] as const
export type Recipe = (typeof recipes)[number]
/** What is made unless told otherwise: all but LegoDNN's own recipe, which is there to be compared with. */
export const defaultRecipes: readonly Recipe[] = recipes.filter((recipe) => recipe !== 'l1-distill')

export interface MenuOptions {
  readonly recipes: readonly Recipe[]
  readonly borders: ReadonlyMap<string, QuantisationRange>
  /** the model's own inputs and outputs among the block's border values */
  readonly ends: ReadonlySet<string>
  /** how the CPU adds 8-bit products */
  readonly sums: IntegerSums
  /** what a build that was interrupted has tried already, so that the rest comes out as if it had not been interrupted */
  readonly known?: readonly KnownDescendant[]
  /** asked before each descendant; when it says no, the rest is left out */
  readonly timeLeft?: () => boolean
}

/**
 * Forms with weights in 4 bits of what was made in integers. The one of all 1×1 convolutions costs time, so that it is only worth
 * making where it keeps more than narrower layers would.
 */
const FOUR_BIT_FORMS: readonly { which: FourBitLayers; of?: readonly string[] }[] = [
  { which: 'heads' },
  { which: 'pointwise', of: ['int8', 'prune25-int8', 'prune50-int8'] },
]

/** What was tried before; `offer` and `parameters` only where something came of it. */
export interface KnownDescendant {
  readonly id: string
  readonly parameters?: Descendant['parameters'] | undefined
  readonly offer?: Omit<Offer, 'id'> | undefined
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

/** One structure: how it is made in float, and the recipes that want it in float and in integers. */
interface Structure {
  readonly id: string
  readonly float: Recipe
  readonly int8?: Recipe
  /** a text says why there is none */
  make(): Promise<Descendant | string>
}

/**
 * Makes the descendants of one block, the most useful first: int8, then pruned ones, then those with branches dropped or
 * merged or layers of lower rank, each in float and in integers. What a sibling beats clearly in everything is not offered.
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
  const known = new Map((options.known ?? []).map((each) => [each.id, each]))
  const open = (id: string) => !known.has(id)
  const late = (id: string): Made => ({ kind: 'dropped', id, why: 'no time was left to make it' })
  const offered: Offer[] = [...known.values()].flatMap(({ id, offer }) => (offer ? [{ ...offer, id }] : []))
  let manner = [...known.values()].map(({ parameters }) => parameters && mannerIn(parameters)).find((each) => each)
  const inIntegers = async (from: Parameters<typeof quantise>[1]) => {
    const { borders, ends: finalOutputs, sums } = options
    const made = await quantise(block, from, samples, algebra, {
      borders,
      finalOutputs,
      sums,
      keepFloat: stems(block, options.ends),
      manner,
    })
    manner ??= made?.manner
    return made
  }

  const smallForms = FOUR_BIT_FORMS.filter(({ which }) => hasFourBitLayers(block.model, which))
  /** The forms in 4 bits that are still to be made of what was made in integers. */
  const openForms = (id: string) =>
    open(id) || known.get(id)?.offer !== undefined
      ? smallForms.filter(
          ({ which, of }) => open(`${id}${FOUR_BIT_SUFFIX[which]}`) && (of === undefined || of.includes(id)),
        )
      : []
  const integersOpen = (id: string) => open(id) || openForms(id).length > 0
  /** What was made in integers and, where such layers hold much of it, the same with some layers' weights in 4 bits. */
  async function* integerForms(made: Descendant): AsyncGenerator<Made> {
    const forms = openForms(made.id)
    if (open(made.id)) {
      const own = await judged(block, made, true, samples, offered)
      yield own
      if (own.kind === 'dropped') return
    }
    for (const { which } of forms) {
      const smaller = await inFourBits(made, samples, algebra, which)
      if (smaller) yield await judged(block, smaller, false, samples, offered)
      else
        yield {
          kind: 'dropped',
          id: `${made.id}${FOUR_BIT_SUFFIX[which]}`,
          why: 'these layers hold too little of its weights',
        }
    }
  }

  if (wants('int8') && integersOpen('int8')) {
    if (timeLeft()) {
      const made = await inIntegers({ model: block.model, parameters: {} })
      if (made) yield* integerForms(made)
      else yield { kind: 'dropped', id: 'int8', why: 'it has no layer that can be quantised' }
    } else yield late('int8')
  }
  for (const family of [pruned, dropped, merged, lowRanks, byL1]) {
    if (!family.recipes.some(wants)) continue
    if (!timeLeft()) {
      yield late(family.recipes[0])
      continue
    }
    const isOpen = (id: string) => open(id) || integersOpen(`${id}-int8`)
    const structures = await family.of(block, samples, algebra, isOpen, known)
    if (typeof structures === 'string') {
      if (open(family.recipes[0])) yield { kind: 'dropped', id: family.recipes[0], why: structures }
      continue
    }
    let beaten = false
    for (const { id, float, int8, make } of structures) {
      const wanted = [
        { id, is: wants(float) && open(id) },
        { id: `${id}-int8`, is: int8 !== undefined && wants(int8) && integersOpen(`${id}-int8`) },
      ] as const
      const isKnownToBeGood = wanted.some((each) => known.get(each.id)?.offer)
      if (!wanted.some(({ is }) => is)) {
        beaten ||= family.oneByOne === true && known.has(id) && !isKnownToBeGood
        continue
      }
      if (!timeLeft()) {
        yield late(id)
        continue
      }
      if (beaten) {
        yield { kind: 'dropped', id, why: 'siblings already beat its lighter form' }
        continue
      }
      const made = await make()
      if (typeof made === 'string') {
        yield { kind: 'dropped', id, why: made }
        continue
      }
      const forms: Made[] = []
      if (wanted[0].is) forms.push(await judged(block, made, false, samples, offered))
      yield* forms
      const integers = wanted[1].is ? await inIntegers(made) : undefined
      if (integers) {
        for await (const form of integerForms(integers)) {
          forms.push(form)
          yield form
        }
      }
      beaten = family.oneByOne === true && !isKnownToBeGood && forms.every(({ kind }) => kind === 'dropped')
    }
  }
}

/** A kind of structures; `open` tells whether one is still wanted, so that nothing is analysed in vain. */
interface Family {
  readonly recipes: readonly [Recipe, ...Recipe[]]
  /** whether deeper structures are only tried where siblings do not beat the lighter one */
  readonly oneByOne?: boolean
  of(
    block: Block,
    samples: Samples,
    algebra: LinearAlgebra,
    open: (id: string) => boolean,
    known: ReadonlyMap<string, KnownDescendant>,
  ): Promise<readonly Structure[] | string>
}

const pruned: Family = {
  recipes: ['prune', 'prune-int8'],
  async of(block, samples, algebra, open, known) {
    const levels = PRUNE_LEVELS.map((keep) => ({ keep, id: `prune${Math.round(100 * (1 - keep))}` }))
    if (!levels.some(({ id }) => open(id))) return []
    const analysis = await analysePruning(block, samples, algebra)
    if (analysis.channels.groups.length === 0) {
      return 'all its channels are tied to its borders or to operators that mix them'
    }
    const twinOf = twins(levels, known, widthsOf)
    return levels.map(({ keep, id }) => ({
      id,
      float: 'prune',
      int8: 'prune-int8',
      async make() {
        const made = await prune(block, samples, analysis, keep, algebra)
        if (!made) return 'nothing can be removed at this level'
        const twin = twinOf(made)
        return twin ? `it has the same widths as ${twin}` : made
      },
    }))
  },
}

/** Tells of a descendant which other level has come to the same, counting what was made before. */
function twins(
  levels: readonly { readonly id: string }[],
  known: ReadonlyMap<string, KnownDescendant>,
  shapeOf: (made: Pick<Descendant, 'parameters'>) => string,
): (made: Descendant) => string | undefined {
  const seen = new Map<string, string>()
  for (const { id } of levels) {
    const parameters = known.get(id)?.parameters ?? known.get(`${id}-int8`)?.parameters
    if (parameters) seen.set(shapeOf({ parameters }), id)
  }
  return (made) => {
    const shape = shapeOf(made)
    const twin = seen.get(shape)
    if (twin && twin !== made.id) return twin
    seen.set(shape, made.id)
    return undefined
  }
}

/** How many branches may go at once: the one that is missed least, and about half of them. */
const replacing = (kind: Replacement['kind'], oneByOne: boolean): Family => ({
  recipes: [kind],
  oneByOne,
  async of(block, samples, algebra, open) {
    const most = branchesOf(block).length
    if (!Array.from({ length: most }, (_, i) => `${kind}${i + 1}`).some(open)) return []
    const all = await analyseReplacements(block, samples, kind, algebra)
    const useful = all.filter(({ loss }) => loss < MOST_LOSS)
    if (useful.length === 0)
      return `one layer in the place of a branch would ${all.length ? 'miss too much' : 'save nothing'}`
    const counts = new Set([1, Math.ceil(useful.length / 2), useful.length])
    return [...counts].map((count) => ({
      id: `${kind}${count}`,
      float: kind,
      int8: kind,
      make: () => replaceBranches(block, samples, useful.slice(0, count), algebra),
    }))
  },
})

/** Of a layer that misses more of the power of what it stands for, little is to be hoped. */
const MOST_LOSS = 0.5
const dropped = replacing('drop', false)
const merged = replacing('merge', true)

const lowRanks: Family = {
  recipes: ['low-rank'],
  oneByOne: true,
  async of(block, samples, algebra, open, known) {
    const levels = RANK_LEVELS.map((keep) => ({ keep, id: `rank${Math.round(100 * keep)}` }))
    if (!levels.some(({ id }) => open(id))) return []
    const splits = await analyseRanks(block, samples, algebra)
    if (splits.length === 0) return 'it has no layer wide enough to be split'
    const twinOf = twins(levels, known, ranksOf)
    return levels.map(({ keep, id }) => ({
      id,
      float: 'low-rank',
      int8: 'low-rank',
      async make() {
        const made = await lowRank(block, samples, splits, keep, algebra)
        if (!made) return 'no layer gains from it'
        const twin = twinOf(made)
        return twin ? `it has the same ranks as ${twin}` : made
      },
    }))
  },
}

const byL1: Family = {
  recipes: ['l1-distill'],
  async of(block, samples) {
    return L1_LEVELS.map((share) => ({
      id: `l1-${Math.round(100 * share)}`,
      float: 'l1-distill',
      make: async () => (await pruneByL1(block, samples, share)) ?? 'nothing can be removed at this level',
    }))
  },
}

interface Offer {
  readonly id: string
  readonly latencyShare: number
  readonly weightBytes: number
  readonly outputError: number
}

/** A sibling counts as faster only when it is so by more than a short measurement can be wrong. */
const CLEARLY_FASTER = 0.9

async function judged(
  block: Block,
  descendant: Descendant,
  quantised: boolean,
  samples: Samples,
  offered: Offer[],
): Promise<Made> {
  const { id, model } = descendant
  const verdict = await verify(block, model, samples, quantised)
  if (verdict.fault) return { kind: 'dropped', id, why: verdict.fault }
  const { outputError, latencyShare } = verdict
  const offer = { id, latencyShare, weightBytes: weightBytes(model), outputError }
  const better = offered.find(
    (other) =>
      other.latencyShare <= CLEARLY_FASTER * latencyShare &&
      other.weightBytes <= offer.weightBytes &&
      other.outputError <= outputError,
  )
  if (better) return { kind: 'dropped', id, why: `${better.id} is faster, smaller and changes its outputs less` }
  offered.push(offer)
  const shapes = new Map([...block.nominal, ...(descendant.added ?? [])])
  return { kind: 'made', descendant, verdict, weightBytes: offer.weightBytes, macs: macs(model, shapes) }
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
