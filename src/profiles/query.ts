import type { Statement } from 'better-sqlite3'
import { BlockscaleError } from '../base/index.ts'
import { connect, failing } from './database.ts'
import type { Row } from './rows.ts'

/** Rows of a statement that reads. @throws BlockscaleError USAGE when it would write or is no SQL */
export function queryRows(path: string, sql: string): Row[] {
  return failing(path, () => {
    // A connection of its own: whatever the statement sets ends with it.
    const connection = connect(path, true)
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
