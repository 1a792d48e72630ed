/** Where text is written to; a stream of Node's, or a list in tests. */
export interface Output {
  write(text: string): unknown
  readonly isTTY?: boolean | undefined
  readonly columns?: number | undefined
}

/** All that a command touches of the world it is called from. */
export interface Terminal {
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
  /** aborted by Ctrl-C or SIGTERM */
  readonly signal: AbortSignal
}

/** Colours and weights for terminals; elsewhere the text as it is. */
export interface Style {
  bold(text: string): string
  dim(text: string): string
  red(text: string): string
  green(text: string): string
  yellow(text: string): string
}

/** Colour only where a person looks at it: on a terminal, unless NO_COLOR asks for none. */
export function styleFor(output: Output, env: Terminal['env']): Style {
  const isColoured = output.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb'
  const paint =
    (on: number, off: number) =>
    (text: string): string =>
      isColoured ? `\x1b[${on}m${text}\x1b[${off}m` : text
  return { bold: paint(1, 22), dim: paint(2, 22), red: paint(31, 39), green: paint(32, 39), yellow: paint(33, 39) }
}
