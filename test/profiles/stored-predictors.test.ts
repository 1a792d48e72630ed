import { join } from 'node:path'
import { expect, it } from 'vitest'
import { type Combination, openProfiles, predictors, type Size } from '../../src/profiles/index.ts'
import { openZoo } from '../../src/zoo/index.ts'
import { buildSample, temporaryFolder } from '../zoo/sample.ts'
import { choicesOf, combination, device, loss, measurement, sample } from './sample.ts'

it('predictions are fitted on refit pictures and promise quality on report pictures', async () => {
  const folder = await temporaryFolder()
  const manifest = await buildSample(openZoo(join(folder, 'zoo')))
  const store = openProfiles(join(folder, 'profiles.db'))
  store.saveModel(manifest)
  store.saveDevice(device)
  expect(predictors(store, manifest, device.key)).toEqual([])
  for (const block of [0, 1]) {
    store.saveMeasurements([measurement(sample, block, 'original', 2), measurement(sample, block, 'prune50', 1)])
    store.saveLosses([loss(sample, block, 'prune50')])
  }
  const originals = choicesOf('original', 'original')
  const pruned = choicesOf('prune50', 'prune50')
  const on = (split: 'refit' | 'report', choices: typeof pruned, quality: number) => ({
    ...combination(sample, choices, quality),
    split,
    why: choices === originals ? 'original' : 'random',
    measured: { quality, latencyMs: 2.1, memoryBytes: 5000 },
  })
  store.saveCombinations([on('refit', originals, 0.8), on('refit', pruned, 0.77)])
  const [before] = predictors(store, manifest, device.key)
  expect(before!.id).toBe('8')
  expect(before!.predictor.quality(originals).value).toBe(0.8)
  store.saveCombinations([on('report', originals, 0.7)])
  const { predictor } = predictors(store, manifest, device.key)[0]!
  expect(predictor.quality(originals).value).toBe(0.7)
  const { value, low, high } = predictor.quality(pruned)
  expect(value).toBeGreaterThan(0.66)
  expect(value).toBeLessThan(0.69)
  expect(low).toBeLessThan(value)
  expect(high).toBeGreaterThan(value)
  expect(predictor.latency(pruned).value).toBeLessThan(predictor.latency(originals).value)
  store.close()
})

it('what is expected to be lost counts more than what was counted, at each input size against the original at the own one', async () => {
  const { store, manifest, sizes } = await opened()
  const originals = choicesOf('original', 'original')
  const pruned = choicesOf('prune50', 'prune50')
  for (const [i, size] of sizes.entries()) {
    for (const block of [0, 1]) {
      store.saveMeasurements(['original', 'prune50'].map((id) => ({ ...measurement(sample, block, id, 1), size })))
      store.saveLosses([{ ...loss(sample, block, 'prune50'), size }])
    }
    const row = (split: 'refit' | 'report', choices: typeof pruned, quality: number, expectedLoss: number) => ({
      ...combination(sample, choices, quality),
      size,
      split,
      measured: { quality, expectedLoss, fidelity: 1 - expectedLoss },
    })
    // by chance the pruned whole has as many right as the original, and the smaller size more than the own one
    const [whole, smaller] = [0.04, 0.03 * i]
    store.saveCombinations([
      row('refit', originals, 0.8, smaller),
      row('refit', pruned, 0.8, smaller + whole),
      row('report', originals, 0.7 + smaller, smaller),
    ])
  }
  const [own, small] = predictors(store, manifest, device.key).map(({ predictor }) => predictor)
  expect(own!.quality(originals).value).toBe(0.7)
  expect(small!.quality(originals).value).toBeCloseTo(0.67, 10)
  for (const predictor of [own!, small!]) {
    const lost = predictor.originalQuality - predictor.quality(pruned).value
    expect(lost).toBeGreaterThan(0.025)
    expect(lost).toBeLessThan(0.05)
  }
  store.close()
})

/** A model of two blocks at two input sizes, of which nothing is measured. */
async function opened() {
  const folder = await temporaryFolder()
  const sizes: readonly Size[] = [[8, 8], [6, 6]] // biome-ignore format: a size each
  const manifest = { ...(await buildSample(openZoo(join(folder, 'zoo')))), sizes }
  const store = openProfiles(join(folder, 'profiles.db'))
  store.saveModel(manifest)
  store.saveDevice(device)
  return { store, manifest, sizes }
}

/** The same with what a build measures at the given speed of the machine. */
async function built() {
  const { store, manifest, sizes } = await opened()
  /** in milliseconds on an undisturbed machine; borders cost something too */
  const partMs = (descendant: string, size: Size) => (descendant === 'original' ? 4 : 1.6) * (size[0] / 8) ** 2
  const wholeMs = (descendants: readonly string[], size: Size) =>
    0.2 + descendants.reduce((total, each) => total + partMs(each, size), 0)
  const measure = (slow: { readonly parts: number; readonly wholes: number }, wholes: readonly string[][]) => {
    for (const size of sizes) {
      for (const block of [0, 1]) {
        store.saveLosses([{ ...loss(sample, block, 'prune50'), size }])
        for (const descendant of ['original', 'prune50']) {
          const ms = partMs(descendant, size) * (size === sizes[0] ? 1 : slow.parts)
          store.saveMeasurements([{ ...measurement(sample, block, descendant, ms), size }])
        }
      }
    }
    for (const size of sizes) {
      const rows = wholes.map((each): Combination => {
        const row = combination(sample, choicesOf(...each))
        return {
          ...row,
          split: 'refit',
          size,
          measured: { ...row.measured, latencyMs: slow.wholes * wholeMs(each, size) },
        }
      })
      store.saveCombinations(rows)
    }
  }
  const shareAt = (size: Size, ...descendants: readonly string[]) => {
    const all = predictors(store, manifest, device.key)
    const at = all.find((each) => each.size.join() === size.join())!
    const predicted = at.predictor.latency(choicesOf(...descendants)).value
    const share = predicted / all[0]!.predictor.latency(choicesOf('original', 'original')).value
    return share / (wholeMs(descendants, size) / wholeMs(['original', 'original'], sizes[0]!))
  }
  return { store, sizes, measure, shareAt }
}

it('a machine that was slower while the blocks of one input size were measured changes no prediction for that size', async () => {
  const { store, sizes, measure, shareAt } = await built()
  measure({ parts: 1.6, wholes: 1 }, [
    ['original', 'original'],
    ['original', 'prune50'],
    ['prune50', 'original'],
  ])
  for (const size of sizes) {
    for (const choices of [
      ['original', 'original'],
      ['prune50', 'original'],
      ['prune50', 'prune50'],
    ]) {
      expect(Math.abs(shareAt(size, ...choices) - 1)).toBeLessThan(0.04)
    }
  }
  store.close()
})

it('wholes that an earlier build measured on a faster machine do not pull predictions down', async () => {
  const { store, sizes, measure, shareAt } = await built()
  measure({ parts: 1, wholes: 0.75 }, [
    ['original', 'original'],
    ['prune50', 'original'],
    ['prune50', 'prune50'],
  ])
  measure({ parts: 1, wholes: 1 }, [
    ['original', 'original'],
    ['original', 'prune50'],
    ['prune50', 'original'],
  ])
  for (const size of sizes) expect(Math.abs(shareAt(size, 'prune50', 'prune50') - 1)).toBeLessThan(0.04)
  store.close()
})
