import type { Command } from 'commander'
import { formatBytes } from '../../base/index.ts'
import { type ClassQuality, openDataset } from '../../tasks/index.ts'
import { judge } from '../judge.ts'
import { withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'
import { openSubject, withForm } from '../subject.ts'
import { figure, tableOf } from '../table.ts'

interface EvalFlags {
  readonly zoo: string
  readonly json?: true
  readonly images: string
  readonly plan?: string
  readonly choose?: string
}

/** `blockscale eval` */
export function addEval(program: Command, shell: Shell): void {
  const command = program
    .command('eval')
    .description('quality, time and memory of a plan, of any choice, or (with neither) of the original, measured')
    .argument('<model>', 'a built model; the original of one that is only installed, or a bare .onnx')
    .requiredOption('--images <dir>', 'pictures; with labels where there are any')
    .action(async (name: string, options: EvalFlags) => {
      const subject = await openSubject(name, options)
      const { items, labelled, skipped } = await openDataset(options.images, subject.card)
      for (const { path, why } of skipped) shell.note(`left out ${path}: ${why}`)
      const { quality, fidelity, images, latencyMs, memoryBytes } = await judge(
        subject,
        items,
        labelled,
        shell.progress,
      )
      const { model } = subject
      if (options.json) {
        const figures = { quality: quality.value, fidelity: fidelity.value, latencyMs, memoryBytes, images }
        return shell.json({ model, metric: quality.metric, ...figures })
      }
      const details = Object.entries(quality.details ?? {})
      const rows = [
        [quality.metric, figure(quality.value)],
        ...details.map(([metric, value]) => [metric, figure(value)]),
        ...(labelled ? [[`fidelity (${fidelity.metric})`, figure(fidelity.value)]] : []),
        ['time of one picture', `${figure(latencyMs)} ms`],
        ['memory', formatBytes(memoryBytes)],
        ['pictures', `${images}${labelled ? '' : ' without labels: quality is agreement with the original'}`],
      ]
      shell.line(tableOf([{ name: model }, { name: subject.variant ? 'chosen' : 'original' }], rows, shell.style))
      if (!quality.perClass || quality.perClass.length === 0) return
      shell.line()
      const perClass = [...quality.perClass].sort((a, b) => a.value - b.value)
      const confused = perClass.some(({ takenFor }) => takenFor && takenFor.length > 0)
      shell.line(
        tableOf(
          [
            { name: 'class', width: 40 },
            { name: quality.metric, right: true },
            { name: 'count', right: true },
            ...(confused ? [{ name: 'taken for', width: 60 }] : []),
          ],
          perClass
            .slice(0, MOST_CLASSES)
            .map(({ label, value, count, takenFor }) => [
              label,
              value,
              count,
              ...(confused ? [inWords(takenFor)] : []),
            ]),
          shell.style,
        ),
      )
      const more = perClass.length - MOST_CLASSES
      if (more > 0) shell.line(`and ${more} classes that are better`)
    })
  withExamples(withForm(withJson(withZoo(command))), [
    ['eval signs --images labelled', 'the original'],
    ['eval signs --images labelled --plan plan.json', 'a plan'],
    ['eval signs --images labelled --choose b0=int8,b1=int8', 'any choice'],
  ])
}

/** Worst first: what a person looks for. */
const MOST_CLASSES = 30
const MOST_CONFUSIONS = 4

/** `stop ×3, yield` */
function inWords(takenFor: ClassQuality['takenFor'] = []): string {
  const shown = takenFor
    .slice(0, MOST_CONFUSIONS)
    .map(({ label, count }) => `${label.split(',')[0]}${count > 1 ? ` ×${count}` : ''}`)
  return [...shown, ...(takenFor.length > MOST_CONFUSIONS ? ['…'] : [])].join(', ')
}
