import { CommanderError } from 'commander'
import { asBlockscaleError, errorCatalogue } from '../base/index.ts'
import { createProgram } from './program.ts'
import { Shell } from './shell.ts'
import type { Terminal } from './terminal.ts'

const INTERRUPTED = 130
const WRONG_USE = 2

/**
 * Runs one command.
 *
 *     await run(['plan', 'mobilenetv2', '--memory', '4MB'], terminal) // → 0
 *
 * @param argv without the program's own name
 * @returns the exit code: 0 done, 1 failed, 2 wrong use, 3 no plan fits, 130 interrupted
 */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  const shell = new Shell(terminal)
  const work = perform(argv, shell)
  const interrupted = new Promise<number>((resolve) => {
    const stop = () => {
      if (shell.endsItself) return
      shell.note(`\ninterrupted: ${shell.whenInterrupted}`)
      resolve(INTERRUPTED)
    }
    if (terminal.signal.aborted) stop()
    else terminal.signal.addEventListener('abort', stop, { once: true })
  })
  return Promise.race([work, interrupted])
}

async function perform(argv: readonly string[], shell: Shell): Promise<number> {
  const program = createProgram(shell)
  const name = argv.find((each) => program.commands.some((command) => command.name() === each))
  try {
    if (argv.length === 0) {
      program.outputHelp({ error: true })
      return WRONG_USE
    }
    await program.parseAsync([...argv], { from: 'user' })
    return shell.exitCode
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0
    const wantsJson = argv.includes('--json')
    const { code, message, hint } =
      thrown instanceof CommanderError ? wrongUse(thrown, name) : asBlockscaleError(thrown)
    if (wantsJson) shell.errorJson(code, message, hint)
    else shell.error(message, hint)
    if (code === 'INTERNAL' && shell.env.BLOCKSCALE_DEBUG) shell.note(String((thrown as Error).stack))
    return errorCatalogue[code].exit
  }
}

/** What commander refuses: unknown commands and options, missing arguments. */
function wrongUse(error: CommanderError, name: string | undefined): { code: 'USAGE'; message: string; hint: string } {
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n')
  const suggestion = rest.join(' ').trim()
  const help = `see \`blockscale help${name ? ` ${name}` : ''}\``
  return {
    code: 'USAGE',
    message: first,
    hint: suggestion ? `${suggestion.replace(/^\(|\)$/g, '')} — or ${help}` : help,
  }
}
