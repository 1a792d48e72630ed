import { type TerminalProgress, terminalProgress } from './progress.ts'
import { type Style, styleFor, type Terminal } from './terminal.ts'

/**
 * What commands talk through. Facts go to standard output; progress, notes and errors to standard error, so that with
 * `--json` standard output is JSON and nothing else.
 */
export class Shell {
  readonly env: Terminal['env']
  readonly signal: AbortSignal
  readonly style: Style
  readonly progress: TerminalProgress
  /** what the command ends with when nothing is thrown */
  exitCode = 0
  /** a command that ends by itself when `signal` is aborted; others are given up at once */
  endsItself = false
  /** said when the command is interrupted */
  whenInterrupted = 'nothing was left half-written'
  readonly #terminal: Terminal

  constructor(terminal: Terminal) {
    this.#terminal = terminal
    this.env = terminal.env
    this.signal = terminal.signal
    this.style = styleFor(terminal.stdout, terminal.env)
    this.progress = terminalProgress(terminal.stderr)
  }

  get columns(): number {
    return this.#terminal.stdout.columns ?? 120
  }

  line(text = ''): void {
    this.progress.end()
    this.#terminal.stdout.write(`${text}\n`)
  }

  json(value: unknown): void {
    this.progress.end()
    this.#terminal.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
  }

  /** Text as it is, such as a completion script. */
  raw(text: string): void {
    this.#terminal.stdout.write(text)
  }

  note(text: string): void {
    this.progress.end()
    this.#terminal.stderr.write(`${text}\n`)
  }

  error(message: string, hint: string): void {
    this.progress.end()
    const { red, dim } = styleFor(this.#terminal.stderr, this.env)
    this.#terminal.stderr.write(`${red('error:')} ${message}\n${hint ? `${dim('hint:')} ${hint}\n` : ''}`)
  }

  errorJson(code: string, message: string, hint: string): void {
    this.progress.end()
    this.#terminal.stderr.write(`${JSON.stringify({ error: { code, message, hint } })}\n`)
  }
}
