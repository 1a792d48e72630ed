import { blockId, descendantId, ORIGINAL, seededRandom } from '../../src/base/index.ts'
import type { DescendantProfile, MeasuredCombination } from '../../src/profiles/index.ts'
import type { Choices } from '../../src/zoo/index.ts'

const blocks = 8
const choices = 7
/** first and last picture of each split */
const splits = { profile: [0, 200], refit: [200, 500], report: [500, 1000] } as const
type Split = keyof typeof splits

/**
 * A made-up two-class model, picture by picture: each descendant moves the logit of each picture in its own way, so that
 * combinations that share descendants err on the same pictures, as real ones do.
 */
export function pictureWorld(seed: number) {
  const random = seededRandom(seed)
  const normal = (): number => Math.sqrt(-2 * Math.log(random() + 1e-12)) * Math.cos(2 * Math.PI * random())
  const margins = Float64Array.from({ length: 1000 }, () => 1.8 + 2.3 * normal())
  const strength: number[] = []
  const moves: Float64Array[] = []
  for (let choice = 0; choice < blocks * choices; choice++) {
    const level = choice % choices
    strength.push(level === 0 ? 0 : 0.12 * 1.45 ** level * (0.6 + 0.8 * random()))
    moves.push(Float64Array.from({ length: 1000 }, () => normal()))
  }
  const evaluate = (picked: readonly number[], split: Split) => {
    const [first, end] = splits[split]
    const worse = 0.35 * picked.reduce((total, choice) => total + strength[choice]! ** 2, 0)
    let [right, same, divergence] = [0, 0, 0]
    for (let j = first; j < end; j++) {
      const before = margins[j]!
      const after = picked.reduce((logit, choice) => logit + strength[choice]! * moves[choice]![j]!, before - worse)
      right += Number(after > 0)
      same += Number(after > 0 === before > 0)
      const [p, q] = [before, after].map((logit) => 1 / (1 + Math.exp(-logit))) as [number, number]
      divergence += p * Math.log(p / q) + (1 - p) * Math.log((1 - p) / (1 - q))
    }
    const n = end - first
    return { quality: right / n, fidelity: same / n, divergence: divergence / n }
  }
  const originals = Array.from({ length: blocks }, (_, b) => b * choices)
  const originalQuality = (split: Split): number => evaluate(originals, split).quality
  const descendants: DescendantProfile[] = strength.map((_, choice) => {
    const block = Math.floor(choice / choices)
    const { quality, divergence } = evaluate(originals.with(block, choice), 'profile')
    const level = choice % choices
    return {
      block: blockId(`b${block}`),
      descendant: level === 0 ? ORIGINAL : descendantId(`d${level}`),
      divergence,
      ...(level === 0 ? {} : { qualityLoss: originalQuality('profile') - quality }),
      latencyMs: 1,
      memoryBytes: 1,
      loadMs: 1,
      anonymousBytes: 0,
    }
  })
  const measure = (n: number, split: Split): MeasuredCombination[] =>
    Array.from({ length: n }, () => {
      const depth = random()
      const picked = originals.map((first) => first + Math.floor(random() * (choices - 0.4) * depth + 0.4))
      const { quality, fidelity, divergence } = evaluate(picked, split)
      const named = picked.map((choice) => [descendants[choice]!.block, descendants[choice]!.descendant])
      return { choices: Object.fromEntries(named) as Choices, quality, fidelity, divergence }
    })
  return { originalQuality, descendants, measure }
}
