import { describe, expect, test } from 'vitest'
import { seededRandom } from '../../src/base/index.ts'
import { expectedLossOf, temperatureOf } from '../../src/tasks/certainty.ts'
import { type Tensors, type Truth, taskFor } from '../../src/tasks/index.ts'
import { card } from './cards.ts'
import { logits } from './samples.ts'

const CLASSES = 6

/** Pictures whose classes are drawn from shares, a classifier whose logits are too large by a factor, and a worse variant. */
function world(seed: number, count: number, factor: number) {
  const random = seededRandom(seed)
  const normal = () => Math.sqrt(-2 * Math.log(random() + 1e-12)) * Math.cos(2 * Math.PI * random())
  return Array.from({ length: count }, () => {
    const sound = Float64Array.from({ length: CLASSES }, () => 2.5 * normal())
    const shares = sound.map((value) => Math.exp(value))
    let left = random() * shares.reduce((a, b) => a + b, 0)
    const index = shares.findIndex((share) => {
      left -= share
      return left <= 0
    })
    return { logits: sound.map((value) => factor * value), variant: sound.map((value) => value + normal()), index }
  })
}

type Seen = ReturnType<typeof world>
const first = (values: Float64Array): number => values.indexOf(Math.max(...values))
const counted = (seen: Seen): number =>
  seen.reduce(
    (sum, each) => sum + Number(first(each.logits) === each.index) - Number(first(each.variant) === each.index),
    0,
  ) / seen.length
const expected = (seen: Seen, temperature: number): number =>
  seen.reduce((sum, each) => sum + expectedLossOf(each.logits, each.variant, temperature), 0) / seen.length

describe('how sure a classifier is', () => {
  test.each([0.5, 1, 3])('logits %f times too large are seen', (factor) => {
    expect(Math.abs(temperatureOf(world(1, 2000, factor)) / factor - 1)).toBeLessThan(0.07)
  })

  test('of few pictures the temperature stays near 1', () => {
    expect(Math.abs(Math.log(temperatureOf(world(3, 4, 3))))).toBeLessThan(0.6)
    expect(temperatureOf([])).toBeCloseTo(1, 3)
  })

  test('tells what is lost on other pictures better than a count does', () => {
    const truth = counted(world(0, 100_000, 1))
    const errors = { counted: 0, expected: 0 }
    for (let seed = 1; seed <= 20; seed++) {
      const seen = world(seed, 300, 2)
      errors.counted += Math.abs(counted(seen) - truth) / 20
      errors.expected += Math.abs(expected(seen, temperatureOf(seen)) - truth) / 20
    }
    expect(truth).toBeGreaterThan(0.05)
    expect(errors.expected).toBeLessThan(0.7 * errors.counted)
  })
})

describe('classification', () => {
  const labelled = (original: Tensors, index: number) => ({ original, truth: { kind: 'class', index } satisfies Truth })

  test('nothing is lost where the answer is the same, and more where the original is surer of its own', () => {
    const made = card()
    const loss = taskFor(made).expectedLoss!([labelled(logits(3, 0, 0), 0)], made)!
    expect(loss(logits(3, 0, 0), logits(1, 0.5, 0))).toBe(0)
    expect(loss(logits(3, 0, 0), logits(0, 1, 0))).toBeGreaterThan(loss(logits(1, 0, 0), logits(0, 1, 0)))
  })

  test('shares count as they are, and scores that are none tell nothing', () => {
    const made = card({ output: { decoder: 'probabilities' } })
    const even = [labelled(logits(0.75, 0.25), 0), labelled(logits(0.75, 0.25), 0), labelled(logits(0.75, 0.25), 1)]
    const loss = taskFor(made).expectedLoss!([...even, labelled(logits(0.75, 0.25), 0)], made)!
    expect(loss(logits(0.75, 0.25), logits(0.1, 0.9))).toBeCloseTo(0.5, 2)
    expect(taskFor(made).expectedLoss!([labelled(logits(4, -2), 0)], made)).toBeUndefined()
  })
})
