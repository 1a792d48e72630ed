import { type BlockId, type DescendantId, spread } from '../base/index.ts'
import { costsOf, type DescendantProfile, fitPredictor, type MeasuredCombination } from '../profiles/index.ts'
import type { Choices, ManifestBlock } from '../zoo/index.ts'
import { keyOf } from './choices.ts'
import { combinationsOfPlans } from './combinations.ts'
import type { Evaluation } from './evaluate.ts'
import type { SizeProfile } from './profile.ts'

/** How often it is looked where plans would land, and at how many combinations each time, at most. */
export interface Glances {
  readonly rounds: number
  readonly each: number
}

interface Looking extends Glances {
  readonly blocks: readonly ManifestBlock[]
  /** not to be looked at again */
  readonly seen: readonly Choices[]
  /** measured combinations, the original first */
  readonly known: readonly MeasuredCombination[]
  /** divergence above which no plan is of use */
  readonly most: number
  /** by how much wholes at another input size correct the divergence of each descendant, by `block/descendant` */
  readonly corrections?: ReadonlyMap<string, number> | undefined
  look(choices: readonly Choices[]): Promise<Evaluation[]>
}

/**
 * Looks where plans would land by what is known so far, again with what was seen then: a planner takes what is predicted too well,
 * so what it would take has to be seen.
 */
export async function glanceAtPlans(
  profile: SizeProfile,
  { blocks, seen, known, most, corrections, rounds, each, look }: Looking,
): Promise<{ readonly choices: Choices; readonly evaluation: Evaluation }[]> {
  const descendants = descendantsOf(profile, corrections)
  const keys = new Set(seen.map(keyOf))
  const found: { choices: Choices; evaluation: Evaluation }[] = []
  for (let round = 0; round < rounds; round++) {
    const glances = found.map(({ choices, evaluation: { divergence } }) => ({ choices, divergence }))
    const { parts } = fitPredictor({
      originalQuality: known[0]?.quality ?? 1,
      descendants,
      combinations: [...known, ...glances],
    })
    const of = (costs: (i: number) => number) => {
      const all = new Map(descendants.map(({ block, descendant }, i) => [`${block}/${descendant}`, costs(i)]))
      return (block: BlockId, descendant: DescendantId) => all.get(`${block}/${descendant}`) ?? 0
    }
    const divergenceOf = of((i) => parts[i]!.divergence)
    const plans = [of((i) => descendants[i]!.latencyMs), of((i) => descendants[i]!.memoryBytes)].flatMap((costOf) => {
      const open = combinationsOfPlans(blocks, divergenceOf, costOf, most).filter((plan) => !keys.has(keyOf(plan)))
      return spread(open, each / 2)
    })
    const fresh = [...new Map(plans.map((choices) => [keyOf(choices), choices])).values()]
    const evaluations = await look(fresh)
    for (const [i, choices] of fresh.entries()) {
      keys.add(keyOf(choices))
      found.push({ choices, evaluation: evaluations[i]! })
    }
  }
  return found
}

/** What is known of each descendant at an input size. */
export const descendantsOf = (
  { measurements, evaluations }: SizeProfile,
  corrections: ReadonlyMap<string, number> = new Map(),
): DescendantProfile[] =>
  [...measurements.values()].map((measured) => {
    const key = `${measured.block}/${measured.descendant}`
    return {
      block: measured.block,
      descendant: measured.descendant,
      divergence: (evaluations.get(key)?.divergence ?? 0) * (corrections.get(key) ?? 1),
      ...costsOf(measured),
    }
  })
