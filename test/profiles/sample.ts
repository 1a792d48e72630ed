import { blockId, type DescendantId, descendantId, type ModelId, modelId } from '../../src/base/index.ts'
import type { Combination, Device, Loss, Measurement } from '../../src/profiles/index.ts'
import type { Choices } from '../../src/zoo/index.ts'

export const device: Device = {
  key: 'x64-test',
  cpu: 'A CPU',
  features: 'avx2 fma',
  cores: 2,
  memoryBytes: 4e9,
  platform: 'linux',
  runtimeVersion: '1.30.0',
}

export const measurement = (model: ModelId, block: number, descendant: string, latencyP50Ms = 1): Measurement => ({
  model,
  block: blockId(`b${block}`),
  descendant: descendantId(descendant),
  device: device.key,
  size: [8, 8],
  latencyP50Ms,
  latencyP95Ms: latencyP50Ms * 1.2,
  anonymousBytes: 1000,
  mappedBytes: 2000,
  loadMs: 0.5,
  samples: 100,
  memoryMethod: 'smaps',
  measuredAt: Date.UTC(2026, 0, 2),
})

export const loss = (model: ModelId, block: number, descendant: string): Loss => ({
  model,
  block: blockId(`b${block}`),
  descendant: descendantId(descendant),
  size: [8, 8],
  qualityLoss: 0.01,
  divergence: 0.02,
  outputError: 0.1,
  pictures: 200,
})

export const choicesOf = (...descendants: readonly string[]): Choices =>
  Object.fromEntries(descendants.map((d, i) => [`b${i}`, d as DescendantId])) as Choices

export const combination = (model: ModelId, choices: Choices, quality = 0.7): Combination => ({
  model,
  size: [8, 8],
  device: device.key,
  split: 'report',
  metric: 'top1',
  choices,
  predicted: { quality: 0.69, qualityLow: 0.66, qualityHigh: 0.72, latencyMs: 2 },
  measured: { quality, expectedLoss: 0.02, latencyMs: 2.1, memoryBytes: 5000 },
  pictures: 500,
  why: 'random',
  measuredAt: Date.UTC(2026, 0, 2),
})

export const sample = modelId('sample')
