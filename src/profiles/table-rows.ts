import type { Statement } from 'better-sqlite3'
import type { Columns } from './columns.ts'
import { type Connection, failing } from './database.ts'

/** Statements of one connection, each prepared once. */
export class Rows {
  readonly #path: string
  readonly #db: Connection
  readonly #statements = new Map<string, Statement<unknown[], Columns>>()

  constructor(path: string, connection: Connection) {
    this.#path = path
    this.#db = connection
  }

  /** Takes the write lock at once, so that two processes wait for each other and neither fails halfway. */
  atomically<T>(work: () => T): T {
    return failing(this.#path, () => this.#db.transaction(work).immediate())
  }

  /** All that `work` reads is from one moment. */
  reading<T>(work: () => T): T {
    return failing(this.#path, () => this.#db.transaction(work).deferred())
  }

  #statement(sql: string): Statement<unknown[], Columns> {
    let statement = this.#statements.get(sql)
    if (!statement) {
      statement = this.#db.prepare<unknown[], Columns>(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  all(sql: string, ...values: readonly unknown[]): Columns[] {
    return this.#statement(sql).all(...values)
  }

  run(sql: string, ...values: readonly unknown[]): void {
    this.#statement(sql).run(...values)
  }

  /** Inserts a row; where one with the same key is there, its other columns are replaced. @returns the row's number */
  put(table: string, key: readonly string[], columns: Columns): number {
    const names = Object.keys(columns)
    const rest = names.filter((name) => !key.includes(name))
    const replace = `ON CONFLICT (${key.join(', ')}) DO UPDATE SET ${rest.map((name) => `${name} = excluded.${name}`).join(', ')}`
    const sql = `INSERT INTO ${table} (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')}) ${key.length ? replace : ''}`
    return Number(this.#statement(sql).run(...Object.values(columns)).lastInsertRowid)
  }

  close(): void {
    this.#db.close()
  }
}
