import type { Command } from 'commander'
import { formatDuration } from '../../base/index.ts'
import { recipes } from '../../blocks/index.ts'
import { type BuildReport, build } from '../../pipeline/index.ts'
import { openProfiles, thisDevice } from '../../profiles/index.ts'
import { openZoo, type Zoo } from '../../zoo/index.ts'
import { duration, option, someOf, wholeNumber, withExamples, withJson, withZoo } from '../options.ts'
import { rememberPictures } from '../pictures.ts'
import type { Shell } from '../shell.ts'
import { findGiven, naming } from '../subject.ts'
import { figure, tableOf } from '../table.ts'

interface BuildFlags {
  readonly zoo: string
  readonly images?: string
  readonly validation?: string
  readonly blocks?: number
  readonly recipes?: (typeof recipes)[number][]
  readonly jobs?: number
  readonly timeLimit?: number
  readonly json?: true
}

/** `blockscale build` */
export function addBuild(program: Command, shell: Shell): void {
  const command = program
    .command('build')
    .description(
      'the offline stage: cut a model into blocks, make descendants of each, measure them; goes on where it stopped',
    )
    .argument('<model>', 'a model that is installed, a folder with model.json, or a bare .onnx file')
    .option('--images <dir>', 'pictures like those that the model will see; labels are not needed')
    .option('--validation <dir>', 'labelled pictures, so that quality is measured against labels')
    .addOption(
      option('--blocks <n>', 'blocks to cut into; the best trade unless given', (name) => wholeNumber(name, 1, 64)),
    )
    .addOption(
      option('--recipes <list>', `kinds of descendants: ${recipes.join(', ')}; all but the last unless given`, (name) =>
        someOf(name, recipes),
      ),
    )
    .addOption(option('--jobs <n>', 'worker threads; one per core unless given', (name) => wholeNumber(name, 1, 64)))
    .addOption(option('--time-limit <t>', 'make only as many descendants as fit, such as 10m', duration))
    .action(async (model: string, options: BuildFlags) => {
      shell.whenInterrupted = 'what is finished is kept, and the next build of the same model goes on from there'
      const { images, validation, jobs, timeLimit } = options
      const zoo = openZoo(options.zoo)
      const found = await findGiven(model, options.zoo)
      const work = build(zoo, found, {
        images,
        validation,
        blocks: options.blocks,
        recipes: options.recipes,
        jobs,
        timeLimitMs: timeLimit,
        progress: shell.progress,
      })
      const report = await naming(found.file, work)
      await rememberPictures(zoo, report.manifest, { images, validation, folder: found.folder })
      if (options.json) return shell.json(reportJson(zoo, report))
      if (!found.card) guessed(shell, report.notes, model)
      printReport(shell, zoo, report)
    })
  withExamples(withJson(withZoo(command)), [
    ['build sign-detector', 'an installed model that brings its own pictures'],
    ['build signs --images photos --validation labelled', 'a folder with model.json'],
    ['build nets/mine.onnx --images photos --time-limit 10m', 'a bare file: what is guessed is printed'],
  ])
}

function guessed(shell: Shell, notes: readonly string[], model: string): void {
  shell.line(`${model} has no model.json, so this was guessed or found:`)
  for (const note of notes) shell.line(`  ${note}`)
  shell.line(`(\`blockscale init ${model}\` writes a model.json to correct it)\n`)
}

/** What is printed of a finished build. */
export function printReport(shell: Shell, zoo: Zoo, report: BuildReport): void {
  const { manifest, options, metric, quality, pictures, skipped, resumed, ms } = report
  const measured = measuredShares(zoo, report)
  const rows = manifest.blocks.map((block) => {
    const [original, ...others] = block.descendants
    const list = others.map(({ id }) => `${id} ${share(measured.get(`${block.id}/${id}`)?.share)}`)
    return [block.id, measured.get(`${block.id}/${original!.id}`)?.latencyMs, block.descendants.length, list.join(', ')]
  })
  const columns = [{ name: 'block' }, { name: 'original ms', right: true }, { name: 'descendants', right: true }]
  const width = Math.max(40, shell.columns - 40)
  shell.line(tableOf([...columns, { name: 'with time against the original', width }], rows, shell.style))
  shell.line()
  if (manifest.dropped.length > 0) {
    shell.line(`${manifest.dropped.length} were tried and dropped:`)
    for (const [why, names] of byReason(report)) shell.line(`  ${why}: ${names}`)
  }
  const counts = Object.entries(pictures).map(([name, count]) => `${count} ${name}`)
  shell.line(`pictures: ${counts.join(', ')}`)
  if (skipped.length > 0) {
    shell.line(
      `${skipped.length} left out: ${skipped
        .slice(0, 3)
        .map(({ path, why }) => `${path} (${why})`)
        .join('; ')}${skipped.length > 3 ? '; …' : ''}`,
    )
  }
  shell.line(`quality of the original: ${metric} ${figure(quality)}`)
  shell.line(
    `${manifest.model}: ${manifest.blocks.length} blocks, ${shell.style.bold(countOf(options))} models to choose from`,
  )
  const taken = resumed > 0 ? `, ${resumed} descendants taken over from an earlier build` : ''
  shell.line(`built in ${formatDuration(ms)}${taken}; it is in ${zoo.dir}`)
}

interface Measured {
  readonly latencyMs: number
  readonly share: number
}

function measuredShares(zoo: Zoo, { manifest }: BuildReport): ReadonlyMap<string, Measured> {
  const store = openProfiles(zoo.profilesPath, { readOnly: true })
  try {
    const rows = store.measurements({ model: manifest.model, device: thisDevice().key, size: manifest.sizes[0] })
    const originals = new Map(
      manifest.blocks.map(({ id, descendants }) => [
        id,
        rows.find((row) => row.block === id && row.descendant === descendants[0]!.id)?.latencyP50Ms ?? Number.NaN,
      ]),
    )
    return new Map(
      rows.map(({ block, descendant, latencyP50Ms }) => [
        `${block}/${descendant}`,
        { latencyMs: latencyP50Ms, share: latencyP50Ms / originals.get(block)! },
      ]),
    )
  } finally {
    store.close()
  }
}

const share = (value: number | undefined): string => (value === undefined ? '' : `${Math.round(100 * value)} %`)

/** Dropped descendants by reason, the reasons without the names in them. */
function byReason({ manifest }: BuildReport): readonly (readonly [string, string])[] {
  const reasons = new Map<string, string[]>()
  for (const { block, descendant, why } of manifest.dropped) {
    const reason = why
      .replace(/^(it has the same widths as )\S+$/, '$1another')
      .replace(/^\S+( is not slower.*)$/, 'another$1')
    reasons.set(reason, [...(reasons.get(reason) ?? []), `${block}/${descendant}`])
  }
  return [...reasons].map(([why, names]) => {
    const shown = names.slice(0, 8).join(' ')
    return [why, names.length > 8 ? `${shown} and ${names.length - 8} more` : shown] as const
  })
}

const countOf = (options: number): string => (options < 1e6 ? `${options}` : options.toExponential(1))

function reportJson(zoo: Zoo, report: BuildReport) {
  const { manifest, options, metric, quality, pictures, skipped, notes, resumed, ms } = report
  const blocks = manifest.blocks.map(({ id, descendants }) => ({
    block: id,
    descendants: descendants.map(({ id: descendant, kind, file, weightBytes, macs }) => ({
      descendant,
      kind,
      bytes: file.bytes,
      weightBytes,
      macs,
    })),
  }))
  return {
    model: manifest.model,
    zoo: zoo.dir,
    blocks,
    dropped: manifest.dropped,
    options,
    metric,
    quality,
    pictures,
    skipped,
    notes,
    stitchedError: manifest.stitchedError,
    resumed,
    ms,
  }
}
