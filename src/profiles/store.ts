import { BlockscaleError, type ModelId, sha256 } from '../base/index.ts'
import type { Manifest } from '../zoo/index.ts'
import { columnsOfLoss, columnsOfMeasurement, deviceOf, iso, lossOf, measurementOf, sizeFilter } from './columns.ts'
import { forgetTimes, readCombinations, saveCombination } from './combination-rows.ts'
import { type Connection, connect } from './database.ts'
import { lastChoices, retain, saveDecision, savePlan, saveSwap } from './history-rows.ts'
import { saveModel } from './model-rows.ts'
import { queryRows } from './query.ts'
import type {
  Combination,
  CombinationFilter,
  DecisionRecord,
  Device,
  Loss,
  Measurement,
  PlanRecord,
  Retention,
  Row,
  Size,
  SwapRecord,
} from './rows.ts'
import { Rows } from './table-rows.ts'

export const inspectKinds = [
  'models',
  'blocks',
  'descendants',
  'measurements',
  'combinations',
  'plans',
  'swaps',
  'decisions',
] as const
export type InspectKind = (typeof inspectKinds)[number]

export interface ProfileStore {
  readonly path: string
  /** Takes over blocks and descendants; what was measured of files that changed is forgotten, the rest is kept. */
  saveModel(manifest: Manifest): void
  /** Forgets a model with all that was measured of it. */
  removeModel(model: ModelId): void
  saveDevice(device: Device): void
  devices(): Device[]
  /**
   * The newest measurement of a descendant on a device at a size replaces the one before. Times of the model's wholes there
   * that predictions are fitted on are forgotten: they are in the scale of how fast the machine was then.
   */
  saveMeasurements(rows: readonly Measurement[]): void
  measurements(where: { model: ModelId; device: string; size?: Size | undefined }): Measurement[]
  saveLosses(rows: readonly Loss[]): void
  losses(where: { model: ModelId; size?: Size | undefined }): Loss[]
  /** Changes whenever something changes that predictions of a model on a device are fitted to. */
  stamp(where: { model: ModelId; device: string }): string
  /** One row for each model, size, device, split and choices; the newest replaces the one before. */
  saveCombinations(rows: readonly Combination[]): void
  combinations(where: CombinationFilter): Combination[]
  /** @returns the plan's number, for swaps and decisions */
  savePlan(plan: PlanRecord): number
  /** The choices of the plan that was last written down for a model, by descendant and block, and its input size. */
  lastChoices(model: ModelId): { readonly choices: Readonly<Record<string, string>>; readonly size: Size } | undefined
  saveSwap(swap: SwapRecord): void
  saveDecision(decision: DecisionRecord): void
  /** Deletes the oldest rows beyond the numbers given. */
  retain(limits?: Retention): void
  /** Rows with readable column names and units, as `inspect` prints them. */
  inspect(kind: InspectKind): Row[]
  /** Rows of a statement that reads. @throws BlockscaleError USAGE when it would write or is no SQL */
  query(sql: string): Row[]
  close(): void
}

/**
 * Opens (and unless `readOnly` makes or migrates) a profile database.
 *
 * @throws BlockscaleError DATABASE_NEWER, DATABASE_FAILED, NOT_FOUND when it is to be read and does not exist
 */
export function openProfiles(path: string, options: { readonly readOnly?: boolean } = {}): ProfileStore {
  return new SqliteStore(path, connect(path, options.readOnly ?? false))
}

class SqliteStore implements ProfileStore {
  readonly path: string
  readonly #rows: Rows

  constructor(path: string, connection: Connection) {
    this.path = path
    this.#rows = new Rows(path, connection)
  }

  saveModel(manifest: Manifest): void {
    saveModel(this.#rows, manifest)
  }

  removeModel(model: ModelId): void {
    this.#rows.atomically(() => {
      this.#rows.run('DELETE FROM models WHERE model = ?', model)
    })
  }

  saveDevice(device: Device): void {
    this.#rows.atomically(() =>
      this.#rows.put('devices', ['device'], {
        device: device.key,
        cpu: device.cpu,
        features: device.features,
        cores: device.cores,
        memory_bytes: device.memoryBytes,
        platform: device.platform,
        onnxruntime_version: device.runtimeVersion,
        seen_at: iso(Date.now()),
      }),
    )
  }

  devices(): Device[] {
    return this.#rows.reading(() => this.#rows.all('SELECT * FROM devices ORDER BY seen_at DESC').map(deviceOf))
  }

  saveMeasurements(rows: readonly Measurement[]): void {
    const key = ['model', 'block', 'descendant', 'device', 'input_height', 'input_width']
    this.#rows.atomically(() => {
      for (const row of rows) this.#rows.put('measurements', key, columnsOfMeasurement(row))
      for (const { model, device } of new Map(rows.map((row) => [`${row.model} ${row.device}`, row])).values()) {
        forgetTimes(this.#rows, model, device)
      }
    })
  }

  measurements(where: { model: ModelId; device: string; size?: Size | undefined }): Measurement[] {
    return this.#rows.reading(() =>
      this.#rows
        .all(
          `SELECT m.* FROM measurements m JOIN blocks b USING (model, block)
          WHERE m.model = ? AND m.device = ? ${sizeFilter(where.size)} ORDER BY b.position, m.descendant`,
          where.model,
          where.device,
          ...(where.size ?? []),
        )
        .map(measurementOf),
    )
  }

  saveLosses(rows: readonly Loss[]): void {
    this.#rows.atomically(() => {
      for (const row of rows) {
        this.#rows.put('losses', ['model', 'block', 'descendant', 'input_height', 'input_width'], columnsOfLoss(row))
      }
    })
  }

  losses(where: { model: ModelId; size?: Size | undefined }): Loss[] {
    return this.#rows.reading(() =>
      this.#rows
        .all(
          `SELECT l.* FROM losses l JOIN blocks b USING (model, block)
          WHERE l.model = ? ${sizeFilter(where.size)} ORDER BY b.position, l.descendant`,
          where.model,
          ...(where.size ?? []),
        )
        .map(lossOf),
    )
  }

  stamp({ model, device }: { model: ModelId; device: string }): string {
    return this.#rows.reading(() => {
      const all = (sql: string, ...values: string[]) => this.#rows.all(sql, model, ...values)
      return sha256(
        JSON.stringify([
          all('SELECT * FROM measurements WHERE model = ? AND device = ? ORDER BY block, descendant', device),
          all('SELECT * FROM losses WHERE model = ? ORDER BY block, descendant'),
          // Of all devices: qualities are the same everywhere. The checksum stands for the choices.
          all('SELECT * FROM combinations WHERE model = ? ORDER BY combination'),
        ]),
      )
    })
  }

  saveCombinations(combinations: readonly Combination[]): void {
    this.#rows.atomically(() => {
      for (const combination of combinations) saveCombination(this.#rows, combination)
    })
  }

  combinations(where: CombinationFilter): Combination[] {
    return readCombinations(this.#rows, where)
  }

  lastChoices(model: ModelId) {
    return this.#rows.reading(() => lastChoices(this.#rows, model))
  }

  savePlan(plan: PlanRecord): number {
    return savePlan(this.#rows, plan)
  }

  saveSwap(swap: SwapRecord): void {
    saveSwap(this.#rows, swap)
  }

  saveDecision(decision: DecisionRecord): void {
    saveDecision(this.#rows, decision)
  }

  retain(limits: Retention = {}): void {
    retain(this.#rows, limits)
  }

  inspect(kind: InspectKind): Row[] {
    if (!inspectKinds.includes(kind)) {
      throw new BlockscaleError('USAGE', `nothing is kept about "${kind}"`, `ask for one of ${inspectKinds.join(', ')}`)
    }
    return this.#rows.reading(() => this.#rows.all(`SELECT * FROM v_${kind}`)) as Row[]
  }

  query(sql: string): Row[] {
    return queryRows(this.path, sql)
  }

  close(): void {
    this.#rows.close()
  }
}
