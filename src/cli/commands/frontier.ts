import type { Command } from 'commander'
import { BlockscaleError, formatBytes } from '../../base/index.ts'
import { openProfiles, predictors, thisDevice } from '../../profiles/index.ts'
import { openZoo } from '../../zoo/index.ts'
import { type FrontierPoint, frontierOf } from '../frontier-points.ts'
import { frontierSvg } from '../frontier-svg.ts'
import { option, wholeNumber, withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'
import { builtManifest } from '../subject.ts'
import { figure, tableOf } from '../table.ts'
import { writeOut } from '../write-out.ts'

/** `blockscale frontier` */
export function addFrontier(program: Command, shell: Shell): void {
  const command = program
    .command('frontier')
    .description('what quality is to be had for which latency and memory, as predicted from the profiles')
    .argument('<model>', 'a built model')
    .option('--svg <file>', 'draw it')
    .addOption(option('--points <n>', 'limits along each axis', (name) => wholeNumber(name, 2, 200)).default(16))
    .action(async (name: string, options: { zoo: string; svg?: string; points: number; json?: true }) => {
      const zoo = openZoo(options.zoo)
      const manifest = await builtManifest(zoo, name)
      const store = openProfiles(zoo.profilesPath, { readOnly: true })
      const sizes = await Promise.resolve(predictors(store, manifest, thisDevice().key)).finally(() => store.close())
      if (sizes.length === 0) {
        const hint = `measure it with \`blockscale profile ${manifest.model}\``
        throw new BlockscaleError('NOT_FOUND', `nothing is measured of ${manifest.model} on this device yet`, hint)
      }
      const frontier = frontierOf(manifest.model, sizes, options.points)
      if (options.svg !== undefined) await writeOut(options.svg, frontierSvg(frontier))
      if (options.json) return shell.json(frontier)
      shell.line(shell.style.dim('quality against latency'))
      shell.line(table(shell, frontier.latency))
      shell.line(`\n${shell.style.dim('quality against memory')}`)
      shell.line(table(shell, frontier.memory))
      const { quality, latencyMs, memoryBytes } = frontier.original
      shell.line(`\nthe original: ${figure(quality)} in ${figure(latencyMs)} ms and ${formatBytes(memoryBytes)}`)
      if (options.svg !== undefined) shell.note(`\n${options.svg} was drawn`)
    })
  withExamples(withJson(withZoo(command)), [
    ['frontier signs', 'as two tables'],
    ['frontier signs --svg frontier.svg', 'and as a drawing'],
  ])
}

const table = (shell: Shell, points: readonly FrontierPoint[]): string =>
  tableOf(
    [
      ...['quality', 'at least', 'ms', 'memory'].map((name) => ({ name, right: true })),
      { name: 'input' },
      { name: 'choices', width: Math.max(40, shell.columns - 55) },
    ],
    points.map(({ quality, qualityLow, latencyMs, memoryBytes, inputSize, choices }) => [
      quality,
      qualityLow,
      latencyMs,
      formatBytes(memoryBytes),
      inputSize.join('×'),
      choices.map(({ block, descendant }) => `${block}=${descendant}`).join(' '),
    ]),
    shell.style,
  )
