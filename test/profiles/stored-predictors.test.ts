import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openProfiles, predictors } from '../../src/profiles/index.ts'
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
