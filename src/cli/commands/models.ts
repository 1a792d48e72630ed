import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { formatBytes } from '../../base/index.ts'
import { firstInput } from '../../tasks/index.ts'
import { listModels, openZoo } from '../../zoo/index.ts'
import { withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'
import { tableOf } from '../table.ts'

interface ModelRow {
  readonly model: string
  readonly task: string
  readonly title: string | null
  /** `bundled` and `pulled` are installed, `catalogue` can be pulled, `file` was built from a bare .onnx or another folder */
  readonly where: 'bundled' | 'pulled' | 'catalogue' | 'file'
  readonly built: boolean
  /** height and width of the input */
  readonly inputSize: readonly [number, number]
  readonly bytes: number | null
  readonly licence: string | null
  readonly url: string | null
}

/** `blockscale models` */
export function addModels(program: Command, shell: Shell): void {
  const command = program
    .command('models')
    .description('the models that are installed, built, or in the catalogue')
    .action(async (options: { zoo: string; json?: true }) => {
      const rows = await modelRows(options.zoo)
      if (options.json) return shell.json(rows)
      const columns = [{ name: 'model' }, { name: 'task' }, { name: 'input' }, { name: 'where' }, { name: 'built' }]
      const more = [
        { name: 'size', right: true },
        { name: 'licence', width: 24 },
      ]
      shell.line(
        tableOf(
          [...columns, ...more],
          rows.map(({ model, task, inputSize, where, built, bytes, licence }) => [
            model,
            task,
            inputSize.join('×'),
            where,
            built ? 'yes' : '',
            bytes === null ? '' : formatBytes(bytes),
            licence,
          ]),
          shell.style,
        ),
      )
      const fetchable = rows.filter(({ where }) => where === 'catalogue').length
      if (fetchable > 0)
        shell.note(`\n${fetchable} of the catalogue are not installed: \`blockscale pull <model>\` fetches one`)
    })
  withExamples(withJson(withZoo(command)), [
    ['models', 'what there is'],
    ['models --json', 'the same for programs'],
  ])
}

async function modelRows(zooFolder: string): Promise<ModelRow[]> {
  const zoo = openZoo(zooFolder)
  const built = await zoo.models()
  const listed = await listModels({ zoo: zooFolder })
  const rows = await Promise.all(
    listed.map(
      async ({ id, card, where, folder }): Promise<ModelRow> => ({
        model: id,
        task: card.task,
        title: card.title ?? null,
        where,
        built: built.includes(id),
        inputSize: firstInput(card).size,
        bytes: folder ? await bytesOf(join(folder, card.file)) : (card.source?.bytes ?? null),
        licence: card.source?.licence ?? null,
        url: card.source?.url ?? null,
      }),
    ),
  )
  for (const model of built) {
    if (listed.some(({ id }) => id === model)) continue
    const { card, original, sizes } = await zoo.manifest(model)
    rows.push({
      model,
      task: card.task,
      title: card.title ?? null,
      where: 'file',
      built: true,
      inputSize: sizes[0]!,
      bytes: original.bytes,
      licence: card.source?.licence ?? null,
      url: card.source?.url ?? null,
    })
  }
  return rows.sort((a, b) => (a.model < b.model ? -1 : 1))
}

const bytesOf = (path: string): Promise<number | null> =>
  stat(path).then(
    ({ size }) => size,
    () => null,
  )
