import { blockId, descendantId, ORIGINAL, seededRandom } from '../../src/base/index.ts'
import type { DescendantProfile, MeasuredCombination } from '../../src/profiles/index.ts'
import type { Choices } from '../../src/zoo/index.ts'

/** A made-up model whose combinations behave as real ones were seen to: deep ones lose more than their parts, with noise. */
export function world(seed: number, { blocks = 8, choices = 8, noise = 0.007 } = {}) {
  const random = seededRandom(seed)
  const normal = (): number => Math.sqrt(-2 * Math.log(random() + 1e-12)) * Math.cos(2 * Math.PI * random())
  const original = 0.78
  const falls = 1 + 0.3 * random()
  const lossAt = (divergence: number): number => 0.75 * (1 - Math.exp(-((divergence / 1.6) ** falls)))
  /** the same pictures judge the original, so that what loses little is also known well */
  const noisy = (loss: number): number => loss + noise * Math.sqrt(Math.min(1, loss / 0.05)) * normal()
  const descendants: DescendantProfile[] = []
  const truth: { divergence: number; latencyMs: number }[] = []
  for (let b = 0; b < blocks; b++) {
    const size = 0.5 + random()
    for (let d = 0; d < choices; d++) {
      const divergence = d === 0 ? 0 : 0.003 * 1.75 ** d * (0.5 + random())
      const latencyMs = size * (1 - 0.1 * d)
      truth.push({
        divergence: divergence * Math.exp(0.25 * normal()),
        latencyMs: latencyMs * Math.exp(0.04 * normal()),
      })
      descendants.push({
        block: blockId(`b${b}`),
        descendant: d === 0 ? ORIGINAL : descendantId(`d${d}`),
        divergence,
        ...(d === 0 ? {} : { qualityLoss: noisy(lossAt(divergence)) }),
        latencyMs,
        memoryBytes: 1e6 * latencyMs,
        loadMs: 1,
        anonymousBytes: 0,
      })
    }
  }
  /** combinations as random mixes of which some are shallow and some deep */
  const measure = (n: number): MeasuredCombination[] =>
    Array.from({ length: n }, () => {
      const depth = random()
      const picked = Array.from(
        { length: blocks },
        (_, b) => b * choices + Math.floor(random() * (choices - 0.3) * depth + 0.3),
      )
      const divergence = picked.reduce((total, choice) => total + truth[choice]!.divergence, 0)
      const latencyMs = picked.reduce((total, choice) => total + truth[choice]!.latencyMs, 0)
      return {
        choices: Object.fromEntries(
          picked.map((choice) => [descendants[choice]!.block, descendants[choice]!.descendant]),
        ) as Choices,
        quality: original - noisy(lossAt(divergence * (1 + 0.35 * divergence))),
        latencyMs: (1.03 * latencyMs + 0.2) * Math.exp(0.015 * normal()),
        memoryBytes: 1.2e6 * latencyMs,
      }
    })
  return { original, descendants, measure }
}
