import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import Database from 'better-sqlite3'
import { BlockscaleError } from '../base/index.ts'
import { steps } from './schema.ts'

export type Connection = Database.Database

/** How long a statement waits for another process that is writing. */
const BUSY_MS = 15_000
const AGAIN_MS = 5

/**
 * Opens a database and brings it to the newest version.
 *
 * @throws BlockscaleError DATABASE_NEWER, DATABASE_FAILED, NOT_FOUND when it is to be read and does not exist
 */
export function connect(path: string, readOnly: boolean, migrations: readonly string[] = steps): Connection {
  return failing(path, () => {
    if (!readOnly) mkdirSync(dirname(path), { recursive: true })
    const connection = readOnly ? openToRead(path, migrations.length) : new Database(path, { timeout: BUSY_MS })
    try {
      refuseNewer(connection, path, migrations.length)
      if (!readOnly) {
        toWriteAhead(connection)
        connection.pragma('synchronous = NORMAL') // with WAL: a power cut may lose the last moments, never the file
        connection.pragma('foreign_keys = ON')
      }
      migrate(connection, path, migrations)
      if (readOnly) connection.pragma('query_only = ON')
      return connection
    } catch (error) {
      connection.close()
      throw error
    }
  })
}

/**
 * Turns a file to WAL mode, in which it stays.
 *
 * Of two processes that do so to a new file at the same moment SQLite refuses one at once, without the waiting that it does
 * everywhere else.
 */
function toWriteAhead(connection: Connection): void {
  const until = performance.now() + BUSY_MS
  for (;;) {
    try {
      connection.pragma('journal_mode = WAL')
      return
    } catch (error) {
      const isBusy = (error as { code?: string }).code?.startsWith('SQLITE_BUSY')
      if (!isBusy || performance.now() > until) throw error
      pause(AGAIN_MS)
    }
  }
}

const pause = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

/** Runs `work`; what SQLite refuses becomes an error that says which file and what to do. */
export function failing<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    if (cause instanceof BlockscaleError) throw cause
    const code = (cause as { code?: string }).code
    if (!code) throw cause // neither SQLite nor the file system: a fault of ours
    const hint =
      Object.entries(HINTS).find(([start]) => code.startsWith(start))?.[1] ??
      'check that the folder exists and is writable, and that the disk is not full'
    throw new BlockscaleError('DATABASE_FAILED', `${path}: ${(cause as Error).message}`, hint, { cause })
  }
}

const HINTS: Readonly<Record<string, string>> = {
  SQLITE_BUSY: 'another process is writing to it; try again when it is done',
  SQLITE_CORRUPT: 'the file is damaged; remove it and run `blockscale profile` for each model, which measures anew',
  SQLITE_NOTADB: 'the file is no database; remove it and run `blockscale profile` for each model, which measures anew',
  SQLITE_FULL: 'the disk is full; free some space',
  SQLITE_READONLY: 'the file or its folder is read-only; allow writing or use another folder with --zoo',
}

function refuseNewer(connection: Connection, path: string, known: number): void {
  const version = versionOf(connection)
  if (version <= known) return
  throw new BlockscaleError(
    'DATABASE_NEWER',
    `${path} has version ${version}, this blockscale knows versions up to ${known}`,
  )
}

function migrate(connection: Connection, path: string, migrations: readonly string[]): void {
  if (versionOf(connection) === migrations.length) return
  connection
    .transaction(() => {
      // Read again: another process may have migrated while this one waited for the lock.
      refuseNewer(connection, path, migrations.length)
      for (let version = versionOf(connection); version < migrations.length; version++) {
        connection.exec(migrations[version]!)
        connection.pragma(`user_version = ${version + 1}`)
      }
    })
    .immediate()
}

const versionOf = (connection: Connection): number => connection.pragma('user_version', { simple: true }) as number

/**
 * A database in WAL mode needs files beside it even to be read. In a folder that cannot be written, and when its version
 * is an older one, it is read as a copy in memory.
 */
function openToRead(path: string, newest: number): Connection {
  if (!existsSync(path)) {
    const hint = 'build a model first with `blockscale build`, or name another folder with --zoo'
    throw new BlockscaleError('NOT_FOUND', `there is no profile database ${path}`, hint)
  }
  try {
    const connection = new Database(path, { readonly: true, timeout: BUSY_MS })
    try {
      return versionOf(connection) < newest ? inMemory(connection.serialize()) : connection
    } catch (error) {
      connection.close()
      throw error
    }
  } catch (error) {
    if (!/^SQLITE_(CANTOPEN|READONLY)/.test((error as { code?: string }).code ?? '')) throw error
    return inMemory(readFileSync(path))
  }
}

function inMemory(bytes: Buffer): Connection {
  if (bytes.length > 19) bytes[18] = bytes[19] = 1 // the header's word that this copy has no write-ahead log
  return new Database(bytes)
}
