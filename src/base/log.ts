/** What the rooms below the server write to; the server passes a pino logger, the command line its own. */
export interface Log {
  info(fields: Readonly<Record<string, unknown>>, message: string): void
  warn(fields: Readonly<Record<string, unknown>>, message: string): void
  error(fields: Readonly<Record<string, unknown>>, message: string): void
}

export const silentLog: Log = { info() {}, warn() {}, error() {} }

/** Progress of long work: `step` names what is being done; `done` of `total` are counted in units of work. */
export interface Progress {
  step(name: string, total?: number): void
  advance(done?: number): void
  note(text: string): void
}

export const silentProgress: Progress = { step() {}, advance() {}, note() {} }
