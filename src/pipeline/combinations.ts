import { type BlockId, type DescendantId, ORIGINAL, seededRandom } from '../base/index.ts'
import type { Choices, ManifestBlock } from '../zoo/index.ts'
import { keyOf } from './choices.ts'

/** What is known of a descendant when combinations are drawn. */
export interface Drawable {
  readonly divergence: number
  readonly latencyMs: number
}

/**
 * Draws combinations where plans are likely to land: each has an aim between "almost original" and "as small as can be", and
 * each block takes a descendant near that aim, so that light and deep combinations are both among them.
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
  const seen = new Set(known.map(keyOf))
  const drawn: Choices[] = []
  for (let attempt = 0; attempt < count * 60 && drawn.length < count; attempt++) {
    const aim = random()
    const choices: Record<BlockId, DescendantId> = {}
    let divergence = 0
    for (const { id, ids } of ranked) {
      const at = Math.round((aim + (random() - 0.5) * 0.7) * (ids.length - 1))
      const chosen = ids[Math.max(0, Math.min(ids.length - 1, at))] ?? ORIGINAL
      choices[id] = chosen
      divergence += fact(id, chosen)?.divergence ?? 0
    }
    if (divergence > most || seen.has(keyOf(choices))) continue
    seen.add(keyOf(choices))
    drawn.push(choices)
  }
  return drawn
}
