import { type BlockId, type DescendantId, ORIGINAL, seededRandom } from '../base/index.ts'
import type { Choices, ManifestBlock } from '../zoo/index.ts'
import { keyOf } from './choices.ts'

/** What is known of a descendant when combinations are drawn. */
export interface Drawable {
  readonly divergence: number
  readonly latencyMs: number
}

/**
 * Draws combinations where plans are likely to land: each has an aim between "almost original" and "as small as can be", so
 * that light and deep ones are both among them. By turns each block takes a descendant near that aim, whatever it loses, or
 * the one that a plan with that price of time would take, if losses were a little other than they were measured.
 *
 * @param most predicted divergence above which no plan is of use
 * @returns up to `count` combinations, none equal to another or to one of `known`
 */
export function drawCombinations(
  blocks: readonly ManifestBlock[],
  facts: ReadonlyMap<string, Drawable>,
  count: number,
  most: number,
  seed: number,
  known: readonly Choices[] = [],
): Choices[] {
  const random = seededRandom(seed)
  const fact = (block: BlockId, descendant: DescendantId) => facts.get(`${block}/${descendant}`)
  const ranked = blocks.map(({ id, descendants }) => ({
    id,
    ids: descendants
      .map((each) => each.id)
      .sort((a, b) => (fact(id, b)?.latencyMs ?? 0) - (fact(id, a)?.latencyMs ?? 0)),
  }))
  const price = priceOf(blocks, facts)
  const seen = new Set(known.map(keyOf))
  const drawn: Choices[] = []
  for (let attempt = 0; attempt < count * 60 && drawn.length < count; attempt++) {
    const aim = random()
    const choices: Record<BlockId, DescendantId> = {}
    let divergence = 0
    for (const { id, ids } of ranked) {
      const near = () => {
        const at = Math.round((aim + (random() - 0.5) * 0.7) * (ids.length - 1))
        return ids[Math.max(0, Math.min(ids.length - 1, at))]
      }
      const worth = () => {
        const costs = ids.map((each) => {
          const { divergence: lost = 0, latencyMs = 0 } = fact(id, each) ?? {}
          return lost * Math.exp(random() - random()) + price(aim) * latencyMs
        })
        return ids[costs.indexOf(Math.min(...costs))]
      }
      const chosen = (attempt % 2 ? near() : worth()) ?? ORIGINAL
      choices[id] = chosen
      divergence += fact(id, chosen)?.divergence ?? 0
    }
    if (divergence > most || seen.has(keyOf(choices))) continue
    seen.add(keyOf(choices))
    drawn.push(choices)
  }
  return drawn
}

/** Divergence that a plan would give for a millisecond, from hardly any (0) to nearly all that there is (1). */
function priceOf(blocks: readonly ManifestBlock[], facts: ReadonlyMap<string, Drawable>): (aim: number) => number {
  const of = ({ id, descendants }: ManifestBlock) => descendants.flatMap((each) => facts.get(`${id}/${each.id}`) ?? [])
  const sum = (each: (facts: readonly Drawable[]) => number) =>
    blocks.reduce((total, block) => total + each(of(block)), 0)
  const all = sum((known) => Math.max(0, ...known.map(({ divergence }) => divergence)))
  const time = sum((known) => Math.max(0, ...known.map(({ latencyMs }) => latencyMs)))
  return (aim) => ((all / Math.max(time, 1e-9)) * 10 ** (3 * aim)) / 200
}

/**
 * The combinations that plans would take, from hardly any saving to all that there is: for each price of a cost, every block
 * takes the descendant of least divergence and priced cost.
 *
 * @param most summed divergence above which no plan is of use
 * @returns different combinations, the lightest first
 */
export function combinationsOfPlans(
  blocks: readonly ManifestBlock[],
  divergenceOf: (block: BlockId, descendant: DescendantId) => number,
  costOf: (block: BlockId, descendant: DescendantId) => number,
  most: number,
): Choices[] {
  const found = new Map<string, Choices>()
  const dearest = Math.max(
    ...blocks.flatMap(({ id, descendants }) => descendants.map((each) => costOf(id, each.id))),
    Number.MIN_VALUE,
  )
  for (let step = 0; step <= PRICES; step++) {
    const price = 10 ** (-5 + (8 * step) / PRICES) / dearest
    const choices: Record<BlockId, DescendantId> = {}
    let divergence = 0
    for (const { id, descendants } of blocks) {
      const priced = descendants.map((each) => divergenceOf(id, each.id) + price * costOf(id, each.id))
      const chosen = descendants[priced.indexOf(Math.min(...priced))]?.id ?? ORIGINAL
      choices[id] = chosen
      divergence += divergenceOf(id, chosen)
    }
    if (divergence <= most) found.set(keyOf(choices), choices)
  }
  return [...found.values()]
}

const PRICES = 400
