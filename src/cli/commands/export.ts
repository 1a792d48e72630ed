import type { Command } from 'commander'
import { BlockscaleError, formatBytes, sha256 } from '../../base/index.ts'
import { openSession } from '../../engine/index.ts'
import { openZoo } from '../../zoo/index.ts'
import { withExamples, withJson, withZoo } from '../options.ts'
import { polishedForm } from '../polishing.ts'
import type { Shell } from '../shell.ts'
import { openSubject, withForm } from '../subject.ts'
import { writeOut } from '../write-out.ts'

interface ExportFlags {
  readonly zoo: string
  readonly json?: true
  readonly plan?: string
  readonly choose?: string
  readonly out: string
  readonly polish?: true
  readonly images?: string
}

/** `blockscale export` */
export function addExport(program: Command, shell: Shell): void {
  const command = program
    .command('export')
    .description('the chosen combination as one plain ONNX file, for any runtime')
    .argument('<model>', 'a built model')
    .requiredOption('-o, --out <file>', 'the .onnx file to write')
    .option('--polish', 'with better weights for exactly this choice, made now unless the zoo has them')
    .option('--images <dir>', 'pictures for --polish; those of the build unless given')
    .action(async (name: string, options: ExportFlags) => {
      if (options.plan === undefined && options.choose === undefined) {
        throw new BlockscaleError(
          'USAGE',
          'nothing is chosen',
          'give a plan with --plan FILE, or descendants with --choose',
        )
      }
      if (!options.out.toLowerCase().endsWith('.onnx')) {
        throw new BlockscaleError('USAGE', `--out: "${options.out}" is no .onnx`, 'give a name that ends in .onnx')
      }
      if (options.images !== undefined && !options.polish) {
        throw new BlockscaleError('USAGE', '--images are pictures for --polish', 'add --polish')
      }
      const { model, variant, built, size } = await openSubject(name, options)
      const polished = options.polish && (await polishedForm(shell, openZoo(options.zoo), built!, size, options.images))
      const bytes = polished || variant!
      const session = await openSession(bytes) // what could not be loaded is not written
      await session.release()
      await writeOut(options.out, bytes)
      const facts = {
        model,
        file: options.out,
        bytes: bytes.byteLength,
        sha256: sha256(bytes),
        choices: built!.choices,
      }
      if (options.json) return shell.json(facts)
      const choices = Object.entries(facts.choices).map(([block, descendant]) => `${block}=${descendant}`)
      shell.line(`${options.out}: ${formatBytes(facts.bytes)}, sha256 ${facts.sha256}`)
      shell.line(`${model} with ${choices.join(' ')}`)
    })
  withExamples(withForm(withJson(withZoo(command))), [
    ['export signs --plan plan.json -o small.onnx', 'what a plan chose'],
    ['export signs --plan plan.json --polish -o small.onnx', 'with weights made for it'],
    ['export signs --choose b1=int8 -o mixed.onnx', 'any choice'],
  ])
}
