import type { Command } from 'commander'
import { pull } from '../../zoo/index.ts'
import { withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'

/** `blockscale pull` */
export function addPull(program: Command, shell: Shell): void {
  const command = program
    .command('pull')
    .description(
      'fetch a model of the catalogue, checked by its sha256; an interrupted download goes on where it stopped',
    )
    .argument('<model>', 'a model of the catalogue')
    .option('--from <dir>', 'take the file from this folder (or below), where it is known by its checksum')
    .action(async (model: string, options: { zoo: string; from?: string; json?: true }) => {
      shell.whenInterrupted = 'what came so far is kept, and the next pull goes on from there'
      const { from, zoo } = options
      const found = await pull(model, { zoo, from, progress: shell.progress, signal: shell.signal })
      if (options.json) {
        const { sha256, source } = found.card ?? {}
        return shell.json({
          model: found.id,
          file: found.file,
          sha256: sha256 ?? null,
          licence: source?.licence ?? null,
        })
      }
      shell.line(`${found.id} is in ${found.folder}`)
      if (found.card?.source) shell.line(`licence: ${found.card.source.licence}`)
      shell.line(`next: blockscale build ${found.id} --images DIR`)
    })
  withExamples(withJson(withZoo(command)), [
    ['pull mnist', 'download, check and install'],
    ['pull mobilenetv2 --from ~/models', 'take the file from a folder'],
  ])
}
