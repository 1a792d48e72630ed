import { mkdir, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import type { Command } from 'commander'
import { asBlockscaleError, BlockscaleError } from '../../base/index.ts'
import { openSession } from '../../engine/index.ts'
import { type Answer, type AnswerJson, answerJson, answerPicture, drawAnswer, openDataset } from '../../tasks/index.ts'
import { decodePicture, type Picture } from '../../tensor/index.ts'
import { withExamples, withJson, withZoo } from '../options.ts'
import type { Shell } from '../shell.ts'
import { openSubject, type Subject, withForm } from '../subject.ts'
import { figure } from '../table.ts'
import { writeOut } from '../write-out.ts'

interface RunFlags {
  readonly zoo: string
  readonly json?: true
  readonly plan?: string
  readonly choose?: string
  readonly draw?: string
}

/** `blockscale run` */
export function addRun(program: Command, shell: Shell): void {
  const command = program
    .command('run')
    .description('what a model says about pictures')
    .argument('<model>', 'a built model; the original of one that is only installed, or a bare .onnx')
    .argument('<images...>', 'pictures, or folders of pictures')
    .option('--draw <png>', 'the picture with the answer on it; for several pictures a folder')
    .action(async (name: string, images: string[], options: RunFlags) => {
      const subject = await openSubject(name, options)
      const paths = await expand(images, subject)
      const target = await drawTo(options.draw, paths)
      const answers: object[] = []
      const session = await openSession(subject.variant ?? subject.original)
      try {
        for (const path of paths) {
          try {
            const picture = await decodePicture(path)
            const started = performance.now()
            const answer = await answerPicture(picture, subject.card, (feeds) => session.run(feeds), subject.size)
            const latencyMs = performance.now() - started
            if (target) await writeOut(target(path), await drawAnswer(picture, answer))
            const facts = { picture: path, latencyMs: Number(latencyMs.toFixed(3)) }
            const json = await answerJson(answer)
            if (options.json) answers.push({ ...facts, ...sizeOf(picture, json), ...json })
            else
              shell.line(
                `${shell.style.bold(path)}  ${shell.style.dim(`${figure(latencyMs)} ms`)}\n${inWords(answer, json)}`,
              )
          } catch (error) {
            // One bad picture is told and left out; the others are answered.
            shell.exitCode = 1
            const { code, message, hint } = notFoundOr(error, path)
            if (options.json) shell.errorJson(code, message, hint)
            else shell.error(message, hint)
          }
        }
      } finally {
        await session.release()
      }
      if (options.json) shell.json(answers)
    })
  withExamples(withForm(withJson(withZoo(command))), [
    ['run signs sign.jpg', 'the five best labels'],
    ['run sign-detector street.jpg --draw seen.png', 'with the boxes drawn'],
    ['run signs photos --plan plan.json --json', 'a folder, with a plan, for programs'],
  ])
}

async function expand(images: readonly string[], { card }: Subject): Promise<string[]> {
  const paths: string[] = []
  for (const image of images) {
    const info = await stat(image).catch(() => undefined)
    if (info?.isDirectory()) paths.push(...(await openDataset(image, card)).items.map(({ path }) => path))
    else paths.push(image)
  }
  return paths
}

/** Where the drawing of a picture goes: one file, or a folder for several. */
async function drawTo(
  draw: string | undefined,
  paths: readonly string[],
): Promise<((path: string) => string) | undefined> {
  if (draw === undefined) return undefined
  const isFolder = (await stat(draw).catch(() => undefined))?.isDirectory() ?? false
  if (extname(draw).toLowerCase() === '.png' && !isFolder) {
    if (paths.length === 1) return () => draw
    throw new BlockscaleError(
      'USAGE',
      `--draw: ${draw} is one file, and there are ${paths.length} pictures`,
      'give a folder',
    )
  }
  if (!isFolder && paths.length === 1) {
    throw new BlockscaleError(
      'USAGE',
      `--draw: "${draw}" is no .png`,
      'drawings are PNG files: give a name that ends in .png',
    )
  }
  await mkdir(draw, { recursive: true })
  return (path) => join(draw, `${basename(path, extname(path))}.png`)
}

function notFoundOr(error: unknown, path: string): BlockscaleError {
  const known = asBlockscaleError(error)
  const cause = (known.cause ?? error) as NodeJS.ErrnoException
  return cause?.code === 'ENOENT'
    ? new BlockscaleError('NOT_FOUND', `there is no picture ${path}`, 'check the path')
    : known
}

const sizeOf = ({ width, height }: Picture, json: AnswerJson): object => ('image' in json ? {} : { width, height })

function inWords(answer: Answer, json: AnswerJson): string {
  if ('labels' in json) return lines(json.labels.map(({ label, score }) => `${percent(score)}  ${label}`))
  if ('boxes' in json) {
    if (json.boxes.length === 0) return '  nothing found'
    return lines(json.boxes.map(({ label, score, box }) => `${percent(score)}  ${label}  ${box.join(' ')}`))
  }
  if ('classes' in json) return lines(json.classes.map(({ label, share }) => `${percent(share)}  ${label}`))
  if ('outputs' in json) {
    return lines(
      json.outputs.map(({ name, dims, min, max, mean }) => {
        const range =
          min === undefined ? '' : `  from ${figure(min)} to ${figure(max ?? min)}, mean ${figure(mean ?? min)}`
        return `${name} [${dims.join(', ')}]${range}`
      }),
    )
  }
  return `  ${json.width} × ${json.height} pixels${answer.task === 'super-resolution' ? '; --draw writes them' : ''}`
}

const lines = (texts: readonly string[]): string => texts.map((text) => `  ${text}`).join('\n')
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`.padStart(7)
