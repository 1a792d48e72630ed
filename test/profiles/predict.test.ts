import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { blockId, descendantId, ORIGINAL, seededRandom } from '../../src/base/index.ts'
import type { ProblemModel } from '../../src/optimizer/problem.ts'
import { fitCurve } from '../../src/profiles/curve.ts'
import { type DescendantProfile, fitPredictor, type Predictor, problemModel } from '../../src/profiles/index.ts'
import type { Choices } from '../../src/zoo/index.ts'
import { pictureWorld } from './picture-world.ts'
import { world } from './world.ts'

/** Errors and coverage on fresh combinations, over several made-up models. */
function tryOut(combinations: number, models = 6) {
  let [error, covered, latencyError, latencyCovered, n] = [0, 0, 0, 0, 0]
  for (let seed = 1; seed <= models; seed++) {
    const { original, descendants, measure } = world(seed)
    const predictor = fitPredictor({ originalQuality: original, descendants, combinations: measure(combinations) })
    for (const { choices, quality, latencyMs } of measure(100)) {
      const predicted = predictor.quality(choices)
      const latency = predictor.latency(choices)
      error += Math.abs(predicted.value - quality!)
      covered += Number(quality! >= predicted.low && quality! <= predicted.high)
      latencyError += Math.abs(latency.value / latencyMs! - 1)
      latencyCovered += Number(latencyMs! >= latency.low && latencyMs! <= latency.high)
      n++
    }
  }
  return { error: error / n, covered: covered / n, latencyError: latencyError / n, latencyCovered: latencyCovered / n }
}

describe('predictions of fresh combinations', () => {
  it.each([24, 60])('with %i measured are right within a point and 3 percent, and nine of ten intervals hold', (n) => {
    const { error, covered, latencyError, latencyCovered } = tryOut(n)
    expect(error).toBeLessThan(0.008)
    expect(latencyError).toBeLessThan(0.03)
    for (const share of [covered, latencyCovered]) {
      expect(share).toBeGreaterThanOrEqual(0.84)
      expect(share).toBeLessThanOrEqual(0.97)
    }
  })

  it('are already useful with nothing measured but the descendants, with intervals on the safe side', () => {
    const { error, covered, latencyError, latencyCovered } = tryOut(0)
    expect(error).toBeLessThan(0.012)
    expect(latencyError).toBeLessThan(0.1)
    expect(Math.min(covered, latencyCovered)).toBeGreaterThan(0.85)
  })

  it('corrects single choices when there are enough combinations', () => {
    const few = tryOut(8)
    const many = tryOut(100, 4)
    expect(many.error).toBeLessThan(few.error)
    expect(many.latencyError).toBeLessThan(few.latencyError)
  })

  it('nine of ten intervals hold on pictures that were not used for fitting', () => {
    let [covered, n] = [0, 0]
    for (let seed = 1; seed <= 12; seed++) {
      const { originalQuality, descendants, measure } = pictureWorld(seed)
      const predictor = fitPredictor({
        originalQuality: originalQuality('report'),
        fittedOriginalQuality: originalQuality('refit'),
        pictures: { fitted: 300, wanted: 500 },
        descendants,
        combinations: measure(40, 'refit'),
      })
      for (const { choices, quality } of measure(40, 'report')) {
        const { low, high } = predictor.quality(choices)
        covered += Number(quality! >= low - 1e-9 && quality! <= high + 1e-9)
        n++
      }
    }
    expect(covered / n).toBeGreaterThanOrEqual(0.85)
    expect(covered / n).toBeLessThanOrEqual(0.96)
  })

  it('are better with more combinations of which only the divergence is known, though on easier pictures', () => {
    const errorWith = (glances: number) => {
      let [error, n] = [0, 0]
      for (let seed = 1; seed <= 8; seed++) {
        const { originalQuality, descendants, measure } = pictureWorld(seed)
        const few = measure(16, 'refit')
        const more = measure(glances, 'refit').map(({ choices, divergence }) => ({
          choices,
          divergence: 0.8 * divergence!,
        }))
        const predictor = fitPredictor({
          originalQuality: originalQuality('report'),
          fittedOriginalQuality: originalQuality('refit'),
          descendants,
          combinations: [...few, ...more],
        })
        for (const { choices, quality } of measure(60, 'report')) {
          error += Math.abs(predictor.quality(choices).value - quality!)
          n++
        }
      }
      return error / n
    }
    expect(errorWith(64)).toBeLessThan(errorWith(0))
  })

  it.each([1, 7])('what was only seen where little was left to lose is not taken for harmless (%i)', (seed) => {
    const random = seededRandom(seed)
    const divergences = new Map([ORIGINAL, 'light', 'middle', 'deep'].map((id, i) => [id, [0, 0.02, 0.1, 0.4][i]!]))
    const blocks = Array.from({ length: 6 }, (_, b) => blockId(`b${b}`))
    const descendants = blocks.flatMap((block) =>
      [...divergences].map(([id, divergence]) => {
        const costs = { latencyMs: 1, memoryBytes: 1, loadMs: 1, anonymousBytes: 0 }
        return { block, descendant: descendantId(id), divergence, ...costs }
      }),
    )
    const choose = (of: (b: number) => string) =>
      Object.fromEntries(blocks.map((block, b) => [block, of(b)])) as Choices
    const others = ['deep', 'middle', 'light', ORIGINAL]
    // six wholes are deep everywhere; in the others the first block never is
    const combinations = Array.from({ length: 40 }, (_, i) => {
      const choices = choose((b) => {
        if (i < 6) return 'deep'
        if (b === 0) return random() < 0.5 ? 'light' : 'middle'
        return others[Math.floor(4 * random() ** (i % 3 === 0 ? 2 : 0.5))]!
      })
      // beyond 0.8 nothing is left to lose
      const sum = Object.values(choices).reduce((total, id) => total + divergences.get(id)!, 0)
      const divergence = Math.min(0.8, sum) * (0.9 + 0.2 * random())
      return { choices, divergence, quality: 0.5 - 0.5 * divergence }
    })
    const predictor = fitPredictor({ originalQuality: 0.5, descendants, combinations })
    const alone = choose((b) => (b === 0 ? 'deep' : ORIGINAL))
    expect(predictor.divergence(alone)).toBeGreaterThan(0.2)
    expect(predictor.quality(alone).value).toBeLessThan(0.4)
  })

  it('the original has its own quality, surely', () => {
    const { original, descendants, measure } = world(3)
    const predictor = fitPredictor({ originalQuality: original, descendants, combinations: measure(30) })
    const choices = Object.fromEntries(descendants.map(({ block }) => [block, ORIGINAL])) as Choices
    expect(predictor.quality(choices)).toEqual({ value: original, low: original, high: original })
  })

  it('a plan for other blocks or descendants is refused with the names that there are', () => {
    const { original, descendants } = world(1, { blocks: 2, choices: 2 })
    const predictor = fitPredictor({ originalQuality: original, descendants, combinations: [] })
    const b0 = blockId('b0')
    const wrong = [{ [b0]: ORIGINAL }, { [b0]: ORIGINAL, b1: 'none' }, { [b0]: ORIGINAL, b1: ORIGINAL, b2: ORIGINAL }]
    for (const choices of wrong as Choices[]) {
      expect(() => predictor.quality(choices)).toThrow(expect.objectContaining({ code: 'PLAN_INVALID' }))
    }
    // Combinations measured of an earlier build are left out.
    fitPredictor({
      originalQuality: original,
      descendants,
      combinations: [{ choices: wrong[1] as Choices, quality: 0.1, latencyMs: 1 }],
    })
  })
})

describe('the curve from divergence to loss', () => {
  const points = fc.array(
    fc.record({
      divergence: fc.double({ min: 0, max: 10, noNaN: true }),
      loss: fc.double({ min: -0.05, max: 1, noNaN: true }),
      weight: fc.constantFrom(0.3, 1),
    }),
    { maxLength: 40 },
  )
  it('always rises, starts at 0, and can be taken back', () => {
    fc.assert(
      fc.property(points, fc.constantFrom(0.5, 3, Number.POSITIVE_INFINITY), (given, stiffness) => {
        const curve = fitCurve(given, stiffness)
        expect(curve.loss(0)).toBe(0)
        let before = 0
        for (let divergence = 0.01; divergence < 30; divergence *= 1.3) {
          const loss = curve.loss(divergence)
          expect(loss).toBeGreaterThan(before)
          expect(curve.divergence(loss) / divergence).toBeCloseTo(1, 6)
          before = loss
        }
      }),
      { numRuns: 200, seed: 7 },
    )
  })
})

const sumOfLosses = (model: ProblemModel, choices: Choices): number =>
  model.blocks!.reduce((total, { id, choices: all }) => total + all.find((c) => c.id === choices[blockId(id)])!.loss, 0)

describe('as a linear problem', () => {
  const { original, descendants, measure } = world(5)
  const predictor = fitPredictor({ originalQuality: original, descendants, combinations: measure(40) })

  it('allows exactly the combinations whose predicted quality keeps the floor', () => {
    for (const minQuality of [0.77, 0.7, 0.5]) {
      const model: ProblemModel = problemModel('m', [{ id: '224', predictor }], { minQuality })
      for (const { choices } of measure(200)) {
        const linear = model.quality - sumOfLosses(model, choices)
        expect(linear >= minQuality - 1e-9).toBe(predictor.quality(choices).value >= minQuality - 1e-9)
      }
    }
  })

  it('orders combinations as the prediction does, and meets it where plans are expected', () => {
    const model = problemModel('m', [{ id: '224', predictor }], { expectedLoss: 0.05 })
    for (const { choices } of measure(300)) {
      const { value } = predictor.quality(choices)
      if (Math.abs(original - value - 0.05) < 0.005) {
        expect(model.quality - sumOfLosses(model, choices)).toBeCloseTo(value, 2)
      }
    }
    const byLoss = measure(50).map(({ choices }) => [sumOfLosses(model, choices), predictor.quality(choices).value])
    byLoss.sort((a, b) => a[0]! - b[0]!)
    for (let i = 1; i < byLoss.length; i++) expect(byLoss[i]![1]!).toBeLessThanOrEqual(byLoss[i - 1]![1]! + 1e-12)
  })

  it('sums to the predicted latency and memory', () => {
    const model = problemModel('m', [{ id: '224', predictor }], {})
    for (const { choices } of measure(20)) {
      const chosen = model.blocks!.map(({ id, choices: all }) => all.find((c) => c.id === choices[blockId(id)])!)
      const latency = chosen.reduce((total, { latencyMs }) => total + latencyMs, 0)
      const memory = chosen.reduce((total, { memoryBytes }) => total + memoryBytes, 0)
      expect(latency).toBeCloseTo(predictor.latency(choices).value, 9)
      expect(memory / predictor.memory(choices).value).toBeCloseTo(1, 5)
    }
  })

  it('a smaller input is a variant that carries what it costs by itself, and the floor holds there too', () => {
    const small = fitPredictor({ originalQuality: original - 0.04, descendants, combinations: [] })
    const sizes = [
      { id: '224', predictor },
      { id: '160', predictor: small },
    ]
    const current = { size: '160', choices: { [blockId('b0')]: descendantId('d3') } as Choices }
    const model: ProblemModel = problemModel('m', sizes, { minQuality: 0.7, current })
    expect(model.blocks).toBeUndefined()
    expect(model.variants!.map(({ id, blocks }) => [id, blocks[0]!.current])).toEqual([
      ['224', undefined],
      ['160', 'd3'],
    ])
    const at160: ProblemModel = { id: 'm', quality: model.quality, blocks: model.variants![1]!.blocks }
    const originals = Object.fromEntries(descendants.map(({ block }) => [block, ORIGINAL])) as Choices
    expect(sumOfLosses(at160, originals)).toBeCloseTo(0.04, 12)
    for (const { choices } of measure(200)) {
      const fits = original - sumOfLosses(at160, choices) >= 0.7 - 1e-9
      expect(fits).toBe(small.quality(choices).value >= 0.7 - 1e-9)
    }
  })
})

it('qualities in decibels, of which a descendant may lose many, are predicted as well', () => {
  const { descendants, measure } = world(9)
  const inDecibels = (quality: number): number => 35 + 20 * (quality - 0.78)
  const scaled: DescendantProfile[] = descendants.map((d) =>
    d.qualityLoss === undefined ? d : { ...d, qualityLoss: d.qualityLoss * 20 },
  )
  const combinations = measure(40).map((c) => ({ ...c, quality: inDecibels(c.quality!) }))
  const predictor: Predictor = fitPredictor({ originalQuality: 35, descendants: scaled, combinations })
  const errors = measure(100).map(({ choices, quality }) =>
    Math.abs(predictor.quality(choices).value - inDecibels(quality!)),
  )
  expect(errors.reduce((a, b) => a + b) / errors.length).toBeLessThan(0.16)
})
