import type { ModelId } from '../base/index.ts'
import type { Manifest } from '../zoo/index.ts'
import type {
  Combination,
  DecisionRecord,
  Device,
  Loss,
  Measurement,
  PlanRecord,
  Size,
  Split,
  SwapRecord,
} from './rows.ts'

export type InspectKind =
  | 'models'
  | 'blocks'
  | 'descendants'
  | 'measurements'
  | 'combinations'
  | 'plans'
  | 'swaps'
  | 'decisions'
  | 'devices'
  | 'losses'

export type Row = Readonly<Record<string, string | number | null>>

export interface ProfileStore {
  readonly path: string
  /** Takes over blocks and descendants; what was measured of files that changed is forgotten, the rest is kept. */
  saveModel(manifest: Manifest): void
  removeModel(model: ModelId): void
  saveDevice(device: Device): void
  devices(): Device[]
  /** The newest measurement of a descendant on a device at a size replaces the one before. */
  saveMeasurements(rows: readonly Measurement[]): void
  measurements(where: { model: ModelId; device: string; size?: Size }): Measurement[]
  saveLosses(rows: readonly Loss[]): void
  losses(where: { model: ModelId; size?: Size }): Loss[]
  /** One row for each model, size, device, split and choices; the newest replaces the one before. */
  saveCombinations(rows: readonly Combination[]): void
  combinations(where: { model: ModelId; device?: string; size?: Size; split?: Split }): Combination[]
  /** @returns the plan's number, for swaps and decisions */
  savePlan(plan: PlanRecord): number
  saveSwap(swap: SwapRecord): void
  saveDecision(decision: DecisionRecord): void
  /** Deletes the oldest plans, swaps, decisions and combinations beyond the numbers given. */
  retain(limits?: { plans?: number; swaps?: number; decisions?: number; combinations?: number }): void
  /** Rows with readable column names and units, as `inspect` prints them. */
  inspect(kind: InspectKind): Row[]
  /** Rows of a reading statement. @throws BlockscaleError USAGE when it would write or is no SQL */
  query(sql: string): Row[]
  close(): void
}

/**
 * Opens (and unless `readOnly` makes or migrates) a profile database.
 *
 * @throws BlockscaleError DATABASE_NEWER, DATABASE_FAILED
 */
export declare function openProfiles(path: string, options?: { readOnly?: boolean }): ProfileStore
