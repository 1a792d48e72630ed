import { type BlockId, type DescendantId, spread } from '../base/index.ts'
import { costsOf, type DescendantProfile, fitPredictor, type MeasuredCombination } from '../profiles/index.ts'
import type { Choices, ManifestBlock } from '../zoo/index.ts'
import { keyOf } from './choices.ts'
import { combinationsOfPlans } from './combinations.ts'
import type { Evaluation } from './evaluate.ts'
import type { SizeProfile } from './profile.ts'

const ROUNDS = 2
const EACH_ROUND = 16
/** how many combinations are looked at in all, at most */
export const PLAN_GLANCES = ROUNDS * EACH_ROUND

interface Looking {
  readonly blocks: readonly ManifestBlock[]
  /** not to be looked at again */
  readonly seen: readonly Choices[]
  /** measured combinations, the original first */
  readonly known: readonly MeasuredCombination[]
  /** divergence above which no plan is of use */
  readonly most: number
  look(choices: readonly Choices[]): Promise<Evaluation[]>
}

/**
 * Looks where plans would land by what is known so far, twice: a planner takes what is predicted too well, so what it would
 * take has to be seen.
 */
export async function glanceAtPlans(
  profile: SizeProfile,
  { blocks, seen, known, most, look }: Looking,
): Promise<{ readonly choices: Choices; readonly evaluation: Evaluation }[]> {
  const descendants = descendantsOf(profile)
  const keys = new Set(seen.map(keyOf))
  const found: { choices: Choices; evaluation: Evaluation }[] = []
  for (let round = 0; round < ROUNDS; round++) {
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
      const open = combinationsOfPlans(blocks, divergenceOf, costOf, most).filter((each) => !keys.has(keyOf(each)))
      return spread(open, EACH_ROUND / 2)
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

const descendantsOf = ({ measurements, evaluations }: SizeProfile): DescendantProfile[] =>
  [...measurements.values()].map((measured) => ({
    block: measured.block,
    descendant: measured.descendant,
    divergence: evaluations.get(`${measured.block}/${measured.descendant}`)?.divergence ?? 0,
    ...costsOf(measured),
  }))
