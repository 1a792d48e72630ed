import type { BlockId, DescendantId, ModelId } from '../base/index.ts'
import type { Choices } from '../zoo/index.ts'
import type { Combination, Device, Loss, Measurement, MemoryMethod, Size, Split } from './rows.ts'

/** A row as SQLite takes and gives it. */
export type Columns = Record<string, string | number | null>

export const iso = (ms: number): string => new Date(ms).toISOString()

const text = (value: unknown): string => value as string
const number = (value: unknown): number => value as number
const maybe = (value: string | number | null | undefined): number | undefined => (value as number | null) ?? undefined
const sizeOf = (row: Columns): Size => [number(row.input_height), number(row.input_width)]

const keyOf = (row: Columns): { model: ModelId; block: BlockId; descendant: DescendantId; size: Size } => ({
  model: text(row.model) as ModelId,
  block: text(row.block) as BlockId,
  descendant: text(row.descendant) as DescendantId,
  size: sizeOf(row),
})

const columnsOfKey = (row: Pick<Loss, 'model' | 'block' | 'descendant' | 'size'>): Columns => ({
  model: row.model,
  block: row.block,
  descendant: row.descendant,
  input_height: row.size[0],
  input_width: row.size[1],
})

export const columnsOfMeasurement = (row: Measurement): Columns => ({
  ...columnsOfKey(row),
  device: row.device,
  latency_p50_ms: row.latencyP50Ms,
  latency_p95_ms: row.latencyP95Ms,
  anonymous_bytes: row.anonymousBytes,
  mapped_bytes: row.mappedBytes,
  load_ms: row.loadMs,
  samples: row.samples,
  memory_method: row.memoryMethod,
  measured_at: iso(row.measuredAt),
})

export const measurementOf = (row: Columns): Measurement => ({
  ...keyOf(row),
  device: text(row.device),
  latencyP50Ms: number(row.latency_p50_ms),
  latencyP95Ms: number(row.latency_p95_ms),
  anonymousBytes: number(row.anonymous_bytes),
  mappedBytes: number(row.mapped_bytes),
  loadMs: number(row.load_ms),
  samples: number(row.samples),
  memoryMethod: text(row.memory_method) as MemoryMethod,
  measuredAt: Date.parse(text(row.measured_at)),
})

export const columnsOfLoss = (row: Loss): Columns => ({
  ...columnsOfKey(row),
  quality_loss: row.qualityLoss,
  divergence: row.divergence,
  output_error: row.outputError,
  pictures: row.pictures,
})

export const lossOf = (row: Columns): Loss => ({
  ...keyOf(row),
  qualityLoss: number(row.quality_loss),
  divergence: number(row.divergence),
  outputError: number(row.output_error),
  pictures: number(row.pictures),
})

export const columnsOfCombination = (row: Combination): Columns => ({
  model: row.model,
  device: row.device,
  input_height: row.size[0],
  input_width: row.size[1],
  split: row.split,
  metric: row.metric,
  predicted_quality: row.predicted.quality ?? null,
  predicted_quality_low: row.predicted.qualityLow ?? null,
  predicted_quality_high: row.predicted.qualityHigh ?? null,
  predicted_divergence: row.predicted.divergence ?? null,
  predicted_latency_ms: row.predicted.latencyMs ?? null,
  predicted_memory_bytes: row.predicted.memoryBytes ?? null,
  measured_quality: row.measured.quality ?? null,
  measured_fidelity: row.measured.fidelity ?? null,
  measured_divergence: row.measured.divergence ?? null,
  expected_loss: row.measured.expectedLoss ?? null,
  measured_latency_ms: row.measured.latencyMs ?? null,
  measured_memory_bytes: row.measured.memoryBytes ?? null,
  pictures: row.pictures,
  why: row.why,
  measured_at: iso(row.measuredAt),
})

export const combinationOf = (row: Columns, choices: Choices): Combination => ({
  model: text(row.model) as ModelId,
  size: sizeOf(row),
  device: text(row.device),
  split: text(row.split) as Split,
  metric: text(row.metric),
  choices,
  predicted: {
    quality: maybe(row.predicted_quality),
    qualityLow: maybe(row.predicted_quality_low),
    qualityHigh: maybe(row.predicted_quality_high),
    divergence: maybe(row.predicted_divergence),
    latencyMs: maybe(row.predicted_latency_ms),
    memoryBytes: maybe(row.predicted_memory_bytes),
  },
  measured: {
    quality: maybe(row.measured_quality),
    fidelity: maybe(row.measured_fidelity),
    divergence: maybe(row.measured_divergence),
    expectedLoss: maybe(row.expected_loss),
    latencyMs: maybe(row.measured_latency_ms),
    memoryBytes: maybe(row.measured_memory_bytes),
  },
  pictures: number(row.pictures),
  why: text(row.why),
  measuredAt: Date.parse(text(row.measured_at)),
})

export const deviceOf = (row: Columns): Device => ({
  key: text(row.device),
  cpu: text(row.cpu),
  features: text(row.features),
  cores: number(row.cores),
  memoryBytes: number(row.memory_bytes),
  platform: text(row.platform),
  runtimeVersion: text(row.onnxruntime_version),
})

/** The part of a condition that asks for one input size, where one is asked for. */
export const sizeFilter = (size: Size | undefined): string => (size ? 'AND input_height = ? AND input_width = ?' : '')
