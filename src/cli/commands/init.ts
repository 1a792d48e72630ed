import { access, copyFile, mkdir, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Command } from 'commander'
import { BlockscaleError, sha256 } from '../../base/index.ts'
import { lookApart } from '../../pipeline/index.ts'
import { findModel } from '../../zoo/index.ts'
import { withExamples, withJson } from '../options.ts'
import type { Shell } from '../shell.ts'
import { naming } from '../subject.ts'
import { writeOut } from '../write-out.ts'

/** `blockscale init` */
export function addInit(program: Command, shell: Shell): void {
  const command = program
    .command('init')
    .description('write a model.json for a bare .onnx file, to be edited; everything that is guessed is printed')
    .argument('<model.onnx>', 'the file')
    .option('--out <dir>', 'make a package folder with the card and a copy of the file; beside the file unless given')
    .option('--force', 'write over a model.json that is there')
    .action(async (path: string, options: { out?: string; force?: true; json?: true }) => {
      if (!path.toLowerCase().endsWith('.onnx')) {
        throw new BlockscaleError('USAGE', `"${path}" is no .onnx file`, 'name the file of a network')
      }
      const found = await findModel(path)
      const { id, file } = found
      const { card, guessed } = await naming(file, lookApart(found))
      const bytes = await readFile(file)
      const folder = options.out ?? dirname(file)
      const target = join(folder, 'model.json')
      if (!options.force && (await exists(target))) {
        throw new BlockscaleError(
          'USAGE',
          `${target} is already there`,
          'write over it with --force, or name another folder with --out',
        )
      }
      if (options.out !== undefined) {
        await mkdir(folder, { recursive: true })
        await copyFile(file, join(folder, basename(file)))
      }
      const written = { ...card, id, file: basename(file), sha256: sha256(bytes) }
      await writeOut(target, `${JSON.stringify(written, null, 2)}\n`)
      if (options.json) return shell.json({ model: id, file: target, guessed, card: written })
      shell.line(`${target} was written. This was guessed:`)
      for (const each of guessed) shell.line(`  ${each}`)
      shell.line('\nCorrect what is wrong (docs/model-card.md describes each field), then:')
      shell.line(`  blockscale build ${folder} --images DIR`)
    })
  withExamples(withJson(command), [
    ['init nets/mine.onnx', 'writes nets/model.json'],
    ['init nets/mine.onnx --out mine', 'makes the package folder mine'],
  ])
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
