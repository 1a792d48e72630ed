import { Command } from 'commander'
import { packageVersion } from '../base/index.ts'
import { addAdapt } from './commands/adapt.ts'
import { addBench } from './commands/bench.ts'
import { addBuild } from './commands/build.ts'
import { addCompletion } from './commands/completion.ts'
import { addDoctor } from './commands/doctor.ts'
import { addEval } from './commands/eval.ts'
import { addExport } from './commands/export.ts'
import { addFrontier } from './commands/frontier.ts'
import { addInit } from './commands/init.ts'
import { addInspect } from './commands/inspect.ts'
import { addModels } from './commands/models.ts'
import { addPlan } from './commands/plan.ts'
import { addProfile } from './commands/profile.ts'
import { addPull } from './commands/pull.ts'
import { addRun } from './commands/run.ts'
import { addServe } from './commands/serve.ts'
import { addStart } from './commands/start.ts'
import type { Shell } from './shell.ts'

/** All commands; what they print goes through `shell`, and what commander refuses is thrown as a `CommanderError`. */
export function createProgram(shell: Shell): Command {
  const program = new Command('blockscale')
    .description(
      'Runs several vision networks on one small machine, inside the memory, latency and CPU that are there.',
    )
    .version(packageVersion, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'say how a command is used')
    .helpCommand('help [command]', 'say how a command is used')
    .configureHelp({ sortSubcommands: false })
    .configureOutput({
      writeOut: (text) => shell.raw(text),
      writeErr: (text) => shell.note(text.trimEnd()),
      outputError: () => {}, // told by `run`, in the form of all errors
    })
    .enablePositionalOptions()
    .exitOverride()
    .addHelpText('after', '\nA first look: blockscale start, then http://127.0.0.1:8080')
  const commands = [
    addModels,
    addPull,
    addInit,
    addBuild,
    addProfile,
    addPlan,
    addFrontier,
    addEval,
    addRun,
    addExport,
    addAdapt,
    addInspect,
    addServe,
    addStart,
    addBench,
    addDoctor,
    addCompletion,
  ]
  for (const add of commands) add(program, shell)
  return program
}
