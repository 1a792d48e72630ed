import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { BlockscaleError, formatDuration, type ModelId, type Progress, sha256OfFile } from '../../base/index.ts'
import { build } from '../../pipeline/index.ts'
import { checkExposure } from '../../server/index.ts'
import { findModel, listModels, openZoo, type Zoo } from '../../zoo/index.ts'
import { duration, option, withExamples, withJson, withZoo } from '../options.ts'
import { rememberPictures } from '../pictures.ts'
import type { Shell } from '../shell.ts'
import { type ServeFlags, serveZoo, withServing } from './serve.ts'

/** `blockscale start`, which is what `npm start` runs. */
export function addStart(program: Command, shell: Shell): void {
  const command = program
    .command('start')
    .description('prepare the models that ship with the package, where that is not done yet, and serve them')
    .addOption(option('--time-limit <t>', 'for preparing one model', duration).default(20_000, '20s'))
    .action(async (options: ServeFlags & { timeLimit: number }) => {
      checkExposure(options.host, options.token)
      shell.whenInterrupted = 'what is prepared is kept, and the next start goes on from there'
      await serveZoo(shell, options, await prepare(shell, options.zoo, options.timeLimit))
    })
  withExamples(withServing(withJson(withZoo(command)), 'warn'), [
    ['start', 'on http://127.0.0.1:8080; the first time it prepares, with progress'],
    ['start --memory 4MB', 'with a budget that all of them share'],
  ])
}

/** Builds what ships in model-zoo/ and is not built from the same file yet. */
async function prepare(shell: Shell, zooFolder: string, timeLimitMs: number): Promise<string[]> {
  const zoo = openZoo(zooFolder)
  const shipped = (await listModels({ zoo: zooFolder })).filter(({ where }) => where === 'bundled')
  if (shipped.length === 0) {
    throw new BlockscaleError(
      'NOT_FOUND',
      'the package brings no models',
      'build one with `blockscale build` and serve it with `blockscale serve`',
    )
  }
  const started = Date.now()
  let built = 0
  for (const [i, { id }] of shipped.entries()) {
    const found = await findModel(id, { zoo: zooFolder })
    if (await isBuilt(zoo, id, found.file)) continue
    shell.note(`${shell.style.bold(id)}  ${found.card?.title ?? ''}  (${i + 1} of ${shipped.length})`)
    const report = await build(zoo, found, { timeLimitMs, progress: stepsOnly(shell.progress) })
    await rememberPictures(zoo, report.manifest, { folder: found.folder })
    built++
    shell.note(
      `${id}: ${report.options.toExponential(1)} models to choose from, ready after ${formatDuration(report.ms)}`,
    )
  }
  if (built > 0) shell.note(`prepared in ${formatDuration(Date.now() - started)}; the next start is instant`)
  return shipped.map(({ id }) => id)
}

/** A first start is no place for the name of every descendant. */
const stepsOnly = (progress: Progress): Progress => ({
  step: (name, total) => progress.step(name, total),
  advance: (done) => progress.advance(done),
  note() {},
})

async function isBuilt(zoo: Zoo, model: ModelId, file: string): Promise<boolean> {
  if (!(await zoo.models()).includes(model)) return false
  // Notes of a build that did not come to its end: what it wrote is there, what it measured is not.
  if (existsSync(join(zoo.dir, model, 'build.json'))) return false
  const manifest = await zoo.manifest(model).catch((error: unknown) => {
    if (error instanceof BlockscaleError && error.code === 'ZOO_DAMAGED') return undefined
    throw error
  })
  return manifest !== undefined && manifest.source === (await sha256OfFile(file))
}
