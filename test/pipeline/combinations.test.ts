import { describe, expect, it } from 'vitest'
import { blockId, descendantId, ORIGINAL, seededRandom } from '../../src/base/index.ts'
import { keyOf } from '../../src/pipeline/choices.ts'
import { combinationsOfPlans, type Drawable, drawCombinations } from '../../src/pipeline/combinations.ts'
import type { Choices, ManifestBlock } from '../../src/zoo/index.ts'

/** Blocks whose deeper descendants are faster and lose more, each in its own measure; the last of each block is no good deal. */
function menu() {
  const random = seededRandom(3)
  const facts = new Map<string, Drawable>()
  const blocks = Array.from({ length: 8 }, (_, b): ManifestBlock => {
    const id = blockId(`b${b}`)
    const ids = [ORIGINAL, ...[1, 2, 3, 4, 5].map((level) => descendantId(`d${level}`))]
    for (const [level, descendant] of ids.entries()) {
      const dear = level === 5 ? 12 : 1
      facts.set(`${id}/${descendant}`, {
        divergence: level === 0 ? 0 : dear * 0.004 * 2 ** level * (0.5 + random()),
        latencyMs: (1 - 0.12 * level) * (0.5 + random()),
      })
    }
    const file = { path: '', bytes: 1, sha256: '' }
    return {
      id,
      inputs: [],
      outputs: [],
      descendants: ids.map((each) => ({ id: each, kind: 'prune', parameters: {}, file, weightBytes: 1, macs: 1 })),
    }
  })
  const sum = (choices: Choices, of: keyof Drawable): number =>
    blocks.reduce((total, { id }) => total + facts.get(`${id}/${choices[id]}`)![of], 0)
  return { blocks, facts, sum }
}

describe('combinations that are drawn', () => {
  const { blocks, facts, sum } = menu()
  const drawn = drawCombinations(blocks, facts, 60, 1.5, 1)

  it('are all different, whole, and not beyond what a plan would take', () => {
    expect(drawn).toHaveLength(60)
    expect(new Set(drawn.map(keyOf)).size).toBe(60)
    for (const choices of drawn) {
      expect(Object.keys(choices)).toHaveLength(blocks.length)
      expect(sum(choices, 'divergence')).toBeLessThanOrEqual(1.5)
    }
  })

  it('are light and deep, and use every descendant', () => {
    const depths = drawn.map((choices) => sum(choices, 'divergence')).sort((a, b) => a - b)
    expect(depths[6]).toBeLessThan(0.15)
    expect(depths[53]).toBeGreaterThan(0.6)
    const used = new Set(drawn.flatMap((choices) => Object.entries(choices).map(([block, id]) => `${block}/${id}`)))
    expect(used.size).toBeGreaterThan(0.9 * facts.size)
  })

  it('repeat with their seed, and leave out what is known', () => {
    expect(drawCombinations(blocks, facts, 60, 1.5, 1)).toEqual(drawn)
    const others = drawCombinations(blocks, facts, 30, 1.5, 2, drawn)
    const known = new Set(drawn.map(keyOf))
    expect(others.some((choices) => known.has(keyOf(choices)))).toBe(false)
  })
})

describe('combinations of plans', () => {
  const { blocks, facts, sum } = menu()
  const fact = (of: keyof Drawable) => (block: string, descendant: string) => facts.get(`${block}/${descendant}`)![of]
  const plans = combinationsOfPlans(blocks, fact('divergence'), fact('latencyMs'), 3)

  it('lie on the lower hull: none is beaten by another combination at its price', () => {
    expect(plans.length).toBeGreaterThan(8)
    expect(new Set(plans.map(keyOf)).size).toBe(plans.length)
    const others = drawCombinations(blocks, facts, 200, 3, 5)
    for (const plan of plans) {
      const better = others.filter(
        (each) =>
          sum(each, 'divergence') < sum(plan, 'divergence') - 1e-12 &&
          sum(each, 'latencyMs') < sum(plan, 'latencyMs') - 1e-12,
      )
      expect(better).toEqual([])
    }
  })

  it('go from light to deep', () => {
    for (let i = 1; i < plans.length; i++) {
      expect(sum(plans[i]!, 'latencyMs')).toBeLessThanOrEqual(sum(plans[i - 1]!, 'latencyMs'))
    }
    for (const plan of plans) expect(sum(plan, 'divergence')).toBeLessThanOrEqual(3)
  })
})
