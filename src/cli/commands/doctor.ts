import type { Command } from 'commander'
import { diagnose } from '../diagnose.ts'
import { option, wholeNumber, withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'
import { tableOf } from '../table.ts'

/** `blockscale doctor` */
export function addDoctor(program: Command, shell: Shell): void {
  const command = program
    .command('doctor')
    .description('what this machine has and lacks')
    .addOption(
      option('--port <n>', 'the port that `serve` would use', (name) => wholeNumber(name, 1, 65535)).default(8080),
    )
    .action(async (options: { zoo: string; port: number; json?: true }) => {
      const findings = await diagnose(options.zoo, options.port)
      if (findings.some(({ status }) => status === 'fail')) shell.exitCode = 1
      if (options.json) return shell.json(findings)
      const { green, yellow, red, dim } = shell.style
      const paint = { ok: green, warn: yellow, fail: red }
      const rows = findings.map(({ check, status, detail, hint }) => [
        paint[status](status),
        check,
        hint === null ? detail : `${detail}\n${dim(hint)}`,
      ])
      shell.line(tableOf([{ name: '' }, { name: 'check' }, { name: 'found' }], rows, shell.style))
    })
  withExamples(withJson(withZoo(command)), [
    ['doctor', 'ends with exit code 1 when something is missing'],
    ['doctor --json', 'for a bug report'],
  ])
}
