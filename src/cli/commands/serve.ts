import { type Command, Option } from 'commander'
import { keepRecentFrames, startPolisher } from '../../pipeline/index.ts'
import { openRuntime } from '../../runtime/index.ts'
import { checkExposure, createLogger, type Serving, serve } from '../../server/index.ts'
import { polisherOf } from '../live-polish.ts'
import { bytes, list, oneOf, option, wholeNumber, withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'

const levels = ['silent', 'error', 'warn', 'info', 'debug'] as const

export interface ServeFlags {
  readonly zoo: string
  readonly json?: true
  readonly host: string
  readonly port: number
  readonly memory?: number
  readonly workers?: number
  readonly token?: string
  readonly trace?: string
  readonly polish?: true
  readonly adapt?: true
  readonly log: (typeof levels)[number]
}

/** What `serve` and `start` have in common. */
export const withServing = (command: Command, log: ServeFlags['log']): Command =>
  command
    .addOption(
      new Option('--host <address>', 'where to listen; other than this machine needs a token').default('127.0.0.1'),
    )
    .addOption(option('--port <n>', '0 for any that is free', (name) => wholeNumber(name, 0, 65535)).default(8080))
    .addOption(option('--memory <size>', 'budget of all models together; the last one unless given', bytes))
    .addOption(
      option('--workers <n>', 'threads that run networks; one per core unless given', (name) =>
        wholeNumber(name, 1, 256),
      ),
    )
    .addOption(new Option('--token <secret>', 'what clients send as `Authorization: Bearer …`').env('BLOCKSCALE_TOKEN'))
    .addOption(
      new Option(
        '--trace <file>',
        'replay readings of the device (JSON) in place of its own: for tests and demonstrations',
      ),
    )
    .option('--polish', 'make better weights for plans that stay, in the background, from the pictures of the build')
    .option(
      '--adapt',
      'solve the last layers of plans that stay again on what the models see, kept where they agree better with the originals',
    )
    .addOption(
      option('--log <level>', `${levels.join(', ')}; on standard error`, (name) => oneOf(name, levels)).default(log),
    )

/** `blockscale serve` */
export function addServe(program: Command, shell: Shell): void {
  const command = program
    .command('serve')
    .description('the HTTP service: pictures in, answers out, all models within one budget')
    .addOption(
      option(
        '--models <list>',
        'models to load, such as a,b; what was asked for last time, else all, unless given',
        () => list,
      ),
    )
    .action(async (options: ServeFlags & { models?: string[] }) => {
      await serveZoo(shell, options, options.models)
    })
  withExamples(withServing(withJson(withZoo(command)), 'info'), [
    ['serve --memory 64MB', 'all built models within 64 MB, on http://127.0.0.1:8080'],
    ['serve --models signs,sign-detector --port 9000', 'two of them'],
    [`serve --host 0.0.0.0 --token "$(node -p 'crypto.randomUUID()')"`, 'for other machines'],
  ])
}

/** Serves a zoo until the process is asked to stop; requests that were accepted get their answers. */
export async function serveZoo(
  shell: Shell,
  options: ServeFlags,
  models: readonly string[] | undefined,
): Promise<void> {
  checkExposure(options.host, options.token) // before anything is opened or loaded
  shell.endsItself = true
  const logger = createLogger(options.log)
  const { memory, workers, token, trace, host, port } = options
  const polisher = options.polish || options.adapt ? startPolisher() : undefined
  const frames = options.adapt ? keepRecentFrames() : undefined
  const runtime = await openRuntime({
    zoo: options.zoo,
    models: models ?? 'all',
    workers,
    log: logger,
    polisher: polisher && polisherOf(options.zoo, polisher, { polishes: options.polish === true, frames }),
    control: trace === undefined ? 'device' : { trace },
    ...(memory === undefined ? {} : { budget: { memoryBytes: memory } }),
  })
  let serving: Serving
  try {
    serving = await serve(runtime, { host, port, token, logger, onPicture: frames?.see })
  } catch (error) {
    polisher?.close()
    await runtime.close()
    await frames?.close()
    throw error
  }
  const { models: live, unserved } = runtime.live()
  for (const { model, why } of unserved) shell.note(`${shell.style.bold(model)} is not served: ${why}`)
  const loaded = live.map(({ model }) => model)
  if (options.json) shell.json({ url: serving.url, port: serving.port, models: loaded })
  else {
    shell.line(
      `${shell.style.bold(serving.url)} serves ${loaded.join(', ') || 'no model yet: `blockscale build` prepares one'}`,
    )
    shell.line('Ctrl-C stops it')
  }
  await new Promise<void>((resolve) => {
    if (shell.signal.aborted) resolve()
    else shell.signal.addEventListener('abort', () => resolve(), { once: true })
  })
  shell.note('finishing what was accepted')
  polisher?.close()
  await serving.close()
  await frames?.close()
}
