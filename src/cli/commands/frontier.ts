import type { Command } from 'commander'
import { BlockscaleError, formatBytes } from '../../base/index.ts'
import { openProfiles, predictors, thisDevice } from '../../profiles/index.ts'
import { type Frontier, type FrontierPoint, frontierOf, type Predicted, thinnedCurve } from '../../runtime/index.ts'
import { openZoo } from '../../zoo/index.ts'
import { frontierSvg } from '../frontier-svg.ts'
import { option, wholeNumber, withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'
import { builtManifest, idOf } from '../subject.ts'
import { figure, tableOf } from '../table.ts'
import { writeOut } from '../write-out.ts'

/** Rows of each table unless asked otherwise. */
const SHOWN = 16

/** `blockscale frontier` */
export function addFrontier(program: Command, shell: Shell): void {
  const command = program
    .command('frontier')
    .description('what quality is to be had for which latency and memory, as predicted from the profiles')
    .argument('<model...>', 'a built model, or several that run side by side')
    .option('--svg <file>', 'draw it')
    .addOption(
      option(
        '--points <n>',
        `points of each curve, at most; ${SHOWN} in the tables and all with --json unless given`,
        (name) => wholeNumber(name, 2, 100_000),
      ),
    )
    .action(async (names: string[], options: { zoo: string; svg?: string; points?: number; json?: true }) => {
      const frontier = await frontierOf(await predictedOf(names, options.zoo))
      if (options.svg !== undefined) await writeOut(options.svg, frontierSvg(frontier))
      if (options.json) return shell.json(dataOf(frontier, options.points ?? Number.POSITIVE_INFINITY))
      const count = options.points ?? SHOWN
      for (const axis of ['latency', 'memory'] as const) {
        const shown = thinnedCurve(frontier[axis], count)
        const rest = shown.length < frontier[axis].length ? ` (${shown.length} points of ${frontier[axis].length})` : ''
        shell.line(`${axis === 'memory' ? '\n' : ''}${shell.style.dim(`quality against ${axis}${rest}`)}`)
        shell.line(table(shell, shown))
      }
      const { quality, latencyMs, memoryBytes } = frontier.original
      const what = frontier.models.length === 1 ? 'the original' : 'the originals'
      shell.line(`\n${what}: ${figure(quality)} in ${figure(latencyMs)} ms and ${formatBytes(memoryBytes)}`)
      if (options.svg !== undefined) shell.note(`\n${options.svg} was drawn`)
    })
  withExamples(withJson(withZoo(command)), [
    ['frontier signs', 'as two tables'],
    ['frontier signs --svg frontier.svg', 'and as a drawing'],
    ['frontier signs sign-detector', 'of two that share a machine: mean quality against latencies or memory together'],
  ])
}

async function predictedOf(names: readonly string[], dir: string): Promise<Predicted[]> {
  const ids = names.map(idOf)
  const twice = ids.find((id, i) => ids.indexOf(id) !== i)
  if (twice !== undefined) throw new BlockscaleError('USAGE', `${twice} is named twice`, 'name each model once')
  const zoo = openZoo(dir)
  const manifests = []
  for (const name of names) manifests.push(await builtManifest(zoo, name))
  const store = openProfiles(zoo.profilesPath, { readOnly: true })
  try {
    return manifests.map((manifest) => {
      const { model } = manifest
      const sizes = predictors(store, manifest, thisDevice().key)
      if (sizes.length > 0) return { model, sizes }
      const hint = `measure it with \`blockscale profile ${model}\``
      throw new BlockscaleError('NOT_FOUND', `nothing is measured of ${model} on this device yet`, hint)
    })
  } finally {
    store.close()
  }
}

/** As `--json` prints it: of one model, without the level of models. */
function dataOf({ models, original, latency, memory, tolerance }: Frontier, count: number): object {
  const [only, ...others] = models
  const shape = (point: FrontierPoint) => {
    if (others.length > 0) return point
    const { model: _, ...part } = point.models[0]!
    return part
  }
  return {
    ...(others.length > 0 ? { models } : { model: only }),
    original: shape(original),
    latency: thinnedCurve(latency, count).map(shape),
    memory: thinnedCurve(memory, count).map(shape),
    tolerance,
  }
}

const table = (shell: Shell, points: readonly FrontierPoint[]): string =>
  tableOf(
    [
      ...['quality', 'at least', 'ms', 'memory'].map((name) => ({ name, right: true })),
      { name: 'input' },
      { name: 'choices', width: Math.max(40, shell.columns - 55) },
    ],
    points.map(({ quality, qualityLow, latencyMs, memoryBytes, models }) => [
      quality,
      qualityLow,
      latencyMs,
      formatBytes(memoryBytes),
      models.map(({ inputSize }) => inputSize.join('×')).join(' '),
      models
        .map(({ model, choices }) => {
          const own = choices.map(({ block, descendant }) => `${block}=${descendant}`).join(' ')
          return models.length === 1 ? own : `${model}: ${own}`
        })
        .join(' · '),
    ]),
    shell.style,
  )
