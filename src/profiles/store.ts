import type { Statement } from 'better-sqlite3'
import { BlockscaleError, type ModelId, sha256 } from '../base/index.ts'
import type { Choices, Manifest, ManifestBlock } from '../zoo/index.ts'
import {
  type Columns,
  columnsOfCombination,
  columnsOfLoss,
  columnsOfMeasurement,
  combinationOf,
  deviceOf,
  iso,
  lossOf,
  measurementOf,
} from './columns.ts'
import { type Connection, connect, failing } from './database.ts'
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

export type Row = Readonly<Record<string, string | number | null>>

/** How many rows of the tables that grow are kept. */
export interface Retention {
  readonly plans?: number
  readonly swaps?: number
  readonly decisions?: number
  /** for each model, beside those of the original, which predictions start from */
  readonly combinations?: number
}

export interface ProfileStore {
  readonly path: string
  /** Takes over blocks and descendants; what was measured of files that changed is forgotten, the rest is kept. */
  saveModel(manifest: Manifest): void
  /** Forgets a model with all that was measured of it. */
  removeModel(model: ModelId): void
  saveDevice(device: Device): void
  devices(): Device[]
  /** The newest measurement of a descendant on a device at a size replaces the one before. */
  saveMeasurements(rows: readonly Measurement[]): void
  measurements(where: { model: ModelId; device: string; size?: Size | undefined }): Measurement[]
  saveLosses(rows: readonly Loss[]): void
  losses(where: { model: ModelId; size?: Size | undefined }): Loss[]
  /** One row for each model, size, device, split and choices; the newest replaces the one before. */
  saveCombinations(rows: readonly Combination[]): void
  combinations(where: {
    model: ModelId
    device?: string | undefined
    size?: Size | undefined
    split?: Split | undefined
  }): Combination[]
  /** @returns the plan's number, for swaps and decisions */
  savePlan(plan: PlanRecord): number
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
  readonly #db: Connection
  readonly #statements = new Map<string, Statement<unknown[], Columns>>()

  constructor(path: string, connection: Connection) {
    this.path = path
    this.#db = connection
  }

  saveModel(manifest: Manifest): void {
    this.#atomically(() => {
      const { model } = manifest
      this.#put('models', ['model'], {
        model,
        task: manifest.card.task,
        source_sha256: manifest.source,
        original_bytes: manifest.original.bytes,
        stitched_error: manifest.stitchedError,
        built_with: manifest.builtWith,
        saved_at: iso(Date.now()),
      })
      const known = this.#all('SELECT block, descendant, sha256 FROM descendants WHERE model = ?', model)
      const current = new Map(
        manifest.blocks.flatMap((block) => block.descendants.map((d) => [`${block.id}/${d.id}`, d.file.sha256])),
      )
      for (const { block, descendant, sha256 } of known) {
        if (current.get(`${block}/${descendant}`) === sha256) continue
        this.#run(
          `DELETE FROM combinations WHERE combination IN
            (SELECT combination FROM combination_choices WHERE model = ? AND block = ? AND descendant = ?)`,
          model,
          block,
          descendant,
        )
        this.#run('DELETE FROM descendants WHERE model = ? AND block = ? AND descendant = ?', model, block, descendant)
      }
      const kept = new Set<string>(manifest.blocks.map(({ id }) => id))
      for (const { block } of this.#all('SELECT block FROM blocks WHERE model = ?', model)) {
        if (!kept.has(block as string)) this.#run('DELETE FROM blocks WHERE model = ? AND block = ?', model, block)
      }
      for (const [position, block] of manifest.blocks.entries()) this.#saveBlock(model, position, block)
    })
  }

  #saveBlock(model: ModelId, position: number, block: ManifestBlock): void {
    this.#put('blocks', ['model', 'block'], {
      model,
      block: block.id,
      position,
      inputs: block.inputs.map(({ name }) => name).join(' '),
      outputs: block.outputs.map(({ name }) => name).join(' '),
    })
    for (const descendant of block.descendants) {
      const key = { model, block: block.id, descendant: descendant.id }
      this.#put('descendants', ['model', 'block', 'descendant'], {
        ...key,
        kind: descendant.kind,
        file: descendant.file.path,
        file_bytes: descendant.file.bytes,
        weight_bytes: descendant.weightBytes,
        macs: descendant.macs,
        sha256: descendant.file.sha256,
      })
      this.#run('DELETE FROM parameters WHERE model = ? AND block = ? AND descendant = ?', ...Object.values(key))
      for (const [name, value] of Object.entries(descendant.parameters)) {
        this.#put('parameters', [], { ...key, name, value })
      }
    }
  }

  removeModel(model: ModelId): void {
    this.#atomically(() => {
      this.#run('DELETE FROM models WHERE model = ?', model)
    })
  }

  saveDevice(device: Device): void {
    this.#atomically(() =>
      this.#put('devices', ['device'], {
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
    return this.#reading(() => this.#all('SELECT * FROM devices ORDER BY seen_at DESC').map(deviceOf))
  }

  saveMeasurements(rows: readonly Measurement[]): void {
    const key = ['model', 'block', 'descendant', 'device', 'input_height', 'input_width']
    this.#atomically(() => {
      for (const row of rows) this.#put('measurements', key, columnsOfMeasurement(row))
    })
  }

  measurements(where: { model: ModelId; device: string; size?: Size | undefined }): Measurement[] {
    return this.#reading(() =>
      this.#all(
        `SELECT m.* FROM measurements m JOIN blocks b USING (model, block)
          WHERE m.model = ? AND m.device = ? ${sizeFilter(where.size)} ORDER BY b.position, m.descendant`,
        where.model,
        where.device,
        ...(where.size ?? []),
      ).map(measurementOf),
    )
  }

  saveLosses(rows: readonly Loss[]): void {
    this.#atomically(() => {
      for (const row of rows) {
        this.#put('losses', ['model', 'block', 'descendant', 'input_height', 'input_width'], columnsOfLoss(row))
      }
    })
  }

  losses(where: { model: ModelId; size?: Size | undefined }): Loss[] {
    return this.#reading(() =>
      this.#all(
        `SELECT l.* FROM losses l JOIN blocks b USING (model, block)
          WHERE l.model = ? ${sizeFilter(where.size)} ORDER BY b.position, l.descendant`,
        where.model,
        ...(where.size ?? []),
      ).map(lossOf),
    )
  }

  saveCombinations(rows: readonly Combination[]): void {
    this.#atomically(() => {
      for (const row of rows) this.#saveCombination(row)
    })
  }

  #saveCombination(row: Combination): void {
    const columns = { ...columnsOfCombination(row), choices_sha256: digestOf(row.choices) }
    // Deleted and written anew, so that the numbers grow with time and `retain` keeps the newest.
    this.#run(
      `DELETE FROM combinations WHERE model = ? AND device = ? AND input_height = ? AND input_width = ? AND split = ?
        AND choices_sha256 = ?`,
      row.model,
      row.device,
      ...row.size,
      row.split,
      columns.choices_sha256,
    )
    const combination = this.#put('combinations', [], columns)
    for (const [block, descendant] of Object.entries(row.choices)) {
      this.#put('combination_choices', [], { combination, model: row.model, block, descendant })
    }
  }

  combinations(where: {
    model: ModelId
    device?: string | undefined
    size?: Size | undefined
    split?: Split | undefined
  }): Combination[] {
    const filters = [
      where.device === undefined ? '' : 'AND device = ?',
      where.split === undefined ? '' : 'AND split = ?',
      sizeFilter(where.size),
    ]
    const values = [where.device, where.split, ...(where.size ?? [])].filter((value) => value !== undefined)
    return this.#reading(() => {
      const choices = new Map<unknown, Record<string, unknown>>()
      const rows = this.#all(
        'SELECT combination, block, descendant FROM combination_choices WHERE model = ?',
        where.model,
      )
      for (const { combination, block, descendant } of rows) {
        const each = choices.get(combination) ?? {}
        each[block as string] = descendant
        choices.set(combination, each)
      }
      return this.#all(
        `SELECT * FROM combinations WHERE model = ? ${filters.join(' ')} ORDER BY combination`,
        where.model,
        ...values,
      ).map((row) => combinationOf(row, (choices.get(row.combination) ?? {}) as Choices))
    })
  }

  savePlan(plan: PlanRecord): number {
    return this.#atomically(() => {
      const number = this.#put('plans', [], {
        made_at: iso(plan.at),
        why: plan.why,
        objective: plan.objective,
        status: plan.status,
        memory_limit_bytes: plan.memoryLimitBytes ?? null,
        cores_limit: plan.coresLimit ?? null,
        memory_bytes: plan.memoryBytes ?? null,
        cores: plan.cores ?? null,
        gap: plan.gap ?? null,
        solve_ms: plan.solveMs,
      })
      for (const { model, size, choices, predicted, verified } of plan.models) {
        this.#put('plan_models', [], {
          plan: number,
          model,
          input_height: size[0],
          input_width: size[1],
          predicted_quality: predicted.quality ?? null,
          predicted_quality_low: predicted.qualityLow ?? null,
          predicted_latency_ms: predicted.latencyMs ?? null,
          predicted_memory_bytes: predicted.memoryBytes ?? null,
          verified_quality: verified?.quality ?? null,
          verified_latency_ms: verified?.latencyMs ?? null,
          verified_memory_bytes: verified?.memoryBytes ?? null,
        })
        for (const [block, descendant] of Object.entries(choices)) {
          this.#put('plan_choices', [], { plan: number, model, block, descendant })
        }
      }
      return number
    })
  }

  saveSwap(swap: SwapRecord): void {
    this.#atomically(() => {
      const number = this.#put('swaps', [], {
        swapped_at: iso(swap.at),
        model: swap.model,
        from_plan: swap.from ?? null,
        to_plan: swap.to ?? null,
        blocks: swap.blocks.length,
        bytes: swap.bytes,
        ms: swap.ms,
        why: swap.why,
      })
      for (const { block, from, to } of swap.blocks) {
        this.#put('swap_blocks', [], { swap: number, block, from_descendant: from ?? null, to_descendant: to })
      }
    })
  }

  saveDecision(decision: DecisionRecord): void {
    this.#atomically(() => {
      const number = this.#put('decisions', [], {
        decided_at: iso(decision.at),
        action: decision.action,
        why: decision.why,
        plan: decision.plan ?? null,
      })
      for (const [name, value] of Object.entries(decision.readings)) {
        this.#put('readings', [], { decision: number, name, value })
      }
    })
  }

  retain({ plans = 5_000, swaps = 20_000, decisions = 20_000, combinations = 2_000 }: Retention = {}): void {
    this.#atomically(() => {
      this.#run('DELETE FROM swaps WHERE swap <= (SELECT max(swap) FROM swaps) - ?', swaps)
      this.#run('DELETE FROM decisions WHERE decision <= (SELECT max(decision) FROM decisions) - ?', decisions)
      this.#run('DELETE FROM plans WHERE plan <= (SELECT max(plan) FROM plans) - ?', plans)
      this.#run(
        `DELETE FROM combinations WHERE combination IN (SELECT combination FROM
          (SELECT combination, row_number() OVER (PARTITION BY model ORDER BY combination DESC) AS age
            FROM combinations WHERE why <> 'original') WHERE age > ?)`,
        combinations,
      )
    })
  }

  inspect(kind: InspectKind): Row[] {
    if (!inspectKinds.includes(kind)) {
      throw new BlockscaleError('USAGE', `nothing is kept about "${kind}"`, `ask for one of ${inspectKinds.join(', ')}`)
    }
    return this.#reading(() => this.#all(`SELECT * FROM v_${kind}`)) as Row[]
  }

  query(sql: string): Row[] {
    return failing(this.path, () => {
      // A connection of its own: whatever the statement sets ends with it.
      const connection = connect(this.path, true)
      try {
        let statement: Statement<unknown[], Row>
        try {
          statement = connection.prepare(sql)
        } catch (cause) {
          throw new BlockscaleError(
            'USAGE',
            `the statement cannot be read: ${(cause as Error).message}`,
            'ask for `SELECT name FROM sqlite_schema` to see the tables; the v_… views are meant for reading',
            { cause },
          )
        }
        // ATTACH and VACUUM INTO count as reading in SQLite but can make files; they give no rows.
        if (!statement.readonly || !statement.reader) {
          throw new BlockscaleError('USAGE', 'the statement would write', 'only statements that read are taken')
        }
        return statement.all()
      } finally {
        connection.close()
      }
    })
  }

  close(): void {
    this.#db.close()
  }

  /** Takes the write lock at once, so that two processes wait for each other and neither fails halfway. */
  #atomically<T>(work: () => T): T {
    return failing(this.path, () => this.#db.transaction(work).immediate())
  }

  /** All that `work` reads is from one moment. */
  #reading<T>(work: () => T): T {
    return failing(this.path, () => this.#db.transaction(work).deferred())
  }

  #statement(sql: string): Statement<unknown[], Columns> {
    let statement = this.#statements.get(sql)
    if (!statement) {
      statement = this.#db.prepare<unknown[], Columns>(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  #all(sql: string, ...values: readonly unknown[]): Columns[] {
    return this.#statement(sql).all(...values)
  }

  #run(sql: string, ...values: readonly unknown[]): void {
    this.#statement(sql).run(...values)
  }

  /** Inserts a row; where one with the same key is there, its other columns are replaced. @returns the row's number */
  #put(table: string, key: readonly string[], columns: Columns): number {
    const names = Object.keys(columns)
    const rest = names.filter((name) => !key.includes(name))
    const replace = `ON CONFLICT (${key.join(', ')}) DO UPDATE SET ${rest.map((name) => `${name} = excluded.${name}`).join(', ')}`
    const sql = `INSERT INTO ${table} (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')}) ${key.length ? replace : ''}`
    return Number(this.#statement(sql).run(...Object.values(columns)).lastInsertRowid)
  }
}

const sizeFilter = (size: Size | undefined): string => (size ? 'AND input_height = ? AND input_width = ?' : '')

const digestOf = (choices: Choices): string =>
  sha256(JSON.stringify(Object.entries(choices).sort(([a], [b]) => (a < b ? -1 : 1))))
